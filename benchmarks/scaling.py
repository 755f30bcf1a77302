"""How cost grows: time and memory of one evaluation against megapixels and batch, and what the loop adds to the engine.

    python benchmarks/scaling.py ENGINE.onnx --plot docs/img/scaling.png [--provider auto]

Prints Markdown: seconds of a whole step of the loop and of the engine alone, in turns, and the memory of a process that
does one evaluation.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

import click
import numpy as np

from irsde_deploy import load, plan_steps
from irsde_deploy.bench import peak_memory
from irsde_deploy.noise import seeded_noise
from irsde_deploy.runtimes.numpy_loop import restore

SIZES = ((1, 256, 256), (1, 512, 512), (1, 1024, 1024), (1, 2048, 2048), (2, 256, 256), (4, 256, 256), (8, 256, 256))
STEPS, REPEATS = 2, 3


@click.command()
@click.argument("engine", type=click.Path(path_type=Path, exists=True))
@click.option("--plot", type=click.Path(path_type=Path), required=True)
@click.option("--provider", default="auto", show_default=True)
def main(engine: Path, plot: Path, provider: str) -> None:
    """Measure every size."""
    restorer = load(engine, provider=provider)
    print(f"{platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads, {provider}\n")
    print("| batch x size | Mpx | a step | engine alone | loop adds | s/Mpx | memory |\n|---|---|---|---|---|---|---|")
    rows = []
    for batch, height, width in SIZES:
        step, alone = measure(restorer, batch, height, width)
        megapixels = batch * height * width / 1e6
        memory = peak_memory(str(engine), provider, (height, width)) if batch == 1 else None
        rows.append((batch, megapixels, step, memory))
        room = "" if memory is None else f"{memory / 1e6:.0f} MB"
        size = f"{batch} x {height}x{width}"
        cells = (f"{step:.3f} s", f"{alone:.3f} s", f"{step / alone - 1:.1%}", f"{step / megapixels:.2f}", room)
        print(f"| {size} | {megapixels:.2f} | {' | '.join(cells)} |", flush=True)
    print(f"\nengine: {restorer.engine.name}")
    draw(rows, plot)


def measure(restorer: object, batch: int, height: int, width: int) -> tuple[float, float]:
    """Median seconds of one of two steps of the loop, noise and all, and of the engine's call alone, in turns."""
    mu = np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)
    table, t = plan_steps(restorer.sde, "sde-2m", STEPS), np.full(batch, 30, np.float32)
    noise = seeded_noise(0, mu.shape)
    restorer.engine(mu, mu, t)
    steps, calls = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        restore(restorer.engine, mu, table, noise)
        steps.append((time.perf_counter() - started) / STEPS)
        started = time.perf_counter()
        for _ in range(STEPS):
            restorer.engine(mu, mu, t)
        calls.append((time.perf_counter() - started) / STEPS)
    return statistics.median(steps), statistics.median(calls)


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
    time_axes.set(xlabel="megapixels", ylabel="seconds a step")
    time_axes.legend()
    memory_axes.loglog([r[1] for r in alone if r[3]], [r[3] / 1e6 for r in alone if r[3]], "o-")
    memory_axes.set(xlabel="megapixels", ylabel="MB of the process")
    for axes in (time_axes, memory_axes):
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path)


if __name__ == "__main__":
    main()
