"""From weight shapes to the network: its class and hyper-parameters, then a module that loads the weights strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from . import ConditionalNAFNet, ConditionalUNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ConditionalUNet": ConditionalUNet,
    "ConditionalNAFNet": ConditionalNAFNet,
}
"""Score networks that can be exported, by the reference's class names."""

Weights = Mapping[str, Tensor]


def detect_network(weights: Weights) -> tuple[str, dict[str, Any]]:
    """(class name, settings) of the network that these weights belong to.

    What shapes cannot tell (the NAFNet's form, the SDE) is not in the settings.

    Raises:
        CheckpointError: weights of no known network, or with keys missing that tell its size.
    """
    top = {key.partition(".")[0] for key in weights}
    for parts, detect in _SIGNATURES:
        if parts <= top:
            try:
                return detect(weights)
            except CheckpointError:
                raise
            except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
                raise CheckpointError(
                    "the weights look like those of a known network, but their sizes cannot be read "
                    f"({type(error).__name__}: {error}): the checkpoint is incomplete or of another version"
                ) from None
    names = ", ".join(sorted(top)[:6])
    raise CheckpointError(
        f"unknown architecture (top-level names: {names}): expected the weights of {' or '.join(NETWORKS)}"
    )


def build_network(name: str, settings: Mapping[str, Any], weights: Weights) -> nn.Module:
    """Build a score network in eval mode with these weights, which must fit to the key.

    Raises:
        CheckpointError: unknown name, settings that contradict the weights, or keys or shapes that do not fit.
    """
    require_agreement(name, settings, weights)  # before anything of the stated size is built
    _require_same_keys(outline(name, settings), weights)
    model = NETWORKS[name](**settings)
    model.load_state_dict(dict(weights), strict=True)
    return model.eval()


def outline(name: str, settings: Mapping[str, Any]) -> Any:
    """The network without memory behind its weights: for what it says of itself (channels, multiple_of, pad_mode)."""
    if name not in NETWORKS:
        raise CheckpointError(f"{name} is not a score network that can be run: expected one of {', '.join(NETWORKS)}")
    try:
        with torch.device("meta"):
            return NETWORKS[name](**settings)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name} cannot be built with {dict(settings)}: {error}") from None


def require_agreement(name: str, stated: Mapping[str, Any], weights: Weights) -> None:
    """Raise CheckpointError where a stated network or hyper-parameter contradicts the weights' shapes."""
    detected_name, detected = detect_network(weights)
    if name != detected_name:
        raise CheckpointError(f"the settings are for {name}, the weights are those of {detected_name}")
    stated, detected = _by_width(stated), _by_width(detected)
    for key in stated.keys() & detected.keys():
        value = list(stated[key]) if isinstance(stated[key], (list, tuple)) else stated[key]
        if value != detected[key]:
            raise CheckpointError(f"the settings say {key} = {value}, the weights have {key} = {detected[key]}")


def _by_width(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The depth form of a ConditionalUNet written in its ch_mult form, so that the two can be compared."""
    if settings.get("depth") is None:
        return dict(settings)
    rest, depth = {key: value for key, value in settings.items() if key != "depth"}, settings["depth"]
    possible = isinstance(depth, int) and 0 < depth < 16
    return {"ch_mult": [2 ** (i + 1) for i in range(depth)] if possible else f"that of depth {depth}", **rest}


def _require_same_keys(model: nn.Module, weights: Weights) -> None:
    expected = model.state_dict()
    missing, surplus = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or surplus:
        parts = [
            f"{len(keys)} keys {what} (first: {keys[0]!r})"
            for what, keys in (("missing", missing), ("too many", surplus))
            if keys
        ]
        raise CheckpointError(f"the weights do not fit {type(model).__name__}: {', '.join(parts)}")
    for key, value in expected.items():
        if value.shape != weights[key].shape:
            raise CheckpointError(
                f"the weights do not fit {type(model).__name__}: {key!r} has the shape {tuple(weights[key].shape)}, "
                f"expected {tuple(value.shape)}"
            )


def _detect_nafnet(weights: Weights) -> tuple[str, dict[str, Any]]:
    levels = _count(weights, r"downs\.(\d+)\.weight")
    width, inputs = weights["intro.weight"].shape[:2]
    channels = weights["ending.weight"].shape[0]
    settings = {
        "width": width,
        "enc_blk_nums": [_count(weights, rf"encoders\.{i}\.(\d+)\.") for i in range(levels)],
        "middle_blk_num": _count(weights, r"middle_blks\.(\d+)\."),
        "dec_blk_nums": [_count(weights, rf"decoders\.{i}\.(\d+)\.") for i in range(levels)],
        "img_channel": channels,
    }
    return "ConditionalNAFNet", settings | _conditioning(inputs, channels)


def _detect_unet(weights: Weights) -> tuple[str, dict[str, Any]]:
    nf, inputs = weights["init_conv.weight"].shape[:2]
    out_nc = weights["final_conv.weight"].shape[0]
    ch_mult = _multipliers(weights, "downs", nf)
    settings: dict[str, Any] = {"in_nc": out_nc, "out_nc": out_nc, "nf": nf}
    if ch_mult == [2 ** (i + 1) for i in range(len(ch_mult))]:
        settings["depth"] = len(ch_mult)
    else:
        settings["ch_mult"] = ch_mult
    if "mid_attn.fn.fn.to_out.weight" in weights:
        settings["mid_attention"] = "full"
    return "ConditionalUNet", settings | _conditioning(inputs, out_nc)


def _detect_latent_unet(weights: Weights) -> tuple[str, dict[str, Any]]:
    ch, in_ch = weights["init_conv.weight"].shape[:2]
    return "UNet", {
        "in_ch": in_ch,
        "out_ch": weights["final_conv.weight"].shape[0],
        "ch": ch,
        "ch_mult": _multipliers(weights, "encoder", ch),
        "embed_dim": weights["latent_conv.weight"].shape[0],
    }


_SIGNATURES: tuple[tuple[set[str], Callable[[Weights], tuple[str, dict[str, Any]]]], ...] = (
    ({"latent_conv", "post_latent_conv"}, _detect_latent_unet),
    ({"encoders", "decoders"}, _detect_nafnet),
    ({"downs", "ups", "init_conv"}, _detect_unet),
)
"""Top-level names that only this network has, most telling first."""


def _multipliers(weights: Weights, levels: str, width: int) -> list[int]:
    """Channels after each level, as multiples of the first width."""
    count = _count(weights, rf"{levels}\.(\d+)\.")
    return [weights[f"{levels}.{i}.3.weight"].shape[0] // width for i in range(count)]


def _count(weights: Weights, pattern: str) -> int:
    """How many different numbers the pattern's group takes at the start of the keys."""
    return len({match[1] for key in weights if (match := re.match(pattern, key))})


def _conditioning(inputs: int, channels: int) -> dict[str, Any]:
    """What the first convolution's input says: x and mu, or x alone (Denoising-SDE)."""
    if inputs not in (channels, 2 * channels):
        raise CheckpointError(
            f"the first convolution takes {inputs} channels and the network has {channels} outputs: expected "
            f"{2 * channels} (x and mu) or {channels} (x alone, Denoising-SDE)"
        )
    return {} if inputs == 2 * channels else {"conditional": False}
