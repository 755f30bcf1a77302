"""Ranges of activations: against NumPy on everything at once, and against second implementations."""

from __future__ import annotations

from collections import Counter
from itertools import count, islice, repeat
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from forward_states import forward_marginals
from onnx.reference import ReferenceEvaluator
from small_quantisable import small_quantisable

from irsde_deploy.calibration.layers import quantisable
from irsde_deploy.calibration.ranges import BINS, METHODS, Magnitudes, Statistics, _round, collect, timestep_groups
from irsde_deploy.calibration.recorder import Recorder
from irsde_deploy.calibration.states import PictureSource, exact_states
from irsde_deploy.errors import EngineError


def seen(*arrays: np.ndarray) -> Magnitudes:
    found = Magnitudes()
    for array in arrays:
        found.add(array.astype(np.float32))
    return found


def heavy(seed: int = 0, count: int = 200_000) -> np.ndarray:
    """Values with long tails, as activations have them."""
    return np.random.default_rng(seed).laplace(size=count).astype(np.float32) ** 3


def test_the_table_is_numpys_on_onnxs_own_interpreter() -> None:
    model, card = small_quantisable()
    tensors = [name for layer in quantisable(model, residuals=True) for name in layer.inputs]
    assert tensors == ["h1", "h3", "h1", "h4", "h6"]
    rng = np.random.default_rng(1)
    planes = rng.random((3, 20, 24), dtype=np.float32), rng.normal(0, 0.1, (3, 20, 24)).astype(np.float32)
    states = list(
        islice(
            exact_states(
                [PictureSource("a", (20, 24), lambda: planes)], card, forward_marginals(card.sde, (90, 30)), 0, 16
            ),
            6,
        )
    )
    recorder, statistics = Recorder(model, tensors), Statistics(timestep_groups((90, 30)))
    for state in states:
        statistics.add(recorder(state), state.t)
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    for name in dict.fromkeys(tensors):
        shown.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    interpreter = ReferenceEvaluator(shown)
    for name in dict.fromkeys(tensors):
        feeds = [{"x": s.x, "mu": s.mu, "t": np.array([s.t], np.float32)} for s in states]
        values = np.stack([interpreter.run([name], feed)[0] for feed in feeds])
        bounds = statistics.bounds()[name]
        np.testing.assert_allclose(bounds, [values.min(), values.max()], rtol=1e-5, atol=1e-6)
        assert statistics.ranges("minmax")[name] == pytest.approx(np.abs(values).max(), rel=1e-5)
        for group, t in enumerate((90, 30)):
            mine, found = values[[s.t == t for s in states]], statistics.of[name, group]
            assert found.largest == pytest.approx(np.abs(mine).max(), rel=1e-5)
            assert found.counts.sum() == mine.size


def test_the_histogram_is_numpys_whatever_the_order() -> None:
    parts = [heavy(0, 1000) * 0.01, heavy(1, 1000), heavy(2, 1000) * 0.1, np.zeros(10, np.float32)]
    forward, backward = seen(*parts), seen(*reversed(parts))
    expected, _ = np.histogram(np.abs(np.concatenate(parts)), BINS, (0, forward.limit))
    np.testing.assert_array_equal(forward.counts, expected)
    np.testing.assert_array_equal(backward.counts, expected)
    assert forward.limit == backward.limit
    assert forward.limit / 2 <= forward.largest < forward.limit


def test_minmax_and_percentile_are_numpys() -> None:
    values = heavy()
    assert METHODS["minmax"](seen(values)) == np.abs(values).max()
    found = seen(values)
    expected = np.percentile(np.abs(values), 99.99)
    assert expected <= METHODS["percentile"](found) <= expected + 1.01 * found.limit / BINS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[1.0], [0.75, 0.75], [-3.1, 0.4, 2.9], [5e-9, -4e-9]])
def test_no_range_is_wider_than_what_was_seen(method: str, values: list[float]) -> None:
    """A power of two is the least magnitude of its histogram."""
    found = seen(np.array(values, np.float32))
    assert 0 < METHODS[method](found) <= found.largest == float(np.abs(np.float32(values)).max())


@pytest.mark.parametrize("power", [1, 3])
def test_mse_is_the_best_of_a_fine_search_on_the_values_themselves(power: int) -> None:
    values = np.abs(np.random.default_rng(5).laplace(size=100_000)).astype(np.float32) ** power

    def error(top: float) -> float:
        step = top / 127
        return float(np.mean((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2))

    chosen = METHODS["mse"](seen(values))
    best = min(error(top) for top in np.linspace(values.max() / 40, values.max(), 400))
    assert error(chosen) < 1.01 * best
    assert error(chosen) < 0.95 * error(float(values.max()))


def test_entropy_is_near_onnxruntimes() -> None:
    """Its quantiser has the same calibrator over signed values, in coarser steps: they agree to some per cent."""
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    values = np.append(np.random.default_rng(2).normal(size=50_000), 12).astype(np.float32)
    values = np.concatenate([values, -values])
    collector = calibrate.HistogramCollector("entropy", True, 2048, 128, 99.99, "same")
    histogram, edges = np.histogram(values, 4096, (-12, 12))
    _, theirs = collector.get_entropy_threshold((histogram, edges, np.float32(-12), np.float32(12), 12), 128)
    mine = METHODS["entropy"](seen(values))
    assert 3 < mine < 6, "the outlier is left out"
    two = np.concatenate([np.linspace(0, 1, 2000), np.full(1000, 16)])
    assert METHODS["entropy"](seen(two)) == 16, "what is saturated counts, and so much of it is not cut off"
    assert mine == pytest.approx(float(theirs), rel=0.1)


def test_doubling_ends_where_ranges_hold_still() -> None:
    """A range that grows by 1/n: from n to 2n states by 1/(4n - 2), 1.6 % to 32 and 0.8 % to 64."""
    numbers = count(1)

    def record(state: object) -> dict[str, np.ndarray]:
        return {"a": np.array([2 - 1 / next(numbers)], np.float32)}

    states = repeat(SimpleNamespace(t=5))
    statistics, rounds = collect(record, states, {5: 0}, "minmax", 8, 4096)
    assert [r.states for r in rounds] == [8, 16, 32, 64]
    assert statistics.states == 64
    before, now = 2 - 1 / 32, 2 - 1 / 64
    assert rounds[-1].median == pytest.approx(now / before - 1, rel=1e-4)
    assert rounds[-1].converged
    assert rounds[-2].median == pytest.approx(1 / 62, rel=1e-4)
    assert not rounds[-2].converged
    grown = count(1)
    for most, last in ((20, 16), (31, 16), (32, 32)):
        _, short = collect(lambda _: {"a": np.array([next(grown) ** 9], np.float32)}, states, {5: 0}, "minmax", 8, most)
        assert short[-1].states == last


@pytest.mark.parametrize(
    ("moved", "converged"),
    [((0.0, 0.0, 0.05), True), ((0.0, 0.0, 0.2), False), ((0.0, 0.0, -0.2), False), ((-0.05, -0.05, 0.0), False)],
)
def test_ranges_have_converged_where_none_moves_much_and_most_hardly_do(
    moved: tuple[float, ...], converged: bool
) -> None:
    """Ranges may shrink, too: those by the square error do where more is seen of what is common."""
    before = dict.fromkeys("abc", 2.0)
    now = {name: 2 * (1 + share) for name, share in zip("abc", moved, strict=True)}
    assert _round(16, before, now).converged == converged


def test_a_tensor_that_is_not_finite_is_named() -> None:
    statistics = Statistics({7: 0})
    with pytest.raises(EngineError, match="tensor a is not finite on state 1"):
        statistics.add({"a": np.array([1, np.nan], np.float32)}, 7)


def test_timesteps_are_grouped_with_their_neighbours() -> None:
    assert timestep_groups((100, 69, 41, 16)) == {100: 0, 69: 1, 41: 2, 16: 3}
    groups = timestep_groups(range(100, 0, -1))
    assert list(groups.values()) == sorted(groups.values())
    assert set(Counter(groups.values()).values()) == {12, 13}
    assert len(set(groups.values())) == 8


@pytest.mark.parametrize("method", METHODS)
def test_the_range_is_that_of_the_widest_group(method: str) -> None:
    """Few states with wide values count as much as many with narrow ones, which would have them cut off."""
    wide, narrow = heavy(0, 20_000), 0.05 * heavy(1, 20_000)
    statistics = Statistics({60: 0, 20: 1})
    for values, t in ((wide, 20), *[(narrow, 60)] * 50):
        statistics.add({"a": values, "b": np.zeros(5, np.float32)}, t)
    assert statistics.ranges(method) == {"a": METHODS[method](seen(wide)), "b": 1.0}
    if method == "percentile":
        assert METHODS[method](seen(wide, *[narrow] * 50)) < 0.5 * METHODS[method](seen(wide))
