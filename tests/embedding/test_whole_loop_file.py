"""What a whole loop is compared with before it is kept, and what becomes of its metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from irsde_deploy.core.comparison import HALF_TOLERANCE, Comparison
from irsde_deploy.core.sampling import Sampling
from irsde_deploy.embedding import whole_loop_file
from irsde_deploy.embedding.whole_loop_file import TOLERANCE, compare_with_loop, export_whole_loop
from irsde_deploy.errors import NotFiniteError, ParityError
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.graphs.whole_loop import plan_loop
from irsde_deploy.runtimes.loops.numpy_loop import restore

Spoil = Callable[[np.ndarray], np.ndarray]


class Answers:
    """A session that answers what the NumPy loop does, and what is changed of it."""

    def __init__(self, model: onnx.ModelProto, card: Any, plan: Any, spoil: Spoil = lambda picture: picture) -> None:
        self.engine = whole_loop_file.OnnxEngine.from_bytes(model.SerializeToString(), card)
        self.plan, self.spoil = plan, spoil
        self.inputs: list[dict[str, np.ndarray]] = []

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.inputs.append(inputs)
        fields = dict(zip(self.plan.draws, inputs["noise"], strict=True))
        return [self.spoil(restore(self.engine, inputs["lq"], self.plan.table, fields.get, self.plan.clip))]


def test_a_single_picture_and_a_batch_are_compared_with_their_margin(small_onnx: Path) -> None:
    model, card = read_model(small_onnx)
    card = replace(card, margin=8)
    plan = plan_loop(card, Sampling(sampler="sde-2m", steps=3))
    session = Answers(model, card, plan)
    found = list(compare_with_loop(session, model, card, plan))
    assert [comparison.case for comparison in found] == ["restored 1x3x7x5, 3 steps", "restored 2x3x1x4, 3 steps"]
    assert [comparison.tolerance for comparison in found] == [TOLERANCE] * 2
    assert [comparison.max_abs for comparison in found] == [0, 0]
    assert [inputs["noise"].shape for inputs in session.inputs] == [(3, 1, 3, 23, 21), (3, 2, 3, 17, 20)]
    half = replace(card, precision="fp16")
    assert next(compare_with_loop(session, model, half, plan)).tolerance == HALF_TOLERANCE
    spoilt = Answers(model, card, plan, lambda picture: picture[:1].repeat(len(picture), axis=0))
    assert [comparison.passed for comparison in compare_with_loop(spoilt, model, card, plan)] == [True, False]


def test_a_loop_that_differs_is_not_kept_and_the_worst_is_named(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, card = read_model(small_onnx)
    plan = plan_loop(card, Sampling(sampler="mean", steps=2))
    told: list[Comparison] = []
    session = Answers(model, card, plan, lambda picture: picture * np.float32(1 if len(picture) == 1 else 1.0001))
    with monkeypatch.context() as patch:
        patch.setattr(whole_loop_file, "open_session", lambda path: session)
        with pytest.raises(ParityError, match="restored 2x3x1x4, 2 steps is off by 0.0001 of the largest"):
            export_whole_loop(model, card, plan, tmp_path / "a.onnx", told.append)
    assert [comparison.passed for comparison in told] == [True, False]
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_the_score_graph_are_kept(small_onnx: Path, tmp_path: Path) -> None:
    model, card = read_model(small_onnx)
    entry = model.metadata_props.add()
    entry.key, entry.value = "author", "somebody"
    export_whole_loop(model, card, plan_loop(card, Sampling(sampler="mean", steps=2)), tmp_path / "a.onnx")
    held = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert held["author"] == "somebody"
    assert {"irsde_card", "irsde_loop"} <= held.keys() or len(held) >= 3


def test_a_loop_that_diverges_is_compared_with_nothing(small_onnx: Path) -> None:
    model, card = read_model(small_onnx)
    plan = plan_loop(card, Sampling(sampler="mean", steps=2))
    table = replace(plan.table, c=np.array([1.0, 3e6]))
    with pytest.raises(NotFiniteError, match="the loop itself diverges on these weights"):
        next(compare_with_loop(None, model, card, replace(plan, table=table)))
