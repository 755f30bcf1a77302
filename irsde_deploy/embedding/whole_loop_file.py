"""A whole loop as one ONNX file: made of a score graph, and kept only if one call of it equals the loop around that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..core.arrays import Float32
from ..core.card import ModelCard
from ..core.comparison import DIVERGED, HALF_TOLERANCE, Comparison, compare, worst_of
from ..core.example import SEED, example_picture, normals
from ..core.margin import surrounded
from ..core.noise import NoiseSource, seeded_noise
from ..errors import EngineError, IrsdeError, NotFiniteError, ParityError, reason
from ..graphs.metadata import LOOP_KEY
from ..graphs.onnx_file import set_metadata, write_model
from ..graphs.whole_loop import LoopPlan, whole_loop
from ..runtimes.engines.onnx_engine import OnnxEngine
from ..runtimes.engines.onnx_session import open_session
from ..runtimes.loops.numpy_loop import restore
from ..system.files import write_atomically

TOLERANCE = 1e-5
"""How far both may be apart, relative to the largest value. ONNX Runtime is given the same float32 operations in the
same order, which are bit for bit the same unless it fuses or lays out one of the two in another way."""

CASES: tuple[tuple[int, Callable[[int], tuple[int, int]]], ...] = (
    (1, lambda m: (2 * m - 1, max(1, 2 * m - 3))),  # both sides must be padded
    (2, lambda m: (max(1, m // 4), m)),  # a batch; its height is too short to be padded by reflection
)
"""What is compared: a batch, and a function from the card's `multiple_of` to height and width."""


def export_whole_loop(
    model: onnx.ModelProto,
    card: ModelCard,
    plan: LoopPlan,
    path: Path,
    on_comparison: Callable[[Comparison], None] | None = None,
) -> None:
    """Write `path`, a whole-loop graph that has been proven equal to the NumPy loop around the score graph.

    Args:
        model, card: the score graph and its card.
        plan: what the loop does, from `plan_loop`.
        path: the file; one that is there is replaced, and stays as it is when anything fails.
        on_comparison: called with each comparison as it is made, passed or not.

    Raises:
        ParityError: the two disagree.
        NotFiniteError: the loop itself diverges on these weights.
        MissingPackageError: ONNX Runtime is not installed.
    """
    with write_atomically(path) as temporary:
        try:
            graph = whole_loop(model, card, plan)
        except IrsdeError:
            raise
        except Exception as error:  # a graph that is valid, and nothing like a score network's
            raise EngineError(f"{path}: no loop can be made around this graph ({reason(error)})") from None
        graph.metadata_props.extend(model.metadata_props)  # before ours, which replace what they hold of the same name
        set_metadata(graph, LOOP_KEY, plan.to_json())
        write_model(graph, card, temporary)
        comparisons: list[Comparison] = []
        for comparison in compare_with_loop(open_session(temporary), model, card, plan):
            comparisons.append(comparison)
            if on_comparison is not None:
                on_comparison(comparison)
        worst = worst_of(comparisons)
        if not worst.passed:
            raise ParityError(
                f"the whole loop differs from the loop in NumPy: {worst.case} is off by {worst.relative:.2g} of the "
                f"largest value, and {worst.tolerance:.0e} is allowed"
            )


def compare_with_loop(session: Any, model: onnx.ModelProto, card: ModelCard, plan: LoopPlan) -> Iterator[Comparison]:
    """Compare calls of a whole-loop session with `numpy_loop.restore`.

    Args:
        session: ONNX Runtime's, of the whole loop.
        model, card: the score graph that the loop was made of, and its card.
        plan: what the loop does.

    Yields:
        A comparison of the restored pictures for each of `CASES`.

    Raises:
        NotFiniteError: the loop itself diverges on these weights.
        EngineError: ONNX Runtime fails.
    """
    engine = OnnxEngine.from_bytes(model.SerializeToString(), card)
    tolerance = TOLERANCE
    if card.precision != "fp32":  # where the last bit of float32 may round to another value
        tolerance = HALF_TOLERANCE
    for batch, sides in CASES:
        lq = example_picture(card, batch, *sides(card.multiple_of))
        second, noise = example_noise(card, plan, lq)
        expected = restore(engine, lq, plan.table, noise, plan.clip)
        largest = float(np.abs(expected).max())
        if not largest < DIVERGED:  # NaN is not below anything either
            raise NotFiniteError(
                f"the loop itself diverges on these weights (values of {largest:.1e}), so "
                "that nothing can be compared with it: are they trained?"
            )
        case = f"restored {'x'.join(map(str, lq.shape))}, {len(plan.table)} steps"
        yield compare(case, run_whole_loop(session, {"lq": lq, **second}), expected, tolerance)


def example_noise(card: ModelCard, plan: LoopPlan, lq: Float32) -> tuple[dict[str, Any], NoiseSource]:
    """Make the same noise for a whole-loop graph and for the loop.

    Args:
        card: the model's card.
        plan: says whether the graph takes a seed or noise, and which fields of noise it draws on.
        lq: the degraded pictures (B, C, H, W).

    Returns:
        The inputs that the graph takes beside lq, by name, and the source that the loop takes.
    """
    batch, channels, *_ = lq.shape
    height, width = surrounded(lq.shape[2], lq.shape[3], card.margin)
    if plan.noise_input == "seed":
        return {"seed": np.array([SEED], np.uint64)}, seeded_noise(SEED, (batch, channels, height, width))
    fields = normals(card, len(plan.table) + 1, batch, height, width)
    inputs = {}
    if plan.draws:  # a graph that draws nothing has no input for it
        inputs["noise"] = fields[list(plan.draws)]
    return inputs, lambda k: fields[k]


def run_whole_loop(session: Any, inputs: dict[str, Any]) -> Float32:
    """Call a whole-loop session once.

    Args:
        session: ONNX Runtime's.
        inputs: by name; `lq` is (B, C, H, W) float32.

    Returns:
        The restored pictures, of the shape of `lq`.

    Raises:
        EngineError: ONNX Runtime fails.
    """
    try:
        (restored,) = session.run(["restored"], inputs)
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        shape = inputs["lq"].shape
        raise EngineError(f"ONNX Runtime failed on the whole loop at input size {shape}: {reason(error)}") from error
    return restored  # type: ignore[no-any-return]
