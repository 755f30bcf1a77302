"""How good restored pictures are against the number of evaluations: every sampler, de-biasing, t0 and grid exponent.

    python benchmarks/samplers.py measure ENGINE.onnx PHOTOS -o benchmarks/results/samplers_NAME.csv
    python benchmarks/samplers.py report benchmarks/results/samplers_NAME.csv --plot docs/img/samplers_NAME.png

`measure` makes 12 held-out pairs (two 96x96 windows of each photograph, reduced to 192 px, in heavy rain of the
training's generator) and appends a row a setting and seed, so that an interrupted run goes on where it stopped.
`slopes` regresses the network's output on the true noise, timestep by timestep: 1 where there is no bias.
"""

from __future__ import annotations

import csv
import itertools
import platform
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
from models import HELD_OUT, rain

from irsde_deploy import plan_steps
from irsde_deploy.core.comparison import psnr
from irsde_deploy.core.noise import normal_field, seeded_noise
from irsde_deploy.core.samplers import ADJACENT_ONLY, GRID_EXPONENT, SAMPLERS
from irsde_deploy.pictures.files import read_picture
from irsde_deploy.pictures.metrics import ssim
from irsde_deploy.runtimes.loops.numpy_loop import padded_evaluation, restore
from irsde_deploy.runtimes.opening import open_engine
from irsde_deploy.system.libraries import import_onnxruntime

onnxruntime = import_onnxruntime()

SIDE = 96
SEEDS = (0, 1, 2)
STEPS = (1, 2, 4, 5, 8, 10, 20, 50, 100)
EXPONENTS = (1.0, 1.3, 1.6, 2.0)
SLOPES_AT = (100, 80, 60, 40, 20)
COLUMNS = ("sampler", "steps", "debias", "t0", "exponent", "seed", "psnr", "ssim", "worst_psnr")
PATH = click.Path(path_type=Path)


def settings(T: int) -> Iterator[tuple[str, int, bool, int, float]]:
    """(sampler, steps, debias, t0, exponent) of everything that is measured, most telling first."""
    for steps, sampler in itertools.product(reversed(STEPS), SAMPLERS):
        if sampler in ADJACENT_ONLY and steps != T:
            continue
        for debias, t0 in ((False, T), (True, T), (False, round(0.8 * T))):
            if steps <= t0 and not (t0 < T and sampler in ADJACENT_ONLY):
                yield sampler, steps, debias, t0, GRID_EXPONENT
    for sampler, steps, exponent in itertools.product(("posterior", "mean", "sde-2m"), (4, 8, 20), EXPONENTS):
        if exponent != GRID_EXPONENT:
            yield sampler, steps, False, T, exponent


def pairs(photos: Path) -> tuple[np.ndarray, np.ndarray]:
    """(degraded, clean), both (12, 3, SIDE, SIDE) float32 in [0, 1]."""
    made: list[tuple[np.ndarray, np.ndarray]] = []
    for number, name in enumerate(HELD_OUT):
        clean = read_picture(photos / f"{name}.jpg").rgb
        scale = 2 * SIDE / min(clean.shape[:2])
        clean = cv2.resize(clean, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[: 2 * SIDE, : 2 * SIDE]
        rainy = rain(clean, 100 * number)
        for window in (np.s_[:SIDE, :SIDE], np.s_[SIDE:, SIDE:]):
            made.append((rainy[window], clean[window]))
    lq, gt = (np.stack(side).transpose(0, 3, 1, 2).astype(np.float32) / 255 for side in zip(*made, strict=True))
    return lq, gt


@click.group()
def main() -> None:
    """Measure samplers, and report what was measured."""


@main.command()
@click.argument("engine", type=PATH)
@click.argument("photos", type=PATH)
@click.option("-o", "--output", type=PATH, required=True)
def measure(engine: Path, photos: Path, output: Path) -> None:
    """Restore the pairs with every setting and seed that OUTPUT does not have yet."""
    network = open_engine(engine)
    lq, gt = pairs(photos)
    done = {tuple(row[name] for name in COLUMNS[:6]) for row in read_rows(output)} if output.exists() else set()
    with output.open("a", newline="") as file:
        writer = csv.writer(file)
        if not done:
            writer.writerow(COLUMNS)
        for setting, seed in itertools.product(settings(network.card.sde.T), SEEDS):
            if tuple(map(str, (*setting, seed))) in done:
                continue
            table = plan_steps(network.card.sde, *setting)
            # each picture of the batch its own noise
            noise = seeded_noise(seed, lq.shape, range(len(lq)))
            restored = np.clip(restore(network, lq, table, noise), 0, 1).transpose(0, 2, 3, 1)
            clean = gt.transpose(0, 2, 3, 1)
            each = [psnr(mine, theirs, 1.0) for mine, theirs in zip(restored, clean, strict=True)]
            alike = [ssim(mine, theirs, 1.0) for mine, theirs in zip(restored, clean, strict=True)]
            writer.writerow([*setting, seed, f"{np.mean(each):.3f}", f"{np.mean(alike):.4f}", f"{min(each):.3f}"])
            file.flush()


def read_rows(path: Path) -> list[dict[str, str]]:
    """What was measured."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@main.command()
@click.argument("engine", type=PATH)
@click.argument("photos", type=PATH)
def slopes(engine: Path, photos: Path) -> None:
    """Regress the network's output on the true noise, on exact states of the pairs."""
    network = open_engine(engine)
    sde = network.card.sde
    lq, gt = pairs(photos)
    evaluate = padded_evaluation(network, lq)
    print("| t | slope of the output on the noise | what maximum-likelihood training leads to |\n|---|---|---|")
    for t in SLOPES_AT:
        z = np.stack([normal_field(7, t, lq.shape[1:], frame=k) for k in range(len(lq))])
        y = np.float32(sde.a[t]) * (gt - lq) + np.float32(sde.sigma[t]) * z
        eps = evaluate(y.astype(np.float32), t)
        # the output may look at y_0 as well: both are regressed on, and the noise's share is the slope
        basis = np.stack([z.ravel(), (gt - lq).ravel(), np.ones(z.size)], axis=1).astype(np.float64)
        slope = np.linalg.lstsq(basis, eps.ravel().astype(np.float64), rcond=None)[0][0]
        u, v = sde.likelihood_bias(t)
        print(f"| {t} | {slope:.3f} | {u + v * sde.sigma[t]:.3f} |")


@main.command()
@click.argument("results", type=PATH)
@click.option("--plot", type=PATH, required=True)
def report(results: Path, plot: Path) -> None:
    """Print the tables as Markdown, and draw PSNR against the number of evaluations."""
    measured: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in read_rows(results):
        key = tuple(row[name] for name in COLUMNS[:5])
        measured[key].append((float(row["psnr"]), float(row["ssim"])))
    T = max(int(key[3]) for key in measured)
    print(f"{results.name}: onnxruntime {onnxruntime.__version__}, {platform.machine()}; mean of {len(SEEDS)} seeds\n")
    for debias, t0 in ((False, T), (True, T), (False, round(0.8 * T))):
        print(f"t0 = {t0}{', de-biased' if debias else ''}: PSNR dB (spread of the seeds' means) / SSIM\n")
        print(f"| evaluations | {' | '.join(SAMPLERS)} |\n|{'---|' * (len(SAMPLERS) + 1)}")
        for steps in STEPS:
            cells = [cell(measured.get((s, str(steps), str(debias), str(t0), str(GRID_EXPONENT)))) for s in SAMPLERS]
            print(f"| {steps} | {' | '.join(cells)} |")
        print()
    print(
        f"| sampler, evaluations | {' | '.join(f'exponent {e}' for e in EXPONENTS)} |\n|{'---|' * (len(EXPONENTS) + 1)}"
    )
    for sampler, steps in itertools.product(("posterior", "mean", "sde-2m"), (4, 8, 20)):
        cells = [cell(measured.get((sampler, str(steps), "False", str(T), str(e)))) for e in EXPONENTS]
        print(f"| {sampler}, {steps} | {' | '.join(cells)} |")
    draw(measured, T, plot, results.stem)


def cell(rows: list[tuple[float, float]] | None) -> str:
    """Mean PSNR with the standard deviation over seeds, and mean SSIM."""
    if not rows:
        return ""
    decibels, alike = np.array(rows).T
    return f"{decibels.mean():.2f} ({decibels.std():.2f}) / {alike.mean():.3f}"


def draw(measured: dict[tuple[str, ...], list[tuple[float, float]]], T: int, path: Path, title: str) -> None:
    """PSNR against the number of evaluations, a line a sampler; dashed: started at 0.8 T."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for index, sampler in enumerate(SAMPLERS):
        for t0, style in ((T, "-o"), (round(0.8 * T), "--x")):
            points = [
                (steps, np.mean(rows, axis=0)[0])
                for steps in STEPS
                if (rows := measured.get((sampler, str(steps), "False", str(t0), str(GRID_EXPONENT))))
            ]
            if points:
                label = sampler if t0 == T else None
                axes.plot(*zip(*points, strict=True), style, color=f"C{index}", label=label, markersize=4)
    axes.set(xscale="log", xlabel="network evaluations", ylabel="PSNR, dB", title=f"{title} (dashed: t0 = 0.8 T)")
    axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
    axes.grid(alpha=0.3)
    axes.legend(ncols=2)
    figure.savefig(path)


if __name__ == "__main__":
    main()
