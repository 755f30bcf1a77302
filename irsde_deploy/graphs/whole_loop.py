"""The whole loop as one ONNX graph: degraded pictures and noise in, restored pictures out, in a single call.

The score graph becomes the body of an ONNX `Loop` that runs once a row of the step table. The table's columns are
initialisers, and so are the weights, inside the body: ONNX Runtime lays out convolutions with weights from outside in
another way than the score graph's. Why not unrolled: docs/whole-loop.md.

Numbers are those of `runtimes.loops.numpy_loop`: float32 operations in the same order, the state at the picture's own
size, padded afresh for each evaluation, eps cropped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..core.card import ModelCard
from ..core.sampling import Plan, Sampling
from ..errors import InvalidValueError
from . import noise_nodes
from .border_nodes import padding, surround
from .writer import GraphWriter


@dataclass(frozen=True, eq=False)
class LoopPlan(Plan):
    """What a whole-loop graph executes.

    Attributes:
        seeded: whether the graph draws its noise itself, from the input `seed`; else it takes the input `noise`.
    """

    seeded: bool = False

    @cached_property
    def draws(self) -> tuple[int, ...]:
        """Which normals are needed, as `core.noise` numbers them: 0 for the initial state, k for step k."""
        start = (0,) if self.table.start else ()
        return (*start, *(int(k) + 1 for k in np.flatnonzero(self.table.s)))

    @property
    def noise_input(self) -> str | None:
        """The graph's second input: `noise`, `seed`, or None where nothing is drawn."""
        return None if not self.draws else "seed" if self.seeded else "noise"

    def to_json(self) -> str:
        """For the graph's metadata."""
        columns = {name: getattr(self.table, name).tolist() for name in ("t", "a", "c", "d", "s", "p", "r")}
        return json.dumps(
            {
                "sampler": self.sampler,
                "steps": len(self.table),
                "debias": self.debias,
                "clip": self.clip,
                "noise_input": self.noise_input,
                "draws": list(self.draws),
                "start": self.table.start,
                "table": columns,
            },
            separators=(",", ":"),
            allow_nan=False,
        )


def plan_loop(card: ModelCard, sampling: Sampling | None = None, seeded: bool = False) -> LoopPlan:
    """The plan of a whole loop for these settings; what they leave open comes from the card.

    Raises:
        InvalidValueError: settings that do not fit each other or the model.
    """
    plan = card.plan(sampling)
    return LoopPlan(plan.table, plan.sampler, plan.clip, plan.debias, seeded)


def require_opset(plan: LoopPlan, opset: int) -> None:
    """Raise InvalidValueError where a graph of this opset cannot draw the noise that the plan wants drawn."""
    if plan.noise_input == "seed" and opset < noise_nodes.OPSET:
        raise InvalidValueError(f"a seed as the noise input needs opset {noise_nodes.OPSET}: this graph has {opset}")


def whole_loop(model: onnx.ModelProto, card: ModelCard, plan: LoopPlan) -> onnx.ModelProto:
    """The graph lq, noise -> restored, or lq, seed -> restored; without a card yet.

    Args:
        model: the score graph (x, mu, t) -> eps, or (x, t) -> eps, in any precision; its card.
        plan: what to execute.

    Raises:
        InvalidValueError: a seed in an opset below 18.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    require_opset(plan, opset)
    w = GraphWriter("irsde_loop")
    around = surround(w, "lq", card.margin)
    height = w("Shape", around, start=2, end=3)
    width = w("Shape", around, start=3, end=4)
    body = _Body(w, model.graph, card, plan, around, height, width)
    _write_loop(w, body, _noise(w, plan, card, height, width))
    inputs = [_pictures("lq", card)]
    if plan.noise_input == "noise":
        inputs.append(_states("noise", card, len(plan.draws)))
    if plan.noise_input == "seed":
        inputs.append(helper.make_tensor_value_info("seed", TensorProto.UINT64, [1]))
    outputs = [_pictures("restored", card)]
    graph = helper.make_graph(w.nodes, "whole_loop", inputs, outputs, list(w.constants.values()))
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _pictures(name: str, card: ModelCard, *leading: int) -> onnx.ValueInfoProto:
    """An input or output (..., batch, C, height, width)."""
    sides: list[str | int | None] = [*leading, "batch", card.channels, "height", "width"]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)


def _states(name: str, card: ModelCard, *leading: int) -> onnx.ValueInfoProto:
    """What is of the size of the state: that of the picture, or with a margin another."""
    if not card.margin:
        return _pictures(name, card, *leading)
    sides: list[str | int | None] = [*leading, "batch", card.channels, "height_with_margin", "width_with_margin"]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)


def _noise(w: GraphWriter, plan: LoopPlan, card: ModelCard, height: str, width: str) -> str:
    """Name of the normals (K, B or 1, C, H, W); nothing reads it where K is 0."""
    if plan.noise_input != "seed":
        return "noise"
    return noise_nodes.write_normals(w, "seed", plan.draws, card.channels, height, width)


def _write_loop(w: GraphWriter, body: _Body, noise: str) -> None:
    """Initial state, Loop, lq + y without the margin."""
    table, shape = body.plan.table, w("Shape", body.lq)
    if table.start:
        first = w("Gather", noise, w.constant(0, np.int64), axis=0)
        y = w("Mul", first, w.constant(table.start, np.float32))
    else:
        y = w.constant(0, np.float32)
    state = [w("Expand", y, shape)]
    if body.remembers:
        state.append(w("Expand", w.constant(0, np.float32), shape))
    graph = body.graph(noise)
    names = ["irsde_loop/y", "irsde_loop/q"][: len(state)]
    given = [w.constant(len(table), np.int64), w.constant(True, np.bool_), *state]
    w.nodes.append(helper.make_node("Loop", given, names, "irsde_loop/steps", body=graph))
    margin = body.margin
    if not margin:
        w("Add", body.lq, names[0], output="restored")
        return
    whole = w("Add", body.lq, names[0])
    w("Slice", whole, w.integers(margin, margin), w.integers(-margin, -margin), w.integers(2, 3), output="restored")


class _Body:
    """One reverse step as the body of a Loop: number of the step, y and where it is read q_prev -> y and q.

    What does not change from step to step (the padded mu, the bounds of the clip) is written outside of the body.

    Attributes:
        plan: what is executed. remembers: whether a step reads the q of the step before.
        lq: name of the degraded pictures with the margin, whose sides `height` and `width` are. margin: the card's.
    """

    def __init__(
        self, w: GraphWriter, score: onnx.GraphProto, card: ModelCard, plan: LoopPlan, lq: str, height: str, width: str
    ) -> None:
        self.plan, self._w, self._score, self._card = plan, w, score, card
        self.lq, self.margin = lq, card.margin
        self.remembers = bool(np.any(plan.table.d))
        self._pad, self._crop = padding(w, card, height, width)
        self._batch = w("Shape", lq, start=0, end=1)
        self._mu = self._pad(lq) if card.conditional else ""
        if plan.clip:
            self._bounds = w("Neg", lq), w("Sub", w.constant(1, np.float32), lq)

    def graph(self, noise: str) -> onnx.GraphProto:
        """The body; what it reads beside its inputs is outside it."""
        w, outside = self._w, len(self._w.nodes)
        y, q = self._step("y", noise)
        proceed = w("Identity", "proceed")
        nodes = w.nodes[outside:]
        del w.nodes[outside:]
        inputs = [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("proceed", TensorProto.BOOL, []),
            _states("y", self._card),
        ]
        outputs = [helper.make_tensor_value_info(proceed, TensorProto.BOOL, []), _states(y, self._card)]
        if self.remembers:
            inputs.append(_states("q_prev", self._card))
            outputs.append(_states(q, self._card))
        return helper.make_graph(nodes, "step", inputs, outputs, list(self._score.initializer))

    def _step(self, y: str, noise: str) -> tuple[str, str]:
        """`runtimes.loops.numpy_loop.states`, one turn of it -> y', q; terms that no step has are left out."""
        w, table = self._w, self.plan.table
        eps = self._evaluate(y)
        q = ""
        if self.remembers or self.plan.clip:
            q = w("Add", w("Mul", self._coefficient(table.p), y), w("Mul", self._coefficient(table.r), eps))
        if self.plan.clip:
            q = w("Min", w("Max", q, self._bounds[0]), self._bounds[1])
            terms = [(table.a_clip, y), (table.k, q)]
        else:
            terms = [(table.a, y), (table.c, eps)]
        if self.remembers:
            terms.append((table.d, "q_prev"))
        if table.stochastic:
            terms.append((table.s, w("Gather", noise, self._row(self._places(), np.int64), axis=0)))
        products = [w("Mul", self._coefficient(column), name) for column, name in terms]
        following = products[0]
        for product in products[1:]:
            following = w("Add", following, product)
        return following, q

    def _evaluate(self, y: str) -> str:
        """The score network on the padded state -> eps of the picture's own size."""
        w = self._w
        timesteps = w("Expand", self._coefficient(self.plan.table.t), self._batch)
        inputs = {"x": self._pad(w("Add", y, self.lq)), "mu": self._mu, "t": timesteps}
        return self._crop(w.embed(self._score, inputs, "irsde_step/")["eps"])

    def _coefficient(self, column: Any) -> str:
        """The step's own value of a column of the table, float32."""
        return self._row(column, np.float32)

    def _row(self, column: Any, dtype: Any) -> str:
        """The step's own value of a column, a scalar."""
        return self._w("Gather", self._w.constant(column, dtype), "step", axis=0)

    def _places(self) -> list[int]:
        """Where in the noise each step's normals are; 0 for steps that multiply them by 0."""
        places = [0] * len(self.plan.table)
        for place, k in enumerate(self.plan.draws):
            if k > 0:  # 0 is the initial state's
                places[k - 1] = place
        return places
