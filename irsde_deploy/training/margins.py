"""Which margin a network needs: the error of the outermost pixels against the interior's, measured at validation.

A network that was trained for a short time goes wrong at the picture's border, where zero padding is not what it saw
inside, and a sampler with few evaluations multiplies that (docs/mathematics.md). A margin moves the border away from
the picture, and costs time; so it is chosen by what it mends, the cheapest that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

CANDIDATES = (0, 8, 16, 32)
"""Margins in pixels, the cheapest first."""

COLUMNS = ("margin", "ring", "interior", *(f"ring_{margin}" for margin in CANDIDATES))
"""What the log has of it."""

AS_GOOD = 1.1
"""What the ring's error may be, as a multiple of the interior's, to count as good as that."""

NO_BETTER = 1.05
"""What it may be as a multiple of the least that any candidate reaches, where none is as good as the interior."""


@dataclass(frozen=True)
class MarginError:
    """What a margin leaves at the border, over all validated pictures.

    Attributes:
        margin: in pixels.
        ring: mean absolute error of the outermost pixels, of 255.
        interior: that of what they surround.
    """

    margin: int
    ring: float
    interior: float

    @property
    def as_good(self) -> bool:
        """Whether the ring is about as good as the interior."""
        return self.ring <= AS_GOOD * self.interior

    def __str__(self) -> str:
        return f"margin {self.margin}: ring {self.ring:.1f}, interior {self.interior:.1f}"


def measured_until_good(
    measure: Callable[[int], MarginError | None], candidates: Sequence[int] = CANDIDATES
) -> list[MarginError] | None:
    """Measure margins, the cheapest first, until one makes the ring as good as the interior.

    Args:
        measure: margin -> its error; None where it was asked to stop.
        candidates: in the order in which they are measured.

    Returns:
        What was measured; None where `measure` gave none.
    """
    found: list[MarginError] = []
    for margin in candidates:
        error = measure(margin)
        if error is None:
            return None
        found.append(error)
        if error.as_good:
            break
    return found


def cheapest_sufficient(errors: Sequence[MarginError]) -> MarginError:
    """The smallest margin that is enough: as good as the interior, else no worse than the best of all."""
    least = min(error.ring for error in errors)
    for error in sorted(errors, key=lambda error: error.margin):
        if error.as_good or error.ring <= NO_BETTER * least:
            return error
    raise AssertionError("the least error is no worse than itself")  # but for NaN, which no validation gives


@dataclass(frozen=True)
class Margins:
    """What was measured at a validation, and the margin that the model's card gets for it.

    Attributes:
        errors: of each margin that was measured.
        chosen: the one that was taken.
    """

    errors: Sequence[MarginError]
    chosen: MarginError

    @classmethod
    def of(cls, errors: Sequence[MarginError]) -> Margins:
        """Choose among what was measured."""
        return cls(errors, cheapest_sufficient(errors))

    @property
    def columns(self) -> dict[str, float]:
        """For the log: the chosen margin with its errors, and the ring's of every candidate that was measured."""
        chosen = self.chosen
        tried = {f"ring_{e.margin}": e.ring for e in self.errors if e.margin in CANDIDATES}
        return {"margin": chosen.margin, "ring": chosen.ring, "interior": chosen.interior, **tried}

    def __str__(self) -> str:
        measured = "; ".join(map(str, self.errors))
        return f"mean error of 255 at the border: {measured}: margin {self.chosen.margin}"
