"""ONNX files and packs of the golden networks, each exported once (`made_once.py`)."""

from __future__ import annotations

from pathlib import Path

from golden import golden_path, load_case, torch_engine
from made_once import PACKAGE, made_once, up_to_export, versions
from packs import PACK_SAMPLING, PACK_SIZE
from places import TESTS
from random_networks import CASES, random_network
from small_network import write_small_network

EXPORTERS = versions("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
UNET = "unet_nf8_depth4"


def exported_unet() -> Path:
    """The golden U-Net exported by the command's own code."""

    def export(folder: Path) -> None:
        from irsde_deploy.export.description import describe, flags
        from irsde_deploy.export.exporter import export_checkpoint
        from irsde_deploy.networks.checkpoints import read_checkpoint

        golden = load_case(UNET)
        checkpoint = read_checkpoint(golden.weights)
        card = describe(checkpoint, [flags(task="derain", **golden.sde)]).card
        export_checkpoint(checkpoint, card, folder / "unet.onnx")

    return made_once("unet", export, *up_to_export(), golden_path(UNET), TESTS / "golden.py", EXPORTERS) / "unet.onnx"


def exported(name: str) -> Path:
    """Name of a golden case or of a random network that does not see mu -> its FP32 ONNX file."""

    def write(folder: Path) -> None:
        from irsde_deploy.export.to_onnx import write_onnx

        write_onnx(*_model_and_card(name), folder / f"{name}.onnx")

    weights = [] if name in CASES else [golden_path(name)]
    made_by = (TESTS / "golden.py", TESTS / "random_networks.py")
    return made_once(f"onnx-{name}", write, *up_to_export(), *weights, *made_by, EXPORTERS) / f"{name}.onnx"


def _model_and_card(name: str) -> tuple[object, object]:
    from irsde_deploy.core.card import ModelCard
    from irsde_deploy.core.sde import DenoisingSDE

    if name not in CASES:
        engine = torch_engine(load_case(name))
        return engine.model, engine.card  # type: ignore[attr-defined]
    model = random_network(name)
    sde = DenoisingSDE(max_sigma=75, T=100, schedule="cosine")
    return model, ModelCard(name, CASES[name], 3, model.multiple_of, model.pad_mode, sde, sampler="mean", steps=4)


def packed_small() -> Path:
    """A pack of the small network (`packs.PACK_SAMPLING`)."""

    def pack(folder: Path) -> None:
        from irsde_deploy.embedding.pack import write_pack

        write_pack(write_small_network(folder / "small.onnx"), folder / "small.pack", PACK_SAMPLING, PACK_SIZE)

    parts = (*up_to_export(), PACKAGE / "embedding", TESTS / "packs.py", TESTS / "small_network.py")
    return made_once("small-pack", pack, *parts, EXPORTERS, versions("openvino")) / "small.pack"
