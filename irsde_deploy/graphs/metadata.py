"""What a graph's metadata hold, and what a score network's inputs and outputs must be; without the package onnx."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..core.card import ModelCard
from ..errors import EngineError
from ..system.decoding import inside

LOOP_KEY = "irsde_loop"
"""Metadata property of a whole-loop graph: JSON of what it executes (`graphs.whole_loop`)."""

INT8_KEY = "irsde_int8"
"""Metadata property of a quantised graph: JSON of how it was made (`calibration.problem`)."""

Tensor = tuple[str, bool, Sequence[Any]]
"""An input or output of a graph: its name, whether it is float32, its shape."""


def parse_card(text: str | None, path: Path) -> ModelCard | None:
    """The model card that a graph's metadata holds, if it does; EngineError where it cannot be read."""
    if text is None:
        return None
    with inside(path, EngineError):
        return ModelCard.from_json(text)


def checked_card(card: ModelCard | None, tensors: Sequence[Tensor], path: Path) -> ModelCard:
    """The card, if there is one and the graph is (x, mu, t) -> eps, or (x, t) -> eps, float32, with its channels.

    Args:
        card: the graph's own, or else one that was given.
        tensors: of each input and output of the graph its name, whether it is float32, and its shape.
        path: of the graph.

    Raises:
        EngineError: no card at all, or another graph.
    """
    refuse_whole_loop([name for name, _, _ in tensors], path)
    if card is None:
        raise EngineError(f"{path}: there is no model card inside: make it with 'irsde-deploy export'")
    if not _fits(card, tensors):
        raise EngineError(
            f"{path}: the graph must map {', '.join(score_inputs(card))} to eps, float32 with "
            f"{card.channels} channels, and has {_in_words(tensors)}: "
            "make it with 'irsde-deploy export'"
        )
    return card


def score_inputs(card: ModelCard) -> tuple[str, ...]:
    """The names of a score network's inputs."""
    return ("x", "mu", "t") if card.conditional else ("x", "t")


def _fits(card: ModelCard, tensors: Sequence[Tensor]) -> bool:
    """Whether the inputs and outputs are a score network's, float32, those of four sides with the card's channels."""
    expected: dict[str, Any] = dict.fromkeys((*score_inputs(card), "eps"), card.channels)
    expected["t"] = None
    found: dict[str, Any] = {}
    for name, float32, shape in tensors:
        if not float32:
            return False
        found[name] = shape[1] if len(shape) == 4 else None
    return found == expected


def _in_words(tensors: Sequence[Tensor]) -> str:
    """Name, type and shape of each input and output, for a message."""
    described = []
    for name, float32, shape in tensors:
        kind = "float32" if float32 else "of another type"
        described.append(f"{name} {kind} ({', '.join(map(str, shape))})")
    return ", ".join(described)


def refuse_whole_loop(tensors: Collection[str], path: Path) -> None:
    """Raise EngineError where a graph's inputs and outputs are those of a whole loop."""
    if {"lq", "restored"} <= set(tensors):
        raise EngineError(
            f"{path}: this graph is a whole loop, which a host calls once (docs/whole-loop.md), and no score network: "
            "give the file that 'irsde-deploy export' writes without `whole_loop`"
        )
