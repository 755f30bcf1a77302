"""What a graph's metadata hold, and what a score network's inputs and outputs must be; without the package onnx."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..core.card import ModelCard
from ..errors import EngineError, InvalidValueError

LOOP_KEY = "irsde_loop"
"""Metadata property of a whole-loop graph: JSON of what it executes (`graphs.whole_loop`)."""

INT8_KEY = "irsde_int8"
"""Metadata property of a quantised graph: JSON of how it was made (`calibration.calibrate`)."""


def parse_card(text: str | None, path: Path) -> ModelCard | None:
    """The model card that a graph's metadata holds, if it does; EngineError where it cannot be read."""
    if text is None:
        return None
    try:
        return ModelCard.from_json(text)
    except InvalidValueError as error:
        raise EngineError(f"{path}: {error}") from None


def checked_card(card: ModelCard | None, tensors: Sequence[tuple[str, bool, Sequence[Any]]], path: Path) -> ModelCard:
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
    expected = {"x": card.channels, "mu": card.channels, "t": None, "eps": card.channels}
    if not card.conditional:
        del expected["mu"]
    channels = {name: shape[1] if len(shape) == 4 else None for name, _, shape in tensors}
    if channels != expected or not all(float32 for _, float32, _ in tensors):
        found = ", ".join(
            f"{name} {'float32' if float32 else 'of another type'} ({', '.join(map(str, shape))})"
            for name, float32, shape in tensors
        )
        raise EngineError(
            f"{path}: the graph must map {', '.join(name for name in expected if name != 'eps')} to eps, float32 with "
            f"{card.channels} channels, and has {found}: "
            "make it with 'irsde-deploy export'"
        )
    return card


def refuse_whole_loop(tensors: Collection[str], path: Path) -> None:
    """Raise EngineError where a graph's inputs and outputs are those of a whole loop."""
    if {"lq", "restored"} <= set(tensors):
        raise EngineError(
            f"{path}: this graph is a whole loop, which a host calls once (docs/whole-loop.md), and no score network: "
            "give the file that 'irsde-deploy export' writes without `whole_loop`"
        )
