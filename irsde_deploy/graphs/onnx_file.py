"""ONNX files of this toolkit: read, stamp with a model card, check, write whole. Needs onnx, not PyTorch."""

from __future__ import annotations

from pathlib import Path

import onnx

from ..core.card import METADATA_KEY, ModelCard
from ..errors import EngineError, reason
from ..system.files import write_atomically
from ..system.parsing import shortened
from .loading import load_graph, not_onnx
from .metadata import parse_card, refuse_whole_loop, score_inputs


def read_model(path: Path, card: ModelCard | None = None) -> tuple[onnx.ModelProto, ModelCard]:
    """The graph and the card inside an ONNX file; a graph without one has `card`, where that is given.

    Raises:
        InputFileError: no such file. EngineError: not an ONNX file, or one without a model card.
    """
    model, _ = load_graph(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of several kinds
        raise not_onnx(path, shortened(reason(error), 200)) from None
    card = parse_card(_metadata(model, METADATA_KEY), path) or card
    if card is None:
        raise EngineError(f"{path}: there is no model card inside: make it with 'irsde-deploy export'")
    inputs = sorted({entry.name for entry in model.graph.input})
    outputs = sorted({entry.name for entry in model.graph.output})
    refuse_whole_loop([*inputs, *outputs], path)
    expected = sorted(score_inputs(card))
    if inputs != expected or outputs != ["eps"]:
        raise EngineError(
            f"{path}: the graph must map {', '.join(expected)} to eps, and maps {', '.join(inputs)} to "
            f"{', '.join(outputs)}: make it with 'irsde-deploy export'"
        )
    return model, card


def write_model(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Put the card into the graph's metadata, check it fully and write it to path.

    Raises:
        EngineError: the graph is damaged, or longer than ONNX files can be. OutputFileError: it cannot be written.
    """
    set_metadata(model, METADATA_KEY, card.to_json())
    model.producer_name, model.producer_version = "irsde-deploy", card.tool_version
    with write_atomically(path) as temporary:
        try:
            onnx.save(model, temporary)
            onnx.checker.check_model(str(temporary), full_check=True)
        except OSError:  # which says what the disk has against it
            raise
        except Exception as error:  # of several kinds
            raise EngineError(f"{path}: no valid graph can be written ({shortened(reason(error), 200)})") from None


def _metadata(model: onnx.ModelProto, key: str) -> str | None:
    """The value of one metadata property; None where the model does not have it."""
    for entry in model.metadata_props:
        if entry.key == key:
            return str(entry.value)
    return None


def set_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    """Set one metadata property, replacing what it was."""
    for index in reversed(range(len(model.metadata_props))):
        if model.metadata_props[index].key == key:
            del model.metadata_props[index]
    model.metadata_props.add(key=key, value=value)
