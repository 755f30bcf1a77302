"""What FP16 costs: PSNR of restored pictures against FP32's, by precision and by kind of node, and sizes of the files.

FP16 is emulated on the CPU (irsde_deploy/precision/half_emulation.py); plans are built ahead of time by TensorRT-RTX,
where it is installed. Prints Markdown.

    python benchmarks/precision.py [PICTURE ...]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import onnx
import torch

from irsde_deploy.core.pixels import check_picture, to_network
from irsde_deploy.errors import MissingPackageError
from irsde_deploy.export.description import describe
from irsde_deploy.export.to_onnx import write_onnx
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.networks.detection import build_network
from irsde_deploy.pictures.files import read_picture
from irsde_deploy.precision.lowering import lower_model
from irsde_deploy.precision.nodes import GROUP_KINDS, groups
from irsde_deploy.precision.trajectory import TrajectoryQuality
from irsde_deploy.runtimes.tensorrt.builder import build_plan
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.profiles import parse_profiles
from irsde_deploy.system.libraries import import_onnxruntime

onnxruntime = import_onnxruntime()

ASSETS = Path(__file__).parents[1] / "assets"
CHECKPOINTS = ("derain_nafnet_w16.safetensors", "denoise_nafnet_w16.safetensors")
NONE = ((), (), ())


@click.command()
@click.argument("pictures", nargs=-1, type=click.Path(path_type=Path, exists=True))
def main(pictures: tuple[Path, ...]) -> None:
    """Measure the committed models on degraded PICTURES, by default the committed one."""
    pictures = pictures or (ASSETS / "rain.png",)
    print(f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, CPU")
    print(f"pictures: {', '.join(path.name for path in pictures)}\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in CHECKPOINTS:
            measure(ASSETS / name, [read_picture(path).rgb for path in pictures], Path(folder))


def measure(checkpoint_path: Path, pictures: list, folder: Path) -> None:
    """The tables of one checkpoint."""
    checkpoint = read_checkpoint(checkpoint_path)
    card = describe(checkpoint, []).card
    source = folder / f"{checkpoint_path.stem}.onnx"
    write_onnx(build_network(card.network, card.settings, checkpoint.weights), card, source)
    model, card = read_model(source)
    mus = [to_network(check_picture(card, picture)) for picture in pictures]
    print(f"{checkpoint_path.stem}\n")
    print("| precision | nodes in FP32 | PSNR to FP32, dB | ONNX, MB | RTX plan, MB |\n|---|---|---|---|---|")
    total = sum(len(group.nodes) for group in groups(model))
    print(f"| fp32 | {total} of {total} | equal | {megabytes(source)} | {plan_size(model, card, source)} |")
    for precision in ("mixed", "fp16"):
        lowered = lower_model(model, card, precision, mus)
        path = folder / f"{checkpoint_path.stem}.{precision}.onnx"
        write_model(lowered.model, lowered.card, path)
        size = plan_size(lowered.model, lowered.card, path)
        print(f"| {precision} | {len(lowered.kept)} of {total} | {lowered.psnr:.1f} | {megabytes(path)} | {size} |")
    table = card.plan(t0=card.sde.T if card.sde.kind == "denoising" else None).table
    quality = TrajectoryQuality.of(model, card, mus, table)
    print("\n| only these in FP16 | nodes | PSNR to FP32, dB |\n|---|---|---|")
    for kind in GROUP_KINDS:
        lowered_nodes = [node for group in groups(model) if group.kind == kind for node in group.nodes]
        others = frozenset(node for group in groups(model) if group.kind != kind for node in group.nodes)
        if lowered_nodes:
            print(f"| {kind} | {len(lowered_nodes)} | {quality(others):.1f} |")
    print()


def plan_size(model: onnx.ModelProto, card: object, source: Path) -> str:
    """Size of a TensorRT-RTX plan for the default profile."""
    plan = source.with_suffix(".plan")
    profiles = parse_profiles(NONE, (), NONE, card.channels, card.multiple_of)
    try:
        build_plan(model, card, source, plan, BuildOptions("tensorrt-rtx", profiles))
    except MissingPackageError:
        return "-"
    return megabytes(plan)


def megabytes(path: Path) -> str:
    """Size of a file."""
    return f"{path.stat().st_size / 1e6:.1f}"


if __name__ == "__main__":
    main()
