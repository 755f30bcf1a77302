"""How cost grows: time and memory of one evaluation against megapixels and batch, and what the loop adds to the engine.

    python benchmarks/scaling.py ENGINE.onnx --plot docs/img/scaling.png [--provider auto]

Prints Markdown: seconds of an evaluation, what whole pictures take beyond their evaluations (with the noise of a new
seed, and with the noise that the picture before had), and the memory of a process that does one evaluation.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

import click
import numpy as np

from irsde_deploy import Restorer, load
from irsde_deploy.reports.machine import peak_memory
from irsde_deploy.reports.timing import Contestant

SIZES = ((1, 256, 256), (1, 512, 512), (1, 1024, 1024), (1, 2048, 2048), (2, 256, 256), (4, 256, 256), (8, 256, 256))
STEPS, REPEATS = 4, 5
WAYS = {
    "mean": ("mean", False),
    "mean, new noise": ("mean", True),
    "sde-2m": ("sde-2m", False),
    "sde-2m, new noise": ("sde-2m", True),
}


@click.command()
@click.argument("engine", type=click.Path(path_type=Path, exists=True))
@click.option("--plot", type=click.Path(path_type=Path), required=True)
@click.option("--provider", type=click.Choice(["onnxruntime", "openvino", "auto"]), default="auto", show_default=True)
def main(engine: Path, plot: Path, provider: str) -> None:
    """Measure every size."""
    restorer = load(engine, provider=provider)
    print(f"{platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads, {provider}")
    print(f"what the loop adds to {STEPS} evaluations, from uint8 to uint8\n")
    print(f"| batch x size | Mpx | an evaluation | s/Mpx | {' | '.join(WAYS)} | memory |\n|{'---|' * (len(WAYS) + 5)}")
    rows = []
    for batch, height, width in SIZES:
        alone, added = measure(restorer, batch, height, width)
        megapixels = batch * height * width / 1e6
        contestant = Contestant("", restorer, engine, provider)
        memory = peak_memory(contestant, (height, width)) if batch == 1 else None
        rows.append((batch, megapixels, alone, memory))
        room = "" if memory is None else f"{memory / 1e6:.0f} MB"
        cells = (f"{alone:.3f} s", f"{alone / megapixels:.2f}", *(f"{share:.1%}" for share in added), room)
        print(f"| {batch} x {height}x{width} | {megapixels:.2f} | {' | '.join(cells)} |", flush=True)
    print(f"\nengine: {restorer.engine.name}")
    draw(rows, plot)


def measure(restorer: Restorer, batch: int, height: int, width: int) -> tuple[float, list[float]]:
    """Median seconds of an evaluation, and for each way what a picture takes beyond its evaluations, in turns."""
    picture = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    x, t = np.full((batch, 3, height, width), 0.5, np.float32), np.full(batch, 30, np.float32)
    restorer(picture, sampler="mean", steps=1)
    calls: list[float] = []
    wholes: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(REPEATS):
        started = time.perf_counter()
        for _ in range(STEPS):
            restorer.engine(x, x, t)
        calls.append((time.perf_counter() - started) / STEPS)
        for way, (sampler, new) in WAYS.items():
            if not new:
                restorer(picture, sampler=sampler, steps=STEPS)  # draws the noise that the next one keeps
            started = time.perf_counter()
            restorer(picture, sampler=sampler, steps=STEPS, seed=repeat + 1 if new else 0)
            wholes[way].append(time.perf_counter() - started)
    alone = statistics.median(calls)
    return alone, [statistics.median(taken) / (STEPS * alone) - 1 for taken in wholes.values()]


def draw(rows: list[tuple[int, float, float, int | None]], path: Path) -> None:
    """Time and memory against megapixels, both logarithmic, with the line of proportional growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), dpi=120, layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    alone = [row for row in rows if row[0] == 1]
    many = [row for row in rows if row[1] <= 0.6]
    time_axes.loglog([r[1] for r in alone], [r[2] for r in alone], "o-", label="one picture")
    time_axes.loglog(
        [r[1] for r in many if r[0] > 1], [r[2] for r in many if r[0] > 1], "s-", label="batches of 256x256"
    )
    first = alone[0]
    time_axes.loglog([r[1] for r in alone], [first[2] * r[1] / first[1] for r in alone], ":", label="proportional")
    time_axes.set(xlabel="megapixels", ylabel="seconds an evaluation")
    time_axes.legend()
    memory_axes.loglog([r[1] for r in alone if r[3]], [r[3] / 1e6 for r in alone if r[3]], "o-")
    memory_axes.set(xlabel="megapixels", ylabel="MB of the process")
    for axes in (time_axes, memory_axes):
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path)


if __name__ == "__main__":
    main()
