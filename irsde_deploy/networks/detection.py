"""From weight shapes to the network: its class and hyper-parameters, then a module that loads the weights strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, reason
from ..system.parsing import shortened, shown
from . import ConditionalNAFNet, ConditionalUNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ConditionalUNet": ConditionalUNet,
    "ConditionalNAFNet": ConditionalNAFNet,
}
"""The score networks that can be exported, by the reference's class names."""

Weights: TypeAlias = Mapping[str, Tensor]
Detected: TypeAlias = "tuple[str, dict[str, Any]]"
"""(class name, settings) of a network."""


def detect_network(weights: Weights) -> Detected:
    """Find the network that weights belong to, and its hyper-parameters.

    What shapes cannot tell (the NAFNet's form, the SDE) is not in the settings.

    Returns:
        The class name, `UNet` for the autoencoder of latent models, and the settings to build it with.

    Raises:
        CheckpointError: weights of no known network, or with keys missing that tell its size.
    """
    top = {key.partition(".")[0] for key in weights}
    for parts, detect in _SIGNATURES:
        if parts <= top:
            return _detected(detect, weights)
    names = ", ".join(map(shortened, sorted(top)[:6]))
    raise CheckpointError(
        f"unknown architecture (top-level names: {names}): expected the weights of {' or '.join(NETWORKS)}"
    )


def is_known(weights: Weights) -> bool:
    """Whether weights have the top-level names of a network that is known."""
    top = {key.partition(".")[0] for key in weights}
    return any(parts <= top for parts, _ in _SIGNATURES)


def _detected(detect: Callable[[Weights], Detected], weights: Weights) -> Detected:
    """What `detect` finds in weights that have its network's names, but perhaps not all of them."""
    try:
        return detect(weights)
    except CheckpointError:
        raise
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        why = f"there is no {shown(error.args[0])}" if isinstance(error, KeyError) else "their shapes are none of its"
        raise CheckpointError(
            "the weights look like those of a known network, but their sizes cannot be read "
            f"({why}): the checkpoint is incomplete or of another version"
        ) from None


def build_network(name: str, settings: Mapping[str, Any], weights: Weights) -> nn.Module:
    """Build a score network, in eval mode, with these weights, whose every key must fit.

    Raises:
        CheckpointError: an unknown name, settings that contradict the weights, or keys or shapes that do not fit.
    """
    require_agreement(name, settings, weights)  # before anything of the stated size is built
    _require_same_keys(outline(name, settings), weights)
    model = NETWORKS[name](**settings)
    model.load_state_dict(dict(weights), strict=True)
    return model.eval()


def outline(name: str, settings: Mapping[str, Any]) -> Any:
    """A network without memory behind its weights, for what it says of itself (channels, multiple_of, pad_mode)."""
    if name not in NETWORKS:
        raise CheckpointError(
            f"{shortened(name)} is not a score network that can be run: expected one of {', '.join(NETWORKS)}"
        )
    try:
        _require_bounded(settings)
        with torch.device("meta"):
            return NETWORKS[name](**settings)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # PyTorch's are of the latter two
        why = reason(error)
        raise CheckpointError(f"{name} cannot be built with {shown(dict(settings))}: {why}") from None


_MOST_LEVELS, _MOST_BLOCKS, _MOST_CHANNELS = 12, 1000, 1 << 16
_FROM_TO = {
    "depth": (1, _MOST_LEVELS),
    **dict.fromkeys(("enc_blk_nums", "middle_blk_num", "dec_blk_nums"), (0, _MOST_BLOCKS)),
}
"""Setting -> the least and the most that it may be; of others from 1 to `_MOST_CHANNELS`."""


def _require_bounded(settings: Mapping[str, Any]) -> None:
    """Raise ValueError where a network would be so large that it takes long to be refused, or nothing."""
    for name, value in settings.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        low, high = _FROM_TO.get(name, (1, _MOST_CHANNELS))
        outside = [number for number in numbers if type(number) is int and not low <= number <= high]
        if outside:
            raise ValueError(f"{shortened(name)} must be from {low} to {high}, not {shown(outside[0])}")
        if len(numbers) > _MOST_LEVELS:
            raise ValueError(f"{shortened(name)} has {len(numbers)} levels, and {_MOST_LEVELS} are the most")


def require_agreement(name: str, stated: Mapping[str, Any], weights: Weights) -> None:
    """Raise CheckpointError where a stated network or hyper-parameter contradicts the weights' shapes."""
    detected_name, detected = detect_network(weights)
    if name != detected_name:
        raise CheckpointError(f"the settings are for {shortened(name)}, the weights are those of {detected_name}")
    stated, detected = _by_width(stated), _by_width(detected)
    for key in stated.keys() & detected.keys():
        value = stated[key]
        if isinstance(value, tuple):  # equal to no list, whatever is in it
            value = list(value)
        if value != detected[key]:
            raise CheckpointError(f"the settings say {key} = {shown(value)}, the weights have {key} = {detected[key]}")


def _by_width(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the depth of a ConditionalUNet written as its ch_mult, so that the two forms can be compared."""
    by_width = dict(settings)
    depth = by_width.pop("depth", None)
    if depth is None:
        return dict(settings)
    ch_mult: Any = f"that of depth {depth}"  # equal to none, and said so; no list is made of a depth of a million
    if isinstance(depth, int) and 0 < depth < 16:
        ch_mult = _doubling(depth)
    return {"ch_mult": ch_mult, **by_width}


def _doubling(levels: int) -> list[int]:
    """The multipliers of a ConditionalUNet whose width doubles at each level."""
    return [2 ** (level + 1) for level in range(levels)]


def _require_same_keys(model: nn.Module, weights: Weights) -> None:
    """Raise CheckpointError unless the weights have the keys and shapes of the model's."""
    name = type(model).__name__
    expected = model.state_dict()
    wrong = []
    for what, keys in (
        ("missing", sorted(expected.keys() - weights.keys())),
        ("too many", sorted(weights.keys() - expected.keys())),
    ):
        if keys:
            wrong.append(f"{len(keys)} keys {what} (first: {shown(keys[0])})")
    if wrong:
        raise CheckpointError(f"the weights do not fit {name}: {', '.join(wrong)}")
    for key, value in expected.items():
        shape = weights[key].shape
        if shape != value.shape:
            raise CheckpointError(
                f"the weights do not fit {name}: {shown(key)} has the shape {tuple(shape)}, expected "
                f"{tuple(value.shape)}"
            )


def _detect_nafnet(weights: Weights) -> Detected:
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


def _detect_unet(weights: Weights) -> Detected:
    nf, inputs = weights["init_conv.weight"].shape[:2]
    out_nc = weights["final_conv.weight"].shape[0]
    ch_mult = _multipliers(weights, "downs", nf)
    settings: dict[str, Any] = {"in_nc": out_nc, "out_nc": out_nc, "nf": nf}
    # Both forms build the same network then; options files of the reference mostly have the first.
    if ch_mult == _doubling(len(ch_mult)):
        settings["depth"] = len(ch_mult)
    else:
        settings["ch_mult"] = ch_mult
    # Full attention has no norm behind its projection, which makes another key of it.
    if "mid_attn.fn.fn.to_out.weight" in weights:
        settings["mid_attention"] = "full"
    return "ConditionalUNet", settings | _conditioning(inputs, out_nc)


def _detect_latent_unet(weights: Weights) -> Detected:
    ch, in_ch = weights["init_conv.weight"].shape[:2]
    return "UNet", {
        "in_ch": in_ch,
        "out_ch": weights["final_conv.weight"].shape[0],
        "ch": ch,
        "ch_mult": _multipliers(weights, "encoder", ch),
        "embed_dim": weights["latent_conv.weight"].shape[0],
    }


_SIGNATURES: tuple[tuple[set[str], Callable[[Weights], Detected]], ...] = (
    ({"latent_conv", "post_latent_conv"}, _detect_latent_unet),
    ({"encoders", "decoders"}, _detect_nafnet),
    ({"downs", "ups", "init_conv"}, _detect_unet),
)
"""Top-level names that a network has -> how its settings are found; those that no other has come first."""


def _multipliers(weights: Weights, levels: str, width: int) -> list[int]:
    """The channels after each level, as multiples of the first width."""
    count = _count(weights, rf"{levels}\.(\d+)\.")
    # The fourth layer of a level changes the size, and the width.
    return [weights[f"{levels}.{i}.3.weight"].shape[0] // width for i in range(count)]


def _count(weights: Weights, pattern: str) -> int:
    """How many different numbers the pattern's group finds at the start of the keys."""
    numbers = set()
    for key in weights:
        match = re.match(pattern, key)
        if match:
            numbers.add(match[1])
    return len(numbers)


def _conditioning(inputs: int, channels: int) -> dict[str, Any]:
    """The setting `conditional`, from the first convolution's input: x and mu, or x alone (Denoising-SDE)."""
    if inputs not in (channels, 2 * channels):
        raise CheckpointError(
            f"the first convolution takes {inputs} channels and the network has {channels} outputs: expected "
            f"{2 * channels} (x and mu) or {channels} (x alone, Denoising-SDE)"
        )
    if inputs == 2 * channels:  # the default, which cards do not say
        return {}
    return {"conditional": False}
