"""The kinds of files that are attacked."""

from __future__ import annotations

from .commands import COMMANDS
from .kind import Kind
from .models import CHECKPOINTS, ONNX, PLANS
from .packs import PACKS
from .pictures import METADATA, PICTURES
from .runs import RUNS
from .streams import Y4M
from .texts import MANIFESTS, TABLES, TOML, WORK, YAML
from .videos import VIDEOS

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        PICTURES,
        METADATA,
        VIDEOS,
        Y4M,
        ONNX,
        PLANS,
        CHECKPOINTS,
        PACKS,
        YAML,
        TOML,
        MANIFESTS,
        TABLES,
        WORK,
        RUNS,
        COMMANDS,
    )
}
"""Name -> kind, in the order of the table."""

__all__ = ["KINDS", "Kind"]
