"""The weights inside whatever a training script saved: found, unwrapped, and freed of what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from ..system.parsing import shown
from .detection import is_known

EMA_ENTRIES = (
    *("params_ema", "ema_params", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "model_ema_state_dict"),
    *(
        "ema_model_state_dict",
        "ema_weights",
        "ema_net",
        "net_ema",
        "netG_ema",
        "net_g_ema",
        "g_ema",
        "ema_network",
        "ema",
    ),
    *("swa_model", "model_swa", "swa_state_dict", "swa_model_state_dict", "swa"),
    *("averaged_model", "average_model", "avg_model", "model_averaged", "model_avg", "averaged"),
)
PLAIN_ENTRIES = ("params", "state_dict", "model_state_dict", "model", "weights", "net", "network", "module")
"""Names under which training code puts a state dict inside a checkpoint. Averaged weights, which restore better, are
looked for first."""

EMA_PREFIXES = ("ema_model.", "model_ema.", "ema.", "averaged_model.", "swa_model.", "net_g_ema.", "netG_ema.")
WRAPPER_PREFIXES = ("module.", "_orig_mod.", *EMA_PREFIXES, "model.", "net.", "netG.", "network.", "generator.")
"""What wrappers put before every key: DataParallel, torch.compile, averaging, and code that trains several networks."""

WRAPPER_PARTS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What wrappers of a part of a network put inside the keys: torch.compile, FSDP, activation checkpointing."""

PARALLEL_PARTS = {"module"}
"""The same of DataParallel and DDP. Before the keys it may tell one network from others, so it is taken out last."""

MOST_NESTED = 8
"""Wrappers around wrappers, of entries and of prefixes: more than any training code has."""


def select_weights(content: Any, notes: list[str]) -> dict[str, Tensor]:
    """The tensors of a network by the network's own names.

    Args:
        content: of a checkpoint.
        notes: gets a sentence for each choice on the way.

    Raises:
        CheckpointError: there are no weights inside.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"a checkpoint holds a state dict, this file a {type(content).__name__}")
    found = _find(content, [], set())
    if found is None:
        listed = ", ".join(map(shown, list(content)[:5])) or "nothing"
        raise CheckpointError(f"there is no state dict inside, only {listed}")
    trail, mapping = found
    notes += trail
    tensors = _without_parts(WRAPPER_PARTS, _weights_among(mapping, notes), notes)
    network = _unwrapped(_averaged(tensors, notes), notes)
    return _without_parts(PARALLEL_PARTS, network, notes) if is_known(network) else network


def _find(content: Mapping[Any, Any], trail: list[str], seen: set[int]) -> tuple[list[str], Mapping[Any, Any]] | None:
    """(what was chosen on the way, the mapping of names to tensors), the preferred entry that has one; else None."""
    if id(content) in seen or len(seen) > 1000 or len(trail) > MOST_NESTED:  # it may hold itself
        return None
    seen.add(id(content))
    passed = list(trail)
    for entry in (*EMA_ENTRIES, *PLAIN_ENTRIES):
        inner = content.get(entry)
        if not isinstance(inner, Mapping):
            continue
        kind = "averaged (EMA) weights" if entry in EMA_ENTRIES else "weights"
        found = _find(inner, [*passed, f"took the {kind} in {entry!r}"], seen)
        if found is not None:
            return found
        passed.append(f"passed over {entry!r}, which has no weights by name")
    if _named_tensors(content):
        return trail, content
    return None


def _named_tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _weights_among(content: Mapping[Any, Any], notes: list[str]) -> dict[str, Tensor]:
    """The tensors without counters and other numbers that training keeps beside weights; notes names those."""
    tensors = _named_tensors(content)
    aside = [key for key, value in tensors.items() if _is_counter(key, value)]
    if not aside or len(aside) == len(tensors):
        return tensors
    more = f" and {len(aside) - 5} more" if len(aside) > 5 else ""
    notes.append(f"set aside what is no weight: {', '.join(map(shown, aside[:5]))}{more}")
    return {key: value for key, value in tensors.items() if key not in set(aside)}


def _is_counter(key: str, value: Tensor) -> bool:
    """Whether a tensor is no weight of a network: a whole number, such as `n_averaged`, a flag, or a single number."""
    if value.is_quantized or value.is_complex() or key.endswith((".weight", ".bias")):
        return False
    return value.dim() == 0 or not value.is_floating_point()


def _without_parts(wrappers: set[str], weights: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """The weights without what wrappers of parts put inside their keys."""
    renamed: dict[str, Tensor] = {}
    taken = set()
    for key, value in weights.items():
        parts = key.split(".")
        kept = [part for part in parts if part not in wrappers]
        taken |= wrappers.intersection(parts)
        name = ".".join(kept)
        if name in renamed:
            raise CheckpointError(f"two tensors are called {shown(name)} once wrappers' names are taken off the keys")
        renamed[name] = value
    if taken:
        notes.append(f"took {', '.join(map(repr, sorted(taken)))} out of the keys")
    return renamed


def _averaged(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Those under a prefix of averaged weights, where there are others beside them."""
    for prefix in EMA_PREFIXES:
        group = {key: value for key, value in tensors.items() if key.startswith(prefix)}
        # Where all keys have the prefix there is nothing to choose, and it is taken off later, like any.
        if not group or len(group) == len(tensors):
            continue
        rest = {key: value for key, value in tensors.items() if key not in group}
        if is_known(_unwrapped(group, [])) or not is_known(_unwrapped(rest, [])):
            notes.append(f"took the averaged (EMA) weights under {prefix!r}")
            return group
        notes.append(f"passed over the averaged weights under {prefix!r}, whose names are not the network's")
        return rest
    return tensors


def _unwrapped(weights: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Take off what wrappers put before the keys, one wrapper after another; notes gets what was taken off."""
    for _ in range(MOST_NESTED):
        prefix = _common_prefix(weights)
        if prefix is None:
            break
        notes.append(f"took the prefix {prefix!r} off the keys")
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    if is_known(weights):
        return weights
    for prefix in WRAPPER_PREFIXES:
        inner = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if 0 < len(inner) < len(weights):
            told: list[str] = []
            network = _unwrapped(inner, told)
            if is_known(network):
                beside = len(weights) - len(inner)
                notes += [f"took the weights under {prefix!r}, and left {beside} others beside them", *told]
                return network
    return weights


def _common_prefix(weights: Mapping[str, Tensor]) -> str | None:
    for prefix in WRAPPER_PREFIXES:
        if weights and all(key.startswith(prefix) for key in weights):
            return prefix
    return None
