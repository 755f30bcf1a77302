"""The part of a file that is kept, on the source's clock."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Cut:
    """What of a file is kept, in seconds of the source's clock.

    Attributes:
        begin: what is before is left out, and what is here comes to 0; None: nothing is left out there, nor moved.
        end: what is from here on is left out; None: nothing is.
    """

    begin: Fraction | None = None
    end: Fraction | None = None

    def has(self, start: Fraction, stop: Fraction) -> bool:
        """Whether something from `start` to `stop` lies in it, at least in part."""
        return (self.end is None or start < self.end) and (self.begin is None or stop > self.begin)

    def has_instant(self, time: Fraction) -> bool:
        """Whether a time lies in it."""
        return (self.end is None or time < self.end) and (self.begin is None or time >= self.begin)

    def clipped(self, start: Fraction, stop: Fraction) -> tuple[Fraction, Fraction]:
        """The part of `start` to `stop` that lies in it, moved."""
        if self.begin is not None:
            start = max(start, self.begin)
        if self.end is not None:
            stop = min(stop, self.end)
        return start - self.shift, stop - self.shift

    @property
    def shift(self) -> Fraction:
        """By how much everything is moved towards 0."""
        return self.begin or Fraction(0)

    def units(self, unit: Fraction) -> int:
        """The same in units of a time base."""
        return round(self.shift / unit)
