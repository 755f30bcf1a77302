"""What INT8 costs the committed de-raining model: by range method, by calibration states, by what is in INT8.

    python benchmarks/int8.py PHOTOS [--work FOLDER]

Makes calibration pairs of the photographs that the model was trained on and other pairs of the held-out ones, all in
heavy rain of the training's generator; prints Markdown. PSNR and SSIM are those of `evaluation.measure` at the card's
own sampler. Times are of whatever else the machine was doing, too: publish those of an idle one alone.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np
import onnx
from forward_states import forward_marginals, noise_states
from models import HELD_OUT, irsde, rain

from irsde_deploy.calibration.data import find_data
from irsde_deploy.calibration.layers import Layer, quantisable
from irsde_deploy.calibration.manifest import CalibrationSettings
from irsde_deploy.calibration.problem import Problem
from irsde_deploy.calibration.quantise import as_computed, mixed
from irsde_deploy.calibration.ranges import METHODS, Statistics, timestep_groups
from irsde_deploy.calibration.recorder import Recorder
from irsde_deploy.calibration.states import (
    Marginal,
    State,
    exact_states,
    recorded_states,
    visited_marginals,
)
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.noise import seeded_noise
from irsde_deploy.core.pixels import from_network, to_network
from irsde_deploy.errors import MissingPackageError
from irsde_deploy.graphs.onnx_file import read_model, write_model
from irsde_deploy.pictures.files import Picture, read_picture, write_picture
from irsde_deploy.pictures.metrics import CROP_BORDER
from irsde_deploy.pictures.pairs import pair_folders
from irsde_deploy.reports.evaluation import measure
from irsde_deploy.runtimes.engines.onnx_engine import OnnxEngine
from irsde_deploy.runtimes.loops.numpy_loop import padded_evaluation, states
from irsde_deploy.runtimes.opening import open_engine
from irsde_deploy.runtimes.tensorrt.builder import build_plan
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.profiles import parse_profiles
from irsde_deploy.system.libraries import import_onnxruntime

onnxruntime = import_onnxruntime()

MODEL = Path(__file__).parents[1] / "assets" / "derain_nafnet_w16.safetensors"
CALIBRATION_SIDE, HELD_OUT_SIDE = 512, 384
STATES, SEEDS = 512, 3
"""States of every calibration that is compared, and calibrations with seeds 0, 1, ... of every row; what convergence
would choose is printed by `irsde-deploy calibrate`."""

PATH = click.Path(path_type=Path)


def make_pairs(photos: Path, folder: Path) -> tuple[Path, Path]:
    """(calibration, held-out), each a folder with LQ and GT: a pair a photograph, and two of each held-out one."""
    for number, photo in enumerate(sorted(photos.glob("*.jpg"))):
        held = photo.stem in HELD_OUT
        clean = read_picture(photo).rgb
        scale = (HELD_OUT_SIDE if held else CALIBRATION_SIDE) / max(clean.shape[:2])
        clean = cv2.resize(clean, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for seed in (0, 1) if held else (0,):
            data, name = folder / ("held-out" if held else "calibration"), f"{photo.stem}_{seed}.png"
            write_picture(data / "GT" / name, Picture(clean))
            write_picture(data / "LQ" / name, Picture(rain(clean, 1000 + 2 * number + seed)))
    return folder / "calibration", folder / "held-out"


class Bench:
    """The FP32 graph, what it makes of the held-out pairs, and what other graphs make of them."""

    def __init__(self, problem: Problem, held_out: Path) -> None:
        self.problem = problem
        self.table = problem.settings.table(problem.card.sde)
        pairs = pair_folders(held_out / "LQ", held_out / "GT")
        self.pictures = [(read_picture(pair.lq).rgb, read_picture(pair.gt).rgb) for pair in pairs]
        self.fp32 = self.paths(OnnxEngine.from_bytes(problem.model.SerializeToString(), problem.card))

    def paths(self, engine: object) -> list[list[np.ndarray]]:
        """Of each picture x at the start and after each step, (1, C, H, W)."""
        found = []
        for lq, _ in self.pictures:
            mu = to_network(lq[None])
            noise = seeded_noise(0, mu.shape)
            found.append([mu + y for y in states(padded_evaluation(engine, mu), mu, self.table, noise)])
        return found

    def row(
        self, name: str, layers: Sequence[Layer], ranges: Sequence[dict[str, float]], rest: str = "fp32"
    ) -> list[list[np.ndarray]]:
        """`row_of` the graphs with these layers in INT8, by one range table for each calibration seed."""
        graphs = [as_computed(mixed(self.problem.model, layers, table, rest), rest) for table in ranges]
        return self.row_of(name, graphs)

    def row_of(self, name: str, graphs: Sequence[onnx.ModelProto]) -> list[list[np.ndarray]]:
        """Print a row: PSNR and SSIM against the clean pictures, what is lost, and PSNR against FP32's pictures.

        Args:
            graphs: one for each calibration seed; means and extremes are over all of them and all pictures.

        Returns:
            `paths` of the first.
        """
        theirs, found = self.against_clean(self.fp32), []
        for graph in graphs:
            paths = self.paths(OnnxEngine.from_bytes(graph.SerializeToString(), self.problem.card))
            found.append((paths, self.against_clean(paths), self.against_fp32(paths)))
        mine, same = (np.stack([entry[k] for entry in found]) for k in (1, 2))
        lost = theirs - mine
        seeds = same.mean(axis=1)
        print(
            f"| {name} | {mine[..., 0].mean():.2f} | {lost[..., 0].mean():.3f} | {lost[..., 0].max():.3f} | "
            f"{mine[..., 1].mean():.4f} | {lost[..., 1].mean():.4f} | {same.mean():.1f} | "
            f"{seeds.min():.1f} to {seeds.max():.1f} | {same.min():.1f} |",
            flush=True,
        )
        return found[0][0]

    def against_fp32(self, paths: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """(pictures,): PSNR of the restored pictures against FP32's."""
        ends = ([np.clip(path[-1], 0, 1) for path in of] for of in (paths, self.fp32))
        return np.array([psnr(mine, theirs, 1.0) for mine, theirs in zip(*ends, strict=True)])

    def against_clean(self, paths: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """(pictures, 2): PSNR and SSIM of the restored pictures, as 8-bit files have them."""
        found = []
        for path, (_, gt) in zip(paths, self.pictures, strict=True):
            values = measure(from_network(path[-1], gt.dtype)[0], gt, CROP_BORDER)
            found.append([values["psnr"], values["ssim"]])
        return np.array(found, dtype=np.float64)


HEADING = "\n".join(
    [
        "| {} | PSNR | lost, dB | lost at worst | SSIM | lost | PSNR to FP32 | by seed | at worst |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
)


@click.command()
@click.argument("photos", type=PATH)
@click.option("--work", type=PATH, help="Folder for pairs and graphs [default: a temporary one].")
@click.option("--prepare", is_flag=True, help="Write pairs and the FP32 graph to --work, and no more.")
def main(photos: Path, work: Path | None, prepare: bool) -> None:
    """Measure INT8 on the held-out ones of PHOTOS."""
    with tempfile.TemporaryDirectory() as folder:
        (bench_of if prepare else run)(photos, work or Path(folder))


def bench_of(photos: Path, work: Path) -> Bench:
    """The committed model and the pairs, written to a folder; prints what is measured."""
    calibration, held_out = make_pairs(photos, work)
    onnx_file = work / "derain.onnx"
    irsde("export", MODEL, "-o", onnx_file, "--overwrite")
    model, card = read_model(onnx_file)
    table = card.plan().table
    settings = CalibrationSettings(card.sampler, tuple(table.t.tolist()), states=STATES)
    problem = Problem.of(model, card, find_data(f"{calibration / 'LQ'},{calibration / 'GT'}"), settings)
    bench = Bench(problem, held_out)
    print(
        f"onnxruntime {onnxruntime.__version__}, {platform.machine()}, Python {platform.python_version()}; {card.task}"
    )
    print(f"{len(problem.data.entries)} calibration pairs, {len(bench.pictures)} held-out pairs of {HELD_OUT_SIDE} px")
    print(f"{card.sampler}, t = {', '.join(map(str, table.t))}; states of {settings.crop} px, {SEEDS} seeds of them\n")
    for name, marginals in (("visited", visited_marginals(table)), ("forward", forward_marginals(card.sde, table.t))):
        print(f"noise {name}, of 255: {', '.join(f'{255 * one.noise:.1f}' for one in marginals)}")
    fp32 = bench.against_clean(bench.fp32).mean(axis=0)
    print(f"FP32: {fp32[0]:.2f} dB, SSIM {fp32[1]:.4f}\n")
    return bench


def run(photos: Path, work: Path) -> None:
    """All tables."""
    bench = bench_of(photos, work)
    problem, model, settings = bench.problem, bench.problem.model, bench.problem.settings
    print(f"{STATES} states a calibration\n")
    both = quantisable(model, residuals=True)
    statistics = collected(problem, both, calibrations(problem)[0])
    print(HEADING.format("ranges by"))
    paths = {
        method: bench.row(method, problem.layers, [seed.ranges(method) for seed in statistics]) for method in METHODS
    }
    by_states(bench)
    by_layers(bench, both, statistics)
    along_the_trajectory(bench, paths[settings.method])
    files(bench, statistics[0], work)


@dataclass(frozen=True)
class Calibration:
    """What ranges are measured on: seed -> endless states; and timestep -> group, of which the widest range counts."""

    name: str
    states: Callable[[int], Iterator[State]]
    groups: dict[int, int]


def calibrations(problem: Problem) -> list[Calibration]:
    """Those that are compared; the first is what `irsde-deploy calibrate` takes."""
    card, settings, crop = problem.card, problem.settings, problem.settings.crop
    sources = problem.data.sources(card)
    engine = OnnxEngine.from_bytes(problem.model.SerializeToString(), card)
    table = settings.table(card.sde)
    own, all_of_t = settings.timesteps, tuple(range(card.sde.T, 0, -1))
    together = dict.fromkeys(own, 0)

    def drawn(marginals: Sequence[Marginal]) -> Callable[[int], Iterator[State]]:
        return lambda seed: exact_states(sources, card, marginals, seed, crop)

    def forward(timesteps: Sequence[int]) -> Callable[[int], Iterator[State]]:
        return drawn(forward_marginals(card.sde, timesteps))

    visited = visited_marginals(table)
    return [
        Calibration(f"as {settings.sampler} visits them, y_0 known", drawn(visited), timestep_groups(own)),
        Calibration("the same in one histogram", drawn(visited), together),
        *(Calibration(f"the same, t = {one.t} alone", drawn([one]), {one.t: 0}) for one in visited),
        Calibration(
            "recorded along FP32 trajectories",
            lambda seed: recorded_states(sources, engine, table, seed, crop),
            timestep_groups(own),
        ),
        Calibration("forward process, the preset's timesteps", forward(own), timestep_groups(own)),
        Calibration("forward process, all T timesteps", forward(all_of_t), timestep_groups(all_of_t)),
        Calibration("noise alone", lambda seed: noise_states(card, own, seed, crop), together),
    ]


def collected(problem: Problem, layers: Sequence[Layer], of: Calibration, number: int = STATES) -> list[Statistics]:
    """Statistics over so many states, for each seed."""
    recorder = Recorder(problem.model, (name for layer in layers for name in layer.inputs))
    found = [Statistics(of.groups) for _ in range(SEEDS)]
    for seed, statistics in enumerate(found):
        for state in islice(of.states(seed), number):
            statistics.add(recorder(state), state.t)
    return found


def by_states(bench: Bench) -> None:
    """The ablation: what the ranges were measured on."""
    problem = bench.problem
    measured = {of.name: collected(problem, problem.layers, of) for of in calibrations(problem)}
    for method in ("mse", "percentile"):
        print(f"\n{HEADING.format(f'ranges by {method} of')}")
        for name, statistics in measured.items():
            bench.row(name, problem.layers, [seed.ranges(method) for seed in statistics])


def by_layers(bench: Bench, both: Sequence[Layer], statistics: Sequence[Statistics]) -> None:
    """What is in INT8, and what the rest is in."""
    layers, ranges = bench.problem.layers, [seed.ranges(bench.problem.settings.method) for seed in statistics]
    print(f"\n{HEADING.format('in INT8')}")
    bench.row(f"{len(layers)} convolutions", layers, ranges)
    bench.row("the same, the rest FP16 (emulated)", layers, ranges, "fp16")
    bench.row(f"and {len(both) - len(layers)} residual sums", both, ranges)


def along_the_trajectory(bench: Bench, paths: Sequence[Sequence[np.ndarray]]) -> None:
    """How far INT8's states are from FP32's with the same noise."""
    print("\n| state | PSNR to FP32, mean | at worst | largest difference, share of the largest value |")
    print("|---|---|---|---|")
    for k, t in enumerate([*bench.table.t.tolist(), 0]):
        mine, theirs = ([path[k] for path in of] for of in (paths, bench.fp32))
        decibels = [psnr(a, b, 1.0) for a, b in zip(mine, theirs, strict=True)]
        off = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(mine, theirs, strict=True))
        if k:
            print(f"| x_{t} | {np.mean(decibels):.1f} | {min(decibels):.1f} | {off:.3f} |")


def files(bench: Bench, statistics: Statistics, work: Path) -> None:
    """Sizes of files and plans, and times of an evaluation."""
    problem = bench.problem
    ranges = statistics.ranges(problem.settings.method)
    graphs = {
        "fp32": (problem.model, problem.card),
        "int8, rest fp32": (
            mixed(problem.model, problem.layers, ranges, "fp32"),
            replace(problem.card, precision="int8"),
        ),
        "int8, rest fp16": (
            mixed(problem.model, problem.layers, ranges, "fp16"),
            replace(problem.card, precision="int8"),
        ),
    }
    print("\n| graph | ONNX, MB | RTX plan, MB | ONNX Runtime, ms | OpenVINO, ms |\n|---|---|---|---|---|")
    for name, (model, card) in graphs.items():
        path = work / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"
        write_model(model, card, path)
        times = [evaluation_time(path, provider) for provider in ("onnxruntime", "openvino")]
        print(f"| {name} | {path.stat().st_size / 1e6:.1f} | {plan_size(model, card, path)} | {' | '.join(times)} |")


def evaluation_time(path: Path, provider: str) -> str:
    """The fastest of ten evaluations at 256x256."""
    engine = open_engine(path, "cpu", provider=provider)
    x, t = np.full((1, 3, 256, 256), 0.5, np.float32), np.array([50], np.float32)
    seconds = []
    for _ in range(11):
        started = time.perf_counter()
        engine(x, x, t)
        seconds.append(time.perf_counter() - started)
    return f"{1000 * min(seconds[1:]):.0f}"


def plan_size(model: object, card: object, source: Path) -> str:
    """Size of a TensorRT-RTX plan for the default profile."""
    plan = source.with_suffix(".plan")
    profiles = parse_profiles(((), (), ()), (), ((), (), ()), card.channels, card.multiple_of)
    try:
        build_plan(model, card, source, plan, BuildOptions("tensorrt-rtx", profiles))
    except MissingPackageError:
        return "-"
    return f"{plan.stat().st_size / 1e6:.1f}"


if __name__ == "__main__":
    main()
