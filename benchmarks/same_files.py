#!/usr/bin/env python3
"""Does a refactored irsde-deploy write the same files? Runs many command lines with two checkouts and compares.

    python3 benchmarks/same_files.py OLD_CHECKOUT NEW_CHECKOUT [--only NAME...] [--jobs 2] [--reuse-old] [--list]

Each case (a short name and some command lines) runs in /tmp/same_files/work/NAME, for both checkouts in turn, so that
paths in outputs are the same; OLD's results are then in /tmp/same_files/old, NEW's in /tmp/same_files/new. Compared are
exit codes, stdout, stderr (as `transcript.txt`; what differs by nature is masked, see MASKS), and every file, link and
empty folder with its permissions, by SHA-256; what may differ is listed, with the reason, in RULES.
Inputs (pictures, videos, engines) are made once, by OLD, in /tmp/same_files/in. Names are patterns (`run-*`).
--reuse-old takes OLD's results of the last run where checkout, commit and this file are the same.
Exit code: 0 all the same, 1 something differs, 2 the script cannot work (a case that does not do what it says, too).
"""

from __future__ import annotations

import argparse
import csv
import difflib
import fnmatch
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(os.environ.get("SAME_FILES_ROOT", "/tmp/same_files"))  # another one where two runs are to go on at once
IN, WORK = ROOT / "in", ROOT / "work"
SHARED = Path(__file__).resolve().parents[2] / "shared"
TIMEOUT = 400  # seconds, of one command

# ---------------------------------------------------------------------------------------------------------------------
# What may differ, and why
# ---------------------------------------------------------------------------------------------------------------------

MASKS = [  # of what is printed: (pattern, replacement, reason)
    (r"\bin \d+\.\d s\b", "in T s", "elapsed seconds of run, build"),
    (r"(\d+ frames in T s, )\d+\.\d+ fps", r"\1F fps", "speed of a video"),
    (r"(\d+ frames, )\d+\.\d\d fps", r"\1F fps", "speed of a pipe"),
    (r"frame (\d+): \d+\.\d ms", r"frame \1: T ms", "latency of a frame on a pipe"),
    (r"latency \d+\.\d ms \(median\), \d+\.\d ms", "latency T ms (median), T ms", "latencies of a pipe"),
    (r"(an evaluation at \S+ takes) \S+ s", r"\1 T s", "measured for --target-seconds, --target-fps"),
    (r"(even \w+ takes) \S+ s a picture", r"\1 T s a picture", "measured for --target-seconds, --target-fps"),
    (r"\| seconds \| \S+ \|", "| seconds | T |", "evaluate: seconds a picture"),
    (r"\.[0-9a-f]{12}\.part\b", ".TOKEN.part", "random name of a temporary file"),
    (re.escape(f"{ROOT}/tmp/") + r"\S+", "TMP", "random name of a temporary file"),
]
BENCH_MASKS = [  # of bench alone, which prints little else than measurements
    (r"\d+\.\d ms", "T ms", "time"),
    (r"\| \d+\.\d+ s \|", "| T s |", "time"),
    (r"matrix products at \S+ GFLOP/s", "matrix products at G GFLOP/s", "measured peak"),
    (r"(T ms \| T ms \|) [\d.]* \| [\d.]*%?", r"\1 G | S", "operations a second, share of the peak"),
    (r": \d+ MB at most", ": M MB at most", "measured memory"),
]
TRAIN_MASKS = [  # of a checkpoint just trained, whose bytes hold seconds and a random name
    (r"(\"?sha256\"?: \"?)[0-9a-f]{64}", r"\1H", "inspect: SHA-256 of the checkpoint"),
]
INTERRUPT_MASKS = [  # how far a run was when the signal came
    (r"\d+ frames are done already", "K frames are done already", "when the signal came"),
    (r"\d+ frames in T s", "K frames in T s", "when the signal came"),
    (r"holds the first \d+\.\d+ s", "holds the first T s", "when the signal came"),
]


def seconds_of_csv(data: bytes) -> bytes:
    """A CSV without its column `seconds`."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    if not rows or "seconds" not in rows[0]:
        return data
    index = rows[0].index("seconds")
    for row in rows[1:]:
        if len(row) > index and row[index]:
            row[index] = "T"
    return json.dumps(rows).encode()


def seconds_of_json(data: bytes) -> bytes:
    """summary.json of evaluate without the seconds; the order of keys counts."""
    summary = json.loads(data)
    if "seconds" in summary.get("mean", {}):
        summary["mean"]["seconds"] = "T"
    return json.dumps(summary, indent=2).encode()


def seconds_of_markdown(data: bytes) -> bytes:
    return re.sub(rb"\| seconds \| \S+ \|", b"| seconds | T |", data)


def measurements_of_bench(data: bytes) -> bytes:
    """bench.json without what was measured; None stays None."""
    measured = {"median", "p95", "gflops", "share", "matrix_product_peak_gflops"}

    def without(value, key=""):
        if isinstance(value, dict):
            inner = "median" if key == "peak_memory_bytes" else ""
            return {name: without(entry, inner or name) for name, entry in value.items()}
        if isinstance(value, list):
            return [without(entry) for entry in value]
        return "T" if key in measured and value is not None else value

    return json.dumps(without(json.loads(data)), indent=2).encode()


def without_matroska_ids(data: bytes) -> bytes:
    """Matroska, WebM without what FFmpeg draws at random in each file, and the checksums over that; clusters stay."""

    def number(at: int, keep: bool) -> tuple[int, int]:
        """An EBML number (an ID keeps its marker) and where it ends."""
        length = 9 - data[at].bit_length()
        value = int.from_bytes(data[at : at + length], "big")
        return (value if keep else value & ((1 << 7 * length) - 1)), at + length

    def elements(at: int, end: int):
        while at < end:
            kind, at = number(at, True)
            size, at = number(at, False)
            yield kind, at, min(at + size, end)
            at += size

    blank = bytearray(data)
    for kind, start, stop in elements(0, len(data)):
        if kind != 0x18538067:  # Segment
            continue
        for part, first, last in elements(start, stop):
            if part in (0x1549A966, 0x1654AE6B, 0x1254C367):  # Info, Tracks, Tags
                held = data[first:last]
                if held[:2] == b"\xbf\x84":  # CRC-32
                    held = held[:2] + bytes(4) + held[6:]
                held = re.sub(rb"\x73\xa4\x90.{16}", b"\x73\xa4\x90" + bytes(16), held, flags=re.DOTALL)  # SegmentUID
                held = re.sub(
                    rb"([\x73\x63]\xc5\x88).{8}", rb"\1" + bytes(8), held, flags=re.DOTALL
                )  # TrackUID, TagTrackUID
                blank[first:last] = held
    return bytes(blank)


def hash_of_matroska_piece(data: bytes) -> bytes:
    """A piece's JSON in a work folder without the SHA-256 of the piece, which is compared itself."""
    return re.sub(rb'("file": \[\d+, )"[0-9a-f]{64}"', rb'\1"H"', data)


def time_of_partial(data: bytes) -> bytes:
    """partial.json of a work folder without the time of the file that it names."""
    return re.sub(rb'("state": \[\d+, )\d+', rb"\1T", data)


def hashes_of_manifest(data: bytes) -> bytes:
    """A calibration's manifest without the hash of the graph it wrote; for two versions of irsde-deploy only."""
    return re.sub(rb'("output_sha256": )"[0-9a-f]{64}"', rb'\1"H"', data)


RULES = [  # (case pattern, file pattern, how both are made comparable, reason); only where the bytes differ
    ("evaluate*", "*pictures.csv", seconds_of_csv, "seconds a picture took"),
    ("evaluate*", "*summary.json", seconds_of_json, "mean seconds a picture"),
    ("evaluate*", "*summary.md", seconds_of_markdown, "mean seconds a picture"),
    ("bench*", "*bench.json", measurements_of_bench, "times, speeds, memory"),
    ("bench*", "*bench.png", None, "PSNR drawn against measured seconds"),
    ("train*", "*log.csv", seconds_of_csv, "seconds of training"),
    (
        "train*",
        "*.pt",
        "torch",
        "seconds of training in training.tally, the zip's folder named after the temporary file; all else (tensors, card, plan, names) is compared",
    ),
    ("train*", "*events.out.tfevents.*", "events", "wall times; tags, steps and values but `seconds` are compared"),
    ("*", "*.mkv", without_matroska_ids, "SegmentUID, TrackUID, TagTrackUID: random in each file; checksums over them"),
    (
        "*",
        "*.webm",
        without_matroska_ids,
        "SegmentUID, TrackUID, TagTrackUID: random in each file; checksums over them",
    ),
    ("video*", "*.mkv.irsde/[0-9]*.json", hash_of_matroska_piece, "SHA-256 of a Matroska piece, which has random IDs"),
    ("video*", "*.irsde/partial.json", time_of_partial, "time of the partial file"),
]
VERSION_RULES = [  # where the two checkouts have different versions
    ("*", "*.onnx", "onnx", "producer_version and the card's tool_version"),
    ("calibrate*", "*.json", hashes_of_manifest, "hash of a graph that holds the version"),
]
HOME_IGNORED = ["intel/*"]  # what openvino-telemetry keeps about its user, not ours
TEXT = {".txt", ".csv", ".json", ".md", ".yml", ".toml", ".h", ""}

# ---------------------------------------------------------------------------------------------------------------------
# The cases. @ is the folder of inputs; [N] is the exit code that is expected, 0 otherwise; < and > redirect;
# !cp, !rm, !mkdir, !cut FILE BYTES, !set FILE TEXT; !interrupt GLOB COMMAND: SIGINT once a file of that name is there;
# !python NAME: one of PROGRAMS, run by the checkout's Python.
# ---------------------------------------------------------------------------------------------------------------------

COMMANDS = [
    "train",
    "export",
    "calibrate",
    "build",
    "run",
    "verify",
    "evaluate",
    "bench",
    "degrade",
    "pack",
    "selftest",
    "inspect",
    "doctor",
]
GOLDEN_SDE = "--max-sigma 10 -T 100 --schedule cosine --eps 0.005"
CASES: dict[str, list[str]] = {}


def case(name: str, commands: str) -> None:
    assert name not in CASES, name
    CASES[name] = [line.strip() for line in commands.strip().splitlines() if line.strip()]


case("help", "\n".join(["--help", "--version", "[2]", *(f"{name} --help" for name in COMMANDS)]))
case("doctor", "doctor")

# -- export
case(
    "export-nafnet-opt",
    "export @shared/golden/nafnet_w16/weights.pth --opt @shared/checkpoints/derain_nafnet_w16.yml -o a.onnx",
)
case("export-unet-recipe", "export @shared/golden/unet_nf8_depth4/weights.pth --recipe derain -o a.onnx --opset 17")
case(
    "export-latent",
    "export @shared/golden/latent_nafnet_w8/weights.pth --form latent --max-sigma 50 -T 20 --schedule cosine --eps 0.005 --task haze -o a.onnx --opset 20",
)
case("export-asset-derain", "export @assets/derain_nafnet_w16.safetensors -o a.onnx")
case(
    "export-asset-denoise",
    """
    export @assets/denoise_nafnet_w16.safetensors -o a.onnx --whole-loop --noise-level 25 --sampler sde-2m --steps 4 --clip
""",
)
case(
    "export-reference-checkpoint",
    "export @shared/checkpoints/derain_nafnet_w16.pth --opt @shared/checkpoints/derain_nafnet_w16.yml -o a.onnx --task rain --eps 0.01 --schedule linear",
)
case(
    "export-tiny",
    """
    !cp @tiny.pt t.pt
    export t.pt
    [1] export t.pt
    export t.pt --overwrite --opset 19 --task something
    export @random.safetensors -o r.onnx
    export @random.pth -o u.onnx --recipe @tiny_recipe.toml
""",
)
case("export-fp16", "export @tiny.pt -o a.onnx --precision fp16 --pictures @pairs/LQ --opset 17")
case("export-mixed", "export @tiny.pt -o a.onnx --precision mixed --pictures @pairs/LQ/p0.png")
case("export-mixed-budget", "export @tiny.pt -o a.onnx --psnr-budget 75 --pictures @pairs/LQ")
case("export-denoise-small", "export @denoise.pt -o a.onnx --precision mixed")
case(
    "export-whole-loop",
    """
    export @tiny.pt --whole-loop -o a.onnx --sampler posterior --steps 4
    export @tiny.pt --whole-loop -o b.onnx --sampler sde-2m --steps 5 --noise-input seed --debias --clip
    export @tiny.pt --whole-loop -o c.onnx --quality draft --precision fp16
""",
)
case(
    "export-whole-loop-onnx",
    """
    export @tiny.onnx --whole-loop -o euler.onnx --sampler euler --steps 20
    export @tiny.onnx --whole-loop -o ode.onnx --sampler ode --steps 20 --clip
    export @tiny.onnx --whole-loop -o mean.onnx --sampler mean --steps 3 --t0 15
    export @tiny.onnx --whole-loop -o ddim.onnx --sampler ddim --steps 3 --noise-input seed
    export @tiny.onnx --whole-loop -o ode-2m.onnx --sampler ode-2m --steps 3 --debias
    export @tiny.onnx --whole-loop -o seed.onnx --sampler posterior --steps 3 --noise-input seed
    export @denoise.onnx --whole-loop -o dn.onnx --sampler ode-2m --steps 3 --noise-level 30
    export @denoise.onnx --whole-loop -o t0.onnx --sampler posterior --steps 3 --t0 14 --noise-input seed
    export @denoise.onnx --whole-loop -o zero.onnx --sampler mean --steps 3 --t0 14 --noise-input seed
    export @latent.onnx --whole-loop -o latent.onnx --sampler mean --steps 2
    export @int8.onnx --whole-loop -o int8.onnx --sampler mean --steps 3
    inspect dn.onnx
    inspect --json euler.onnx
    inspect t0.onnx --json
    [1] run --engine mean.onnx @pics/rgb8.png -o x.png
""",
)
case(
    "export-errors",
    """
    [1] export @missing.pt -o a.onnx
    [2] export @random.pth -o a.onnx
    [2] export @tiny.pt -o a.txt
    [2] export @tiny.pt -o a.onnx --precision fp16 --psnr-budget 50
    [2] export @tiny.pt -o a.onnx --pictures @pairs/LQ
    [2] export @tiny.pt -o a.onnx --min-size 64x64
    [2] export @tiny.pt -o a.onnx --sampler mean
    [2] export @tiny.pt -o a.onnx --opset 30
    [1] export @tiny.pt -o a.onnx --recipe nonsense
    [2] export @latent.onnx -o a.onnx --whole-loop --clip
    [2] export @denoise.onnx -o a.onnx --whole-loop
    [2] export @tiny.onnx -o a.onnx --whole-loop --opset 18
    [2] export @tiny.onnx -o a.onnx --whole-loop --sampler euler --steps 5
    [2] export @tiny.onnx -o a.onnx --whole-loop --quality fast --steps 3
    [2] export @tiny.pt -o a.onnx --whole-loop --noise-input seed --opset 17
    [2] export @tiny.pt -o a.onnx --whole-loop --engine a.plan
    [1] export @broken.pth -o a.onnx
    [1] export @random.pth -o a.onnx --opt @bad.yml
    [2] export @tiny.pt -o a.onnx --unknown-option
""",
)

# -- calibrate
case(
    "calibrate-pairs",
    """
    calibrate @quantisable.onnx --data @small_pairs -o a.onnx --states 16
    calibrate @quantisable.onnx --data @small_pairs/LQ,@small_pairs/GT -o b.onnx --states 16 --residuals --sampler sde-2m --steps 4
    calibrate @quantisable.onnx --data @small_pairs -o c.onnx --states 8 --method minmax --seed 3 --crop 16
    calibrate @quantisable.onnx --data @small_pairs -o d.onnx --states 8 --method percentile --quality draft
    calibrate @quantisable.onnx --data @small_pairs -o e.onnx --states 8 --method entropy --rest fp16 --t0 80
    calibrate @quantisable.onnx --data @small_pairs -o a.onnx --states 16 --overwrite
    inspect a.onnx
    inspect --json b.onnx
    run --engine a.onnx @pics/rgb8.png -o r.png
    run --engine b.onnx @pics/rgb8.png -o s.png --sampler mean --steps 10
    verify a.onnx --tiled 32 --picture @pics/rgb8.png
""",
)
case(
    "calibrate-manifest",
    """
    !mkdir one
    !mkdir two
    calibrate @quantisable.onnx --data @small_pairs -o one/a.onnx --most-states 64
    calibrate @quantisable.onnx --manifest one/a.json -o two/a.onnx
    calibrate @quantisable.onnx --manifest one/a.json -o two/b.onnx --data @small_pairs --cache one
    calibrate @quantisable.onnx --manifest one/a.json -o one/a.onnx --overwrite
    [2] calibrate @quantisable.onnx --manifest one/a.json -o two/c.onnx --states 3
    [1] calibrate @small.onnx --manifest one/a.json -o two/c.onnx
    [1] calibrate @quantisable.onnx --manifest @bad.yml -o two/c.onnx
""",
)
case(
    "calibrate-lq",
    "calibrate @quantisable.onnx --data @small_pairs/LQ -o a.onnx --states 12 --clip\ncalibrate @tiny.onnx --data @pairs/LQ -o b.onnx --states 6 --steps 3",
)
case(
    "calibrate-budget",
    "calibrate @quantisable.onnx --data @small_pairs -o a.onnx --states 16 --psnr-budget 28\ncalibrate @quantisable.onnx --data @small_pairs -o b.onnx --states 16 --psnr-budget 24 --rest fp32 --debias",
)
case(
    "calibrate-report",
    "calibrate @quantisable.onnx --data @small_pairs -o a.onnx --states 8 --report report\n[1] calibrate @quantisable.onnx --data @small_pairs -o b.onnx --states 8 --report report",
)
case("calibrate-tiny", "calibrate @tiny.onnx --data @pairs -o a.onnx --states 8 --crop 32 --psnr-budget 30")
case(
    "calibrate-denoise",
    "calibrate @dn_quantisable.onnx --data @small_pairs -o a.onnx --states 8 --noise-level 25\ncalibrate @dn_quantisable.onnx --data @small_pairs/LQ -o b.onnx --states 8 --t0 60\ninspect a.onnx\npack a.onnx -o p --noise-level 40 --size 16x20",
)
case(
    "calibrate-errors",
    """
    [2] calibrate @quantisable.onnx -o a.onnx
    [1] calibrate @quantisable.onnx --data @missing -o a.onnx
    [2] calibrate @dn_quantisable.onnx --data @small_pairs -o a.onnx
    [2] calibrate @quantisable.onnx --data @small_pairs -o a.onnx --states 4 --most-states 8
    [2] calibrate @quantisable.onnx --data @small_pairs -o a.txt
    [2] calibrate @quantisable.onnx --data @small_pairs -o ranges-a.onnx
    [2] calibrate @quantisable.onnx --data @small_pairs -o a.onnx --psnr-budget 900 --states 4
    [2] calibrate @latent.onnx --data @small_pairs -o a.onnx
    [2] calibrate @int8.onnx --data @small_pairs -o a.onnx
    [1] calibrate @tiny.pt --data @small_pairs -o a.onnx
    [2] calibrate @quantisable.onnx --data @small_pairs -o a.onnx --quality fast --steps 3
""",
)

# -- pack, selftest
case(
    "pack-samplers",
    "\n".join(
        [
            *(
                f"pack @tiny.onnx -o {name} --sampler {name} --steps {steps} --size 21x35 --seed {steps}"
                for name, steps in (
                    ("euler", 20),
                    ("ode", 20),
                    ("posterior", 4),
                    ("mean", 2),
                    ("ddim", 3),
                    ("sde-2m", 4),
                    ("ode-2m", 4),
                )
            ),
            "pack @tiny.onnx -o card",
            "pack @tiny.onnx -o clip --sampler sde-2m --steps 3 --clip --debias --t0 16 --size 1x1",
            "pack @small.onnx -o fast --quality fast --picture @pics/rgb8.png",
            "pack @small.onnx -o deep --quality draft --picture @pics/rgb16.png --seed 18446744073709551615",
            "selftest sde-2m",
            "selftest fast",
            "selftest euler",
            "[1] pack @small.onnx -o fast --quality fast",
            "pack @small.onnx -o fast --quality draft --overwrite --size 16x16",
            "!mkdir taken",
            "!set taken/mine.txt mine",
            "[1] pack @small.onnx -o taken --overwrite",
        ]
    ),
)
case(
    "pack-denoise",
    "pack @denoise.onnx -o a --noise-level 25 --size 21x35 --sampler mean --steps 3\npack @denoise.onnx -o b --t0 13 --sampler sde-2m --steps 3 --size 33x20\n[2] pack @denoise.onnx -o c\nselftest a\nselftest b",
)
case(
    "pack-precisions",
    "pack @fp16.onnx -o fp16 --sampler mean --steps 2 --size 16x24\npack @int8.onnx -o int8 --sampler mean --steps 3 --size 16x24\npack @latent.onnx -o latent --size 16x24\nselftest fp16\nselftest int8\nselftest latent\npack @int8.onnx -o beyond --sampler sde-2m --steps 6 --size 16x24",
)
case(
    "selftest-damaged",
    """
    pack @small.onnx -o a --size 16x16
    !cut a/reference_output.npy 200
    [1] selftest a
    !rm a/steps.txt
    [1] selftest a
    pack @small.onnx -o b --size 16x16
    !cp @other_output.npy b/reference_output.npy
    [3] selftest b
    !cp @other_noise.npy b/reference_noise.npy
    [1] selftest b
    [1] selftest missing
    [2] pack @small.onnx -o c --size 16x16 --picture @pics/rgb8.png
    [2] pack @small.onnx -o c --size 16
    [2] pack @latent.onnx -o c --clip
    [2] pack @small.onnx -o c --quality best --sampler mean
    [2] pack @tiny.pt -o c
""",
)

# -- run: pictures
RUN = "run --engine @small.onnx"
case(
    "run-kinds",
    f"""
    {RUN} @pics -o out
    [1] {RUN} @pics -o out
    {RUN} @pics -o out --skip-existing
    {RUN} @pics/rgb8.png @pics/grey16.png -o out --overwrite --seed 1
    {RUN} '@pics/*.png' -o globbed --batch 3
    {RUN} '@pics/**/*.jp*g' -o deep
""",
)
case(
    "run-formats",
    "\n".join(
        [f"{RUN} @pics -o {suffix} --format {suffix}" for suffix in ("png", "jpg", "webp", "tiff")]
        + [
            f"{RUN} @pics/rgba8.png -o a.jpg",
            f"{RUN} @pics/deep16.tif -o b.webp",
            f"{RUN} @pics/orient.jpg -o c.tiff",
            f"[1] {RUN} @pics/rgb8.png -o d.gif",
            f"[1] {RUN} @pics/rgb8.png @pics/grey8.png -o e.png",
        ]
    ),
)
case(
    "run-broken",
    f"""
    [4] {RUN} @mixed -o out
    [4] {RUN} @mixed -o out --skip-existing
    [4] {RUN} @mixed/broken.png -o b.png
    [4] {RUN} @mixed -o batched --batch 4
    [1] {RUN} @missing.png -o b.png
    [1] {RUN} '@pics/none*.png' -o b.png
""",
)
case(
    "run-samplers",
    "\n".join(
        [
            f"run --engine @tiny.onnx @pics/rgb8.png -o {n}.png --sampler {n} --steps {k}"
            for n, k in (
                ("euler", 20),
                ("ode", 20),
                ("posterior", 5),
                ("mean", 4),
                ("ddim", 4),
                ("sde-2m", 5),
                ("ode-2m", 5),
            )
        ]
        + [
            "run --engine @tiny.onnx @pics/rgb8.png -o card.png",
            "run --engine @tiny.onnx @pics/rgb16.png -o t0.png --sampler sde-2m --steps 4 --t0 12 --seed 77 --debias --clip",
        ]
    ),
)
case(
    "run-quality",
    "\n".join(
        [
            f"run --engine @derain.onnx @pics/rgb8.png -o {q}.png --quality {q}"
            for q in ("draft", "fast", "balanced", "best", "psnr")
        ]
        + [
            "run --engine @derain.onnx @pics/rgb8.png -o clip.png --quality fast --clip --seed 3",
            "run --engine @derain.onnx @pics/rgb8.png -o debias.png --quality fast --debias",
            "run --engine @derain.onnx @pics/rgb8.png -o target.png --target-seconds 10000",
            "run --engine @derain.onnx @pics/rgb8.png -o least.png --target-fps 10000000",
        ]
    ),
)
case(
    "run-tiles",
    """
    run --engine @derain.onnx @rain_small.png -o a.png --quality draft --tile 64
    run --engine @derain.onnx @rain_small.png -o b.png --quality draft --tile 64 --overlap 0
    run --engine @derain.onnx @rain_small.png -o c.png --sampler sde-2m --steps 3 --tile 96 --overlap 16 --clip
    run --engine @derain.onnx @rain_small.png -o d.png --quality draft --tile whole
    run --engine @derain.onnx @rain_small.png -o e.png --quality draft --tile auto
    run --engine @small.onnx @pics -o many --tile 16 --overlap 5 --batch 2
    [2] run --engine @small.onnx @pics/rgb8.png -o x.png --tile 0
    [2] run --engine @small.onnx @pics/rgb8.png -o x.png --tile 16 --overlap 12
    [2] run --engine @small.onnx @pics/rgb8.png -o x.png --tile wide
    run --engine @small.onnx @pics/rgb8.png -o x.png --overlap 12
""",
)
case("run-real", "run --engine @derain.onnx @shared/pictures/rain/1.png @assets/rain.png -o out --quality draft")
case(
    "run-openvino",
    """
    run --engine @derain.onnx @pics/rgb8.png -o a.png --quality fast --engine-provider openvino
    run --engine @tiny.onnx @pics -o b --engine-provider openvino --sampler sde-2m --steps 3
    run --engine @denoise.onnx @pics/rgb16.png -o c.png --engine-provider openvino --noise-level 20
    run --engine @int8.onnx @pics/rgb8.png -o d.png --engine-provider openvino
    run --engine @fp16.onnx @pics/rgb8.png -o e.png --engine-provider openvino --tile 32
""",
)
case(
    "run-checkpoint",
    """
    run --engine @tiny.pt @pics/rgb8.png -o a.png
    run --engine @assets/derain_nafnet_w16.safetensors @pics/rgb8.png @pics/grey8.png -o b --quality draft
    run --engine @denoise.pt @pics/rgb8.png -o c.png --noise-level 15 --steps 3
    [1] run --engine @shared/golden/nafnet_w16/weights.pth @pics/rgb8.png -o d.png
""",
)
case(
    "run-denoise",
    """
    run --engine @denoise.onnx @pics -o blind
    run --engine @denoise.onnx @pics/rgb8.png -o a.png --noise-level 25 --sampler sde-2m --steps 5
    run --engine @denoise.onnx @pics/rgb8.png -o b.png --t0 14 --quality draft
    [2] run --engine @denoise.onnx @pics/rgb8.png -o c.png --t0 14 --noise-level 3
    [2] run --engine @denoise.onnx @pics/rgb8.png -o c.png --noise-level 300
    [2] run --engine @small.onnx @pics/rgb8.png -o c.png --noise-level 3
""",
)
case(
    "run-fallback",
    """
    run --engine @fp16.onnx --fallback @tiny.onnx @pics/rgb8.png -o a.png
    run --engine @overflowing.onnx --fallback @small.onnx @pics/rgb8.png @pics/grey8.png -o b
    [4] run --engine @overflowing.onnx @pics/rgb8.png -o c.png
    [2] run --engine @small.onnx --fallback @tiny.onnx @pics/rgb8.png -o d.png
    [2] run --engine @small.onnx --fallback @fp16.onnx @pics/rgb8.png -o d.png
""",
)
case(
    "run-errors",
    f"""
    [2] {RUN} @pics/rgb8.png -o x.png --quality fast --steps 3
    [2] {RUN} @pics/rgb8.png -o x.png --target-fps 2 --quality fast
    [2] {RUN} @pics/rgb8.png -o x.png --target-fps 2 --target-seconds 1
    [2] {RUN} @pics/rgb8.png -o x.png --target-seconds -1
    [2] {RUN} @pics/rgb8.png -o x.png --sampler euler --steps 3
    [2] {RUN} @pics/rgb8.png -o x.png --steps 0
    [2] {RUN} @pics/rgb8.png -o x.png --steps 101
    [2] {RUN} @pics/rgb8.png -o x.png --seed -1
    [2] {RUN} @pics/rgb8.png -o x.png --codec libx264
    [2] {RUN} @pics/rgb8.png -o x.png --rebuild
    [2] {RUN} @pics/rgb8.png -o x.png --sampler nonsense
    [5] {RUN} @pics/rgb8.png -o x.png --device cuda
    [2] {RUN} @pics/rgb8.png -o x.png --engine-provider cuda
    [2] {RUN} @pics/rgb8.png
    [2] run @pics/rgb8.png -o x.png
    [2] run --engine @latent.onnx @pics/rgb8.png -o x.png
    [1] run --engine @missing.onnx @pics/rgb8.png -o x.png
    [1] run --engine @broken.onnx @pics/rgb8.png -o x.png
    [1] run --engine @pics/rgb8.png @pics/rgb8.png -o x.png
    [1] run --engine @missing.plan @pics/rgb8.png -o x.png
    [1] {RUN} @empty -o out
    [1] {RUN} '' -o out
    [2] nonsense
""",
)

# -- run: videos
case(
    "video-mp4",
    f"{RUN} @v/in.mp4 -o out.mp4\n[1] {RUN} @v/in.mp4 -o out.mp4\n{RUN} @v/in.mp4 -o out.mp4 --overwrite --seed 5 --crf 30 --preset ultrafast",
)
case(
    "video-containers",
    f"{RUN} @v/in.mp4 -o out.mkv\n{RUN} @v/in.mp4 -o out.mov --quality draft\n{RUN} @v/vfr.mkv -o vfr.mp4\n{RUN} @v/vfr.mkv -o vfr.m4v",
)
case("video-webm", f"{RUN} @v/in.webm -o out.webm --end 0.2\n{RUN} @v/in.mp4 -o from.webm --end 0.12")
case(
    "video-part",
    f"{RUN} @v/in.mp4 -o a.mp4 --start 0.1 --end 00:00:00.300\n{RUN} @v/vfr.mkv -o b.mkv --start 0.1\n{RUN} @v/in.mp4 -o c.mp4 --end 0.2\n[1] {RUN} @v/in.mp4 -o d.mp4 --start 100",
)
case(
    "video-noise",
    f"{RUN} @v/in.mp4 -o a.mp4 --noise per-frame --sampler posterior --steps 3\n{RUN} @v/in.mp4 -o b.mp4 --noise per-frame --batch 3 --sampler posterior --steps 3 --seed 4\n{RUN} @v/in.mp4 -o c.mp4 --noise fixed --batch 4 --segment 0.12",
)
case(
    "video-formats",
    f"""
    {RUN} @v/in.mp4 -o a.mp4 --pix-fmt yuv444p10le
    {RUN} @v/in.mp4 -o b.mkv --codec libx265 --crf 28 --preset ultrafast
    {RUN} @v/in.mp4 -o c.mkv --codec ffv1
    {RUN} @v/deep.mkv -o d.mkv --codec ffv1
    {RUN} @v/rgb.mkv -o e.mkv --codec ffv1
    {RUN} @v/grey.mkv -o f.mkv --codec ffv1
    {RUN} @v/turned.mp4 -o g.mp4
    {RUN} @v/in.mp4 -o h.mp4 --matrix bt709
    {RUN} @v/odd.mkv -o i.mp4 --pix-fmt yuv444p
    {RUN} @v/in.mp4 -o j.mp4 --tile 32 --overlap 8
    {RUN} @v/in.mp4 -o k.mp4 --engine-provider openvino
    {RUN} @v/in.mp4 -o l.mp4 --target-seconds 1000
    {RUN} @v/in.mp4 -o m.mp4 --target-fps 1e7
    run --engine @denoise.onnx @v/in.mp4 -o n.mp4 --end 0.1
    run --engine @int8.onnx @v/in.mp4 -o o.mp4 --sampler sde-2m --steps 6 --end 0.1
""",
)
case("video-real", "run --engine @derain.onnx @shared/pictures/video/bikes.mp4 -o out.mp4 --quality draft --end 0.1")
case(
    "video-several",
    f"""
    {RUN} @v/in.mp4 @v/vfr.mkv @v/clip.ts -o out
    {RUN} @v/in.mp4 @v/vfr.mkv -o out --skip-existing
    [4] {RUN} @v/in.mp4 @v/broken.mp4 @v/vfr.mkv -o other
    [4] {RUN} @v/short.mp4 -o s.mp4
    [4] {RUN} @v/short.mkv -o s.mkv
""",
)
case(
    "video-cut-off",
    f"""
    [1] {RUN} @v/changing.ts -o out.mkv --segment 0.12
    [1] {RUN} @v/changing.ts -o out.mkv --segment 0.12
    [1] {RUN} @v/changing.ts -o out.mkv --segment 0.12 --resume
    [1] {RUN} @v/changing.ts -o out.mkv --segment 0.2 --resume
    [1] {RUN} @v/changing.ts -o out.mkv --segment 0.12 --resume --seed 9
    {RUN} @v/in.mp4 -o out.mp4
    [1] {RUN} @v/in.mp4 -o out.mp4 --resume
    [1] {RUN} @v/changing.ts -o again.mp4 --segment 0.12 --noise per-frame
    [1] {RUN} @v/changing.ts -o again.mp4 --segment 0.16 --noise per-frame --overwrite
""",
)
case(
    "video-interrupted",
    """
    !interrupt .out.mp4.irsde/000002.json [130] run --engine @tiny.onnx @v/long.mp4 -o out.mp4 --sampler sde-2m --steps 20 --segment 0.12
    run --engine @tiny.onnx @v/long.mp4 -o out.mp4 --sampler sde-2m --steps 20 --segment 0.12 --resume
""",
)
case(
    "video-errors",
    f"""
    [2] {RUN} @v/in.mp4 @pics/rgb8.png -o out
    [1] {RUN} @v/missing.mp4 -o out.mp4
    [1] {RUN} @v/in.mp4 -o out.avi
    [1] {RUN} @v/in.mp4 @v/vfr.mkv -o out.mp4
    [2] {RUN} @v/in.mp4 -o out.mp4 --format png
    [2] {RUN} @v/in.mp4 -o out.mp4 --size 4x4
    [2] {RUN} @v/in.mp4 -o out.mp4 --start nonsense
    [2] {RUN} @v/in.mp4 -o out.mp4 --codec nonsense
    [2] {RUN} @v/in.mp4 -o out.mp4 --pix-fmt nonsense
    [2] {RUN} @v/in.mp4 -o out.mp4 --crf 99
    [2] {RUN} @v/in.mp4 -o out.mp4 --preset nonsense
    [2] {RUN} @v/odd.mkv -o odd.mp4 --pix-fmt yuv420p
    [1] {RUN} @v/broken.mp4 -o out.mp4
    {RUN} @v/in.mp4 -o out.mp4 --resume
    [2] {RUN} @v/in.mp4 -o out.mp4 --target-fps 3 --quality fast
    [2] {RUN} @v/in.mp4 -o out.mp4 --start 2 --end 1
""",
)

# -- run: pipes
case(
    "pipe",
    f"""
    {RUN} - -o - < @y/a420.y4m > a.y4m
    {RUN} - -o - --noise per-frame --sampler posterior --steps 3 --batch 2 < @y/a420.y4m > b.y4m
    {RUN} - -o - --matrix bt709 --quality draft < @y/a444p10.y4m > c.y4m
    {RUN} - -o - < @y/mono.y4m > d.y4m
    {RUN} - -o - < @y/a422full.y4m > e.y4m
    {RUN} - -o - --size 48x32 < @y/raw.rgb > f.rgb
    {RUN} - -o - --size 48x32 --pix-fmt bgr24 --tile 24 < @y/raw.rgb > g.bgr
    {RUN} - -o - --size 24x32 --pix-fmt rgb48le --batch 3 < @y/raw.rgb > h.rgb
    {RUN} - -o - --size 24x32 --pix-fmt bgr48le < @y/raw.rgb > i.bgr
    run --engine @denoise.onnx - -o - < @y/a420.y4m > j.y4m
    {RUN} - -o - --target-seconds 1000 < @y/a420.y4m > k.y4m
    [1] {RUN} - -o - < @y/torn.y4m > l.y4m
    [1] {RUN} - -o - < @pics/rgb8.png > m.y4m
    [1] {RUN} - -o - < @y/empty > n.y4m
    [1] {RUN} - -o - --size 48x31 < @y/raw.rgb > o.rgb
    [2] {RUN} - -o p.y4m < @y/a420.y4m
    [2] {RUN} - -o - --pix-fmt rgb24 < @y/a420.y4m > q.y4m
    [2] {RUN} - -o - --codec libx264 < @y/a420.y4m > r.y4m
    [2] {RUN} - -o - --overwrite < @y/a420.y4m > s.y4m
    [2] {RUN} - -o - --size 4 < @y/raw.rgb > t.y4m
    {RUN} - -o - < @y/interlaced.y4m > u.y4m
""",
)

# -- verify
case(
    "verify-against",
    """
    verify @tiny.onnx --against @tiny.pt --csv a.csv --plot a.png
    verify @tiny.onnx --against @tiny.pt --csv b.csv --plot b.png --sampler sde-2m --steps 5 --picture @pics/rgb8.png --seed 1
    verify @fp16.onnx --against @tiny.pt --csv c.csv --plot c.png --steps 5
    [3] verify @tiny.onnx --against @tiny.pt --csv d.csv --plot d.png --sampler euler --tolerance 1e-12
    verify @denoise.onnx --against @denoise.pt --csv e.csv --plot e.png --steps 5 --sampler posterior
    verify @tiny.onnx --against @tiny.pt --csv f.csv --plot f.png --engine-provider openvino --steps 4
    verify @tiny_int8.onnx --against @tiny.pt --csv g.csv --plot g.png
    [2] verify @tiny.onnx
    [2] verify @tiny.onnx --against @tiny.pt --csv a.txt
    [2] verify @tiny.onnx --against @tiny.pt --tolerance 3
    [1] verify @tiny.onnx --against @missing.pt --csv x.csv --plot x.png
""",
)
case(
    "verify-golden",
    "verify @derain.onnx --against @assets/derain_nafnet_w16.safetensors --csv a.csv --plot a.png --sampler mean --steps 10",
)
case(
    "verify-tiled",
    """
    !cp @tiny.onnx t.onnx
    verify t.onnx --tiled 32 --picture @rain_small.png
    verify @denoise.onnx --tiled 32 --overlap 8 --picture @rain_small.png --csv a.csv --plot a.png --sampler mean --steps 3 --seed 2
    [2] verify t.onnx --tiled 32
    [2] verify t.onnx --tiled 32 --picture @rain_small.png --tolerance 0.1
    [2] verify t.onnx --tiled 32 --overlap 30 --picture @rain_small.png
    [2] verify t.onnx --tiled 4096 --picture @rain_small.png
""",
)

# -- evaluate, bench
case(
    "evaluate",
    """
    evaluate --engine @tiny.onnx --data @pairs -o a --save-pictures
    [1] evaluate --engine @tiny.onnx --data @pairs -o a
    evaluate --engine @tiny.onnx --lq @pairs/LQ --gt @pairs/GT -o a --overwrite --sampler sde-2m --steps 4 --crop-border 0 --worst 2 --seed 5 --clip
    evaluate --engine @derain.onnx --data @pairs -o b --quality draft --tile 32 --engine-provider openvino
    evaluate --engine @denoise.onnx --data @pairs -o c --steps 3 --save-pictures
    evaluate --engine @denoise.onnx --data @pairs -o d --noise-level 20 --quality draft --worst 0
    evaluate --engine @tiny.pt --data @small_pairs -o e
    evaluate --engine @int8.onnx --data @small_pairs -o f --sampler sde-2m --steps 5 --debias
    [4] evaluate --engine @tiny.onnx --data @bad_pairs -o g --save-pictures
    [2] evaluate --engine @tiny.onnx -o h
    [1] evaluate --engine @tiny.onnx --data @pics -o h
    [1] evaluate --engine @tiny.onnx --lq @pairs/LQ --gt @small_pairs/GT -o h
    [2] evaluate --engine @latent.onnx --data @pairs -o h
""",
)
case(
    "bench",
    """
    bench @small.onnx @tiny.onnx --size 16x16 --size 24x32 --repeats 2 --quality draft --quality fast -o a --data @pairs
    bench @small.onnx --size 16x24 --batch 2 --repeats 1 --quality draft --engine-provider onnxruntime --engine-provider openvino -o b
    bench @denoise.onnx --size 16x16 --repeats 1 --quality draft
    [1] bench @small.onnx --size 16x16 -o a
    [2] bench @small.onnx --size 16
    [2] bench @latent.onnx --size 16x16
""",
)

# -- degrade
KINDS = ["rain", "haze", "shadow", "motion-blur", "defocus-blur", "gaussian-noise", "jpeg", "low-resolution", "mask"]
SETS = {
    "rain": "--set layers=2 --set length=10,30 --set textured=0",
    "haze": "--set density=0.5,1",
    "shadow": "--set count=2",
    "motion-blur": "--set length=9 --set angle=10",
    "defocus-blur": "--set radius=2",
    "gaussian-noise": "--set sigma=25",
    "jpeg": "--set quality=20",
    "low-resolution": "--set scale=2",
    "mask": "--set coverage=0.2",
}
case(
    "degrade",
    "\n".join(
        [f"degrade @pics/rgb8.png --kind {kind} -o {kind}.png" for kind in KINDS]
        + [f"degrade @clean_small.png --kind {kind} -o {kind}-set.png --seed 7 {SETS[kind]}" for kind in KINDS]
        + [
            "degrade @pics/rgb16.png --kind rain -o r16.png --seed 2",
            "degrade @pics/grey8.png --kind haze -o g.png",
            "degrade @pics/rgba8.png --kind jpeg -o a.jpg",
            "degrade @pics/rgba16.png --kind mask -o a.tiff --seed 18446744073709551615",
            "degrade @assets/clean.png -o real.png --kind rain --seed 7 --set coverage=0.1 --set layers=3 --set length=20,60",
            "[1] degrade @pics/rgb8.png --kind rain -o rain.png",
            "degrade @pics/rgb8.png --kind rain -o rain.png --overwrite",
            "[2] degrade @pics/rgb8.png --kind fog -o x.png",
            "[2] degrade @pics/rgb8.png --kind rain -o x.png --set nonsense=3",
            "[2] degrade @pics/rgb8.png --kind rain -o x.png --set layers",
            "[2] degrade @pics/rgb8.png --kind rain -o x.png --set coverage=7,9",
            "[1] degrade @mixed/broken.png --kind rain -o x.png",
            "[1] degrade @pics/rgb8.png --kind rain -o x.gif",
        ]
    ),
)

# -- train
TRAIN = "train --recipe @tiny_recipe.toml"
case(
    "train-pairs",
    f"""
    {TRAIN} --lq @pairs/LQ --gt @pairs/GT -o run --task rain --iterations 6 --stop-at 4 --set validate_every=3
    train --resume run
    train --resume run --iterations 7
    [2] train --resume run
    [1] {TRAIN} --lq @pairs/LQ --gt @pairs/GT -o run
    inspect run/best.pt
    inspect run/last.pt --json
    run --engine run/best.pt @pics/rgb8.png -o out.png
    [2] train --resume run --patch 3
    [1] train --resume missing
""",
)
case(
    "train-degraded",
    f"""
    {TRAIN} --gt @pairs/GT --degradation haze -o a --iterations 3 --hold-out p1 --seed 4 --loss l2 --objective noise --set optimizer=adam --set scheme=multi-step --set milestones=1,2
    {TRAIN} --gt @pairs/GT --degradation rain -o b --iterations 2 --validation-gt @small_pairs/GT --objective ml --set ema=0.5 --set clip_norm=1 --workers 1
    {TRAIN} --gt @pairs/GT --degradation jpeg --init @tiny.pt -o c --iterations 2 --batch 2 --patch 24 --learning-rate 1e-3 --objective clean --precision bf16 --set optimizer=lion --set weighted=true
""",
)
case(
    "train-denoise",
    "train --recipe @dn_recipe.toml --gt @pairs/GT -o run --iterations 3 --validation-noise 15 --set validate_every=2",
)
case(
    "train-opt",
    "train --opt @train.yml -o run --iterations 2 --batch 2 --patch 16 --set log_every=1\ntrain --gt @pairs/GT --lq @pairs/LQ -o small --iterations 1 --batch 1 --patch 16",
)
case(
    "train-errors",
    f"""
    [2] train
    [2] {TRAIN} -o a
    [2] {TRAIN} --gt @pairs/GT --lq @pairs/LQ --degradation rain -o a
    [1] {TRAIN} --gt @missing --lq @pairs/LQ -o a
    [1] {TRAIN} --gt @pairs/GT --lq @small_pairs/LQ -o a
    [2] {TRAIN} --gt @pairs/GT --lq @pairs/LQ -o a --set nonsense=3
    [2] {TRAIN} --gt @pairs/GT --lq @pairs/LQ -o a --batch 0
    [2] {TRAIN} --gt @pairs/GT --lq @pairs/LQ -o a --hold-out nonsense
    [2] {TRAIN} --gt @pairs/GT --lq @pairs/LQ -o a --objective nonsense
    [5] {TRAIN} --gt @pairs/GT --lq @pairs/LQ -o a --device cuda
    [1] train --recipe nonsense --gt @pairs/GT --lq @pairs/LQ -o a
""",
)

# -- inspect
FILES = (
    "tiny.pt",
    "denoise.pt",
    "random.pth",
    "random.safetensors",
    "assets/derain_nafnet_w16.safetensors",
    "tiny.onnx",
    "denoise.onnx",
    "latent.onnx",
    "fp16.onnx",
    "int8.onnx",
    "loop.onnx",
    "shared/golden/nafnet_w16/weights.pth",
    "shared/golden/unet_nf8_depth4/weights.pth",
    "shared/golden/latent_unet_ch8/weights.pth",
)
case("inspect", "\n".join([f"inspect @{name}" for name in FILES] + ["[1] inspect @missing.pt", "[1] inspect @y/empty"]))
case(
    "inspect-json",
    "\n".join(
        [f"inspect --json @{name}" for name in FILES[::2]]
        + ["[1] inspect @broken.onnx", "[1] inspect @broken.pth", "[1] inspect @pics/rgb8.png --json"]
    ),
)

# -- build
case(
    "build-rtx",
    """
    build @random.onnx -o a.plan --backend tensorrt-rtx --opt 64x64 --precision fp32
    inspect a.plan
    inspect a.plan --json
    [1] build @random.onnx -o a.plan --backend tensorrt-rtx
    [5] run --engine a.plan @pics/rgb8.png -o x.png
""",
)
case(
    "build-errors",
    """
    [5] build @tiny.onnx -o a.plan
    [2] build @tiny.onnx -o a.txt --backend tensorrt-rtx
    [2] build @tiny.onnx -o a.plan --backend tensorrt-rtx --precision int8
    [2] build @fp16.onnx -o a.plan --backend tensorrt-rtx --precision fp32
    [2] build @tiny.onnx -o a.plan --backend tensorrt-rtx --min 64 --max 3
    [2] build @tiny.onnx -o a.plan --backend tensorrt-rtx --opt-level 9
    [2] build @tiny.onnx -o a.plan --backend tensorrt-rtx --hardware-compatible
    [1] build @loop.onnx -o a.plan --backend tensorrt-rtx
    [1] build @missing.onnx -o a.plan --backend tensorrt-rtx
    [5] export @tiny.pt -o a.onnx --engine a.plan
""",
)

# -- Python
case("api", "!python api\n!python tables\n!python vapoursynth")

PROGRAMS = {
    "vapoursynth": """
import irsde_deploy.vapoursynth as plugin
try:
    plugin.restore(None, "x.onnx")
except Exception as error:
    print(type(error).__name__, error)
""",
    "tables": """
import numpy as np
from dataclasses import fields
from irsde_deploy import DenoisingSDE, MeanRevertingSDE, StepTable, plan_steps

file = open("tables.txt", "w")
SAMPLERS = {"euler": 0, "ode": 0, "posterior": 4, "mean": 5, "ddim": 6, "sde-2m": 7, "ode-2m": 8}
SDES = [
    MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005),
    MeanRevertingSDE(max_sigma=50, T=40, schedule="linear", eps=0.01),
    MeanRevertingSDE(max_sigma=0.3, T=25, schedule="constant", eps=0.5),
    DenoisingSDE(max_sigma=75, T=30, schedule="cosine", eps=0.005),
]
for sde in SDES:
    print(sde, sde.kind, file=file)
    for name in ("theta", "a", "sigma", "log_snr"):
        value = getattr(sde, name, None)
        print(name, None if value is None else [repr(float(v)) for v in np.ravel(value)], file=file)
    for sampler, steps in SAMPLERS.items():
        for settings in ({}, {"debias": True}, {"t0": sde.T - 5}, {"exponent": 2.0}):
            count = steps or settings.get("t0", sde.T)
            try:
                table = plan_steps(sde, sampler, count, **settings)
            except Exception as error:
                print(sampler, settings, type(error).__name__, error, file=file)
                continue
            assert isinstance(table, StepTable)
            print(sampler, settings, len(table), table.stochastic, repr(float(table.start)), file=file)
            for field in fields(table):
                value = np.asarray(getattr(table, field.name))
                print(" ", field.name, value.dtype, [repr(v) for v in value.ravel().tolist()], file=file)
    for bad in (("nonsense", 3, {}), ("mean", 0, {}), ("mean", sde.T + 1, {}), ("euler", 3, {}), ("mean", [3, 5], {}), ("mean", 3, {"t0": 0})):
        try:
            plan_steps(sde, bad[0], bad[1], **bad[2])
            print(bad, "works", file=file)
        except Exception as error:
            print(bad, type(error).__mro__[0].__name__, error, file=file)
    print(plan_steps(sde, "sde-2m", [20, 11, 4, 1]).t.tolist(), file=file)
for bad in ({"max_sigma": -1}, {"T": 0}, {"schedule": "round"}, {"eps": 3}):
    try:
        MeanRevertingSDE(**{"max_sigma": 10, "T": 100, "schedule": "cosine", "eps": 0.005, **bad})
    except Exception as error:
        print(bad, type(error).__name__, error, file=file)
""",
    "api": """
import sys
import numpy as np
import irsde_deploy
from irsde_deploy import ModelCard, Restorer, load
from irsde_deploy import DenoisingSDE, MeanRevertingSDE, StepTable, plan_steps

IN = "@in/"
print(sorted(irsde_deploy.__all__))
rng = np.random.default_rng(1)
picture = rng.integers(0, 256, (37, 45, 3), dtype=np.uint8)
batch = rng.random((3, 20, 33, 3), dtype=np.float32)
deep = rng.integers(0, 65536, (18, 22, 3), dtype=np.uint16)
steps = []

def keep(name, array):
    print(name, array.dtype, array.shape)
    np.save(name + ".npy", array)

for engine in ("small.onnx", "tiny.onnx", "tiny.pt"):
    restorer = load(IN + engine)
    assert isinstance(restorer, Restorer) and isinstance(restorer.card, ModelCard)
    print(restorer.engine.name, restorer.card, restorer.sde, restorer.plan(), restorer.plan("sde-2m", 4).t.tolist())
    short = engine.replace(".", "-")
    keep(short + "-steps", restorer(picture, steps=4))
    keep(short + "-batch", restorer(batch, "posterior", 3, seed=5))
    keep(short + "-frames", restorer(batch, "posterior", 3, frames=[7, 8, 9]))
    keep(short + "-deep", restorer(deep, sampler="ode-2m", steps=3, clip=True, t0=15))
    noise = rng.standard_normal((4, 3, 3, 20, 33)).astype(np.float32)
    keep(short + "-noise", restorer(batch, "sde-2m", 3, noise=noise))
    keep(short + "-tile", restorer(picture, steps=3, tile=16, overlap=4, on_step=steps.append))
    print(restorer.tiling, steps)
    keep(short + "-quality", restorer(picture, quality="draft", debias=True))
    keep(short + "-auto", restorer(picture.astype(np.float64) / 255, tile="auto"))
    for bad in ({"steps": 0}, {"quality": "fast", "steps": 3}, {"sampler": "x"}, {"seed": -1}, {"tile": 3}, {"noise": noise}, {"noise_level": 5.0}):
        try:
            restorer(picture, **bad)
            print(sorted(bad), "works")
        except Exception as error:
            print(sorted(bad), type(error).__name__, [base.__name__ for base in type(error).__mro__], error)
restorer = load(IN + "denoise.onnx")
keep("denoise", restorer(picture, noise_level=25.0, steps=3))
keep("denoise-t0", restorer(picture, "sde-2m", 4, t0=13, seed=2**64 - 1))
keep("latent", load(IN + "latent.onnx")(rng.standard_normal((17, 19, 4)).astype(np.float32), "posterior", 3))
keep("openvino", load(IN + "tiny.onnx", provider="openvino")(picture, "posterior", 3))
keep("fallback", load(IN + "overflowing.onnx", fallback=IN + "small.onnx")(picture))
for wrong in (lambda: restorer(picture), lambda: restorer(picture[:, :, 0]), lambda: restorer(batch.astype(complex)), lambda: load(IN + "none.onnx"),
              lambda: load(IN + "tiny.onnx", device="cuda"), lambda: load(IN + "tiny.onnx", provider="x"), lambda: load(IN + "random.pth")):
    try:
        wrong()
        print("works")
    except Exception as error:
        print(type(error).__name__, [base.__name__ for base in type(error).__mro__], error)
""",
}

# ---------------------------------------------------------------------------------------------------------------------
# Inputs, made by OLD's Python once
# ---------------------------------------------------------------------------------------------------------------------

MAKE_INPUTS = r'''
import json, shutil, subprocess, sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
OLD, IN, SHARED = map(Path, sys.argv[1:4])
sys.path.insert(0, str(OLD / "tests"))
import cv2, numpy as np, onnx, torch, tifffile
from onnx import numpy_helper
from PIL import Image, ImageCms
from calibration_pairs import write_pairs
from pictures import photograph, write_photographs
from small_network import write_small_network
from small_quantisable import small_quantisable
from unconditional import random_network
from videos import SD, YUV420, VARIABLE, planes_of, write_video
from irsde_deploy.card import ModelCard
from irsde_deploy.colour import Layout
from irsde_deploy.degradations import degradation, degrade_picture
from irsde_deploy.export.checkpoints import save_checkpoint
from irsde_deploy.export.onnx_model import read_model, write_model
from irsde_deploy.images import Picture, read_picture, write_picture
from irsde_deploy.sde import DenoisingSDE

def irsde(*arguments):
    done = subprocess.run([str(OLD / ".venv/bin/irsde-deploy"), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)

(IN / "shared").symlink_to(SHARED)
shutil.copytree(OLD / "assets", IN / "assets")
shutil.copy(OLD / "tests/data/tiny_recipe.toml", IN)
recipe = (IN / "tiny_recipe.toml").read_text()
(IN / "dn_recipe.toml").write_text(recipe.replace("[sde]", '[sde]\nkind = "denoising"', 1).replace("eps = 0.02\n", ""))

# pairs
write_pairs(IN / "small_pairs")
write_photographs(IN / "pairs/GT", 4)
rain = degradation("rain")
for path in sorted((IN / "pairs/GT").iterdir()):
    write_picture(IN / "pairs/LQ" / path.name, Picture(degrade_picture(read_picture(path).rgb, rain, 1)))
shutil.copytree(IN / "pairs", IN / "bad_pairs")
broken = (IN / "bad_pairs/LQ/p1.png").read_bytes()
(IN / "bad_pairs/LQ/p1.png").write_bytes(broken[: len(broken) // 2])

# pictures
pics = IN / "pics"
(pics / "sub/deeper").mkdir(parents=True)
rgb = photograph(9, 45, 61)
bgr = rgb[:, :, ::-1]
alpha = cv2.resize(np.random.default_rng(2).integers(0, 256, (4, 5), dtype=np.uint8), (61, 45))
sixteen = (bgr.astype(np.uint16) * 257 + np.random.default_rng(3).integers(0, 200, bgr.shape)).clip(0, 65535).astype(np.uint16)
cv2.imwrite(str(pics / "rgb8.png"), bgr)
cv2.imwrite(str(pics / "rgb8b.png"), bgr[::-1].copy())
cv2.imwrite(str(pics / "rgb16.png"), sixteen)
cv2.imwrite(str(pics / "grey8.png"), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
cv2.imwrite(str(pics / "grey16.png"), sixteen[:, :, 1])
cv2.imwrite(str(pics / "rgba8.png"), np.dstack([bgr, alpha]))
cv2.imwrite(str(pics / "rgba16.png"), np.dstack([sixteen, alpha.astype(np.uint16) * 257]))
Image.fromarray(rgb).convert("LA").save(pics / "la8.png")
Image.fromarray(rgb).quantize(16).save(pics / "palette.png")
Image.fromarray(rgb[:1, :1]).save(pics / "one.png")
Image.fromarray(rgb).save(pics / "profile.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
Image.fromarray(rgb).save(pics / "sub/photo.jpg", quality=90)
exif = Image.Exif(); exif[0x0112] = 6
Image.fromarray(rgb).save(pics / "orient.jpg", quality=90, exif=exif)
Image.fromarray(rgb).convert("L").save(pics / "sub/deeper/grey.jpeg")
Image.fromarray(rgb).convert("CMYK").save(pics / "sub/cmyk.jpg")
Image.fromarray(rgb).save(pics / "sub/lossless.webp", lossless=True)
Image.fromarray(np.dstack([rgb, alpha])).save(pics / "sub/alpha.webp")
tifffile.imwrite(pics / "flat8.tiff", rgb)
tifffile.imwrite(pics / "deep16.tif", sixteen[:, :, ::-1].copy(), photometric="rgb")
tifffile.imwrite(pics / "sub/grey16.tif", sixteen[:, :, 0].copy(), photometric="minisblack")
(pics / "sub/notes.txt").write_text("no picture")
mixed = IN / "mixed"
mixed.mkdir()
for name in ("rgb8", "rgb8b", "grey8"):
    shutil.copy(pics / f"{name}.png", mixed)
data = (pics / "rgb8.png").read_bytes()
(mixed / "broken.png").write_bytes(data[: len(data) // 2])
(mixed / "empty.png").write_bytes(b"")
(mixed / "text.jpg").write_text("no picture")
(IN / "empty").mkdir()
cv2.imwrite(str(IN / "rain_small.png"), cv2.imread(str(OLD / "assets/rain.png"))[100:245, 150:331])
cv2.imwrite(str(IN / "clean_small.png"), cv2.imread(str(OLD / "assets/clean.png"))[100:245, 150:331])

# engines
write_small_network(IN / "small.onnx")
model, card = read_model(IN / "small.onnx")
for tensor in model.graph.initializer:
    if tensor.name == "hundred":  # divides t: infinite, and eps NaN after the subtraction below
        tensor.CopyFrom(numpy_helper.from_array(np.float32(0), "hundred"))
model.graph.node[-1].op_type = "Identity"
write_model(model, replace(card, precision="fp16"), IN / "overflowing.onnx")
model, card = small_quantisable()
write_model(model, card, IN / "quantisable.onnx")
for node in model.graph.node:
    node.input[:] = ["x" if name == "mu" else name for name in node.input]
del model.graph.input[1]
write_model(model, replace(card, sde=DenoisingSDE(max_sigma=50, T=100, schedule="cosine", eps=0.5), settings={"conditional": False}), IN / "dn_quantisable.onnx")
network = random_network("ConditionalNAFNet")
sde = DenoisingSDE(max_sigma=75, T=50, schedule="cosine")
kwargs = {"width": 8, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1], "img_channel": 3, "conditional": False}
irsde("train", "--recipe", IN / "tiny_recipe.toml", "--lq", IN / "pairs/LQ", "--gt", IN / "pairs/GT", "-o", IN / "run", "--iterations", 8, "--task", "rain")
shutil.copy(IN / "run/best.pt", IN / "tiny.pt")
irsde("train", "--recipe", IN / "dn_recipe.toml", "--gt", IN / "pairs/GT", "-o", IN / "dn", "--iterations", 8)
shutil.copy(IN / "dn/best.pt", IN / "denoise.pt")
irsde("export", IN / "tiny.pt", "-o", IN / "tiny.onnx")
irsde("export", IN / "denoise.pt", "-o", IN / "denoise.onnx")
# a plain state dict, and one with a card
own = torch.load(IN / "tiny.pt", weights_only=True)
torch.save(own["weights"], IN / "random.pth")
from irsde_deploy.export.checkpoints import read_checkpoint
checkpoint = read_checkpoint(IN / "tiny.pt")
save_checkpoint(IN / "random.safetensors", checkpoint.weights, checkpoint.card, half=True)
irsde("export", IN / "random.safetensors", "-o", IN / "random.onnx")
irsde("export", IN / "tiny.pt", "-o", IN / "fp16.onnx", "--precision", "fp16")
irsde("export", IN / "tiny.onnx", "-o", IN / "loop.onnx", "--whole-loop", "--quality", "draft")
irsde("export", IN / "assets/derain_nafnet_w16.safetensors", "-o", IN / "derain.onnx")
irsde("export", SHARED / "golden/latent_nafnet_w8/weights.pth", "-o", IN / "latent.onnx", "--form", "latent", "--max-sigma", 50, "-T", 20, "--schedule", "cosine", "--eps", 0.005)
irsde("calibrate", IN / "quantisable.onnx", "--data", IN / "small_pairs", "-o", IN / "int8.onnx", "--states", 16)
irsde("calibrate", IN / "tiny.onnx", "--data", IN / "pairs", "-o", IN / "tiny_int8.onnx", "--states", 16)
data = (IN / "tiny.onnx").read_bytes()
(IN / "broken.onnx").write_bytes(data[: len(data) // 2])
data = (IN / "random.pth").read_bytes()
(IN / "broken.pth").write_bytes(data[: len(data) // 2])
(IN / "bad.yml").write_text("sde: [1, 2\n")
irsde("pack", IN / "small.onnx", "-o", IN / "a_pack", "--size", "16x16", "--seed", 1)
shutil.copy(IN / "a_pack/reference_output.npy", IN / "other_output.npy")
np.save(IN / "other_noise.npy", np.load(IN / "a_pack/reference_noise.npy")[:-1])
(IN / "train.yml").write_text(f"""
name: same
distortion: derain
sde: {{max_sigma: 10, T: 20, schedule: cosine, eps: 0.005}}
datasets:
  train:
    name: a
    mode: LQGT
    dataroot_GT: {IN}/pairs/GT
    dataroot_LQ: {IN}/pairs/LQ
    batch_size: 4
    GT_size: 16
  val:
    name: b
    mode: LQGT
    dataroot_GT: {IN}/small_pairs/GT
    dataroot_LQ: {IN}/small_pairs/LQ
network_G:
  which_model_G: ConditionalNAFNet
  setting: {{width: 8, enc_blk_nums: [1, 1], middle_blk_num: 1, dec_blk_nums: [1, 1]}}
train:
  optimizer: Adam
  lr_G: 0.0001
  niter: 10
  loss_type: l1
  val_freq: 2
""")

# videos
v = IN / "v"
v.mkdir()
write_video(v / "in.mp4", planes_of(12, YUV420, SD, 32, 48), audio="aac", subtitles="mov_text")
write_video(v / "long.mp4", planes_of(40, YUV420, SD, 32, 48), audio="aac")
write_video(v / "vfr.mkv", planes_of(len(VARIABLE), YUV420, SD, 32, 48), times=VARIABLE, audio="aac", aspect=Fraction(4, 3))
write_video(v / "in.webm", planes_of(8, YUV420, SD, 32, 48), codec="libvpx-vp9", options={"crf": "20", "b": "0"}, audio="libopus")
write_video(v / "turned.mp4", planes_of(4, YUV420, SD, 32, 48), rotation=90)
def layout(name):
    found = Layout.of(name)
    assert found is not None, name
    return found
write_video(v / "deep.mkv", planes_of(4, layout("yuv422p10le"), SD, 32, 48), "yuv422p10le", "ffv1")
write_video(v / "rgb.mkv", planes_of(4, layout("gbrp10le"), SD, 32, 48), "gbrp10le", "ffv1", tags=(2, 1, 13, 0))
write_video(v / "grey.mkv", planes_of(4, layout("gray"), SD, 32, 48), "gray", "ffv1")
write_video(v / "odd.mkv", planes_of(4, layout("yuv444p"), SD, 31, 47), "yuv444p", "ffv1")
one = write_video(v / "clip.ts", planes_of(8, YUV420, SD, 32, 48), options={"crf": "0", "g": "4"})
two = write_video(v / "other.ts", planes_of(6, YUV420, SD, 48, 64), times=[320 + 40 * k for k in range(6)], options={"crf": "0", "g": "4"})
(v / "changing.ts").write_bytes(one.read_bytes() + two.read_bytes())
(v / "broken.mp4").write_bytes(b"no video at all" * 50)
import av
for name, options in (("short.mp4", {"movflags": "+faststart"}), ("short.mkv", {})):
    with av.open(str(v / "long.mp4")) as source, av.open(str(IN / name), "w", options=options) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = (IN / name).read_bytes()
    (v / name).write_bytes(data[: len(data) * 6 // 10])
    (IN / name).unlink()

# pipes
y = IN / "y"
y.mkdir()
def y4m(name, header, lay, count=4, marker="FRAME"):
    frames = planes_of(count, lay, SD, 32, 48)
    body = b"".join(marker.encode() + b"\n" + b"".join(np.ascontiguousarray(p).tobytes() for p in planes) for planes in frames)
    (y / name).write_bytes(f"YUV4MPEG2 W48 H32 F25:1 {header}\n".encode() + body)
y4m("a420.y4m", "Ip A1:1 C420jpeg", YUV420)
y4m("a444p10.y4m", "Ip A1:1 C444p10", layout("yuv444p10le"))
y4m("mono.y4m", "Ip A1:1 Cmono", layout("gray"))
y4m("a422full.y4m", "Ip C422 XCOLORRANGE=FULL", layout("yuv422p"), marker="FRAME Xsomething")
y4m("interlaced.y4m", "It A1:1 C420paldv", YUV420)
data = (y / "a420.y4m").read_bytes()
(y / "torn.y4m").write_bytes(data[:-100])
(y / "empty").write_bytes(b"")
(y / "raw.rgb").write_bytes(b"".join(photograph(k, 32, 48).tobytes() for k in range(3)))
'''

# ---------------------------------------------------------------------------------------------------------------------
# Comparing what only libraries can read; run by OLD's Python
# ---------------------------------------------------------------------------------------------------------------------

COMPARE = r"""
import hashlib, json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np

def same_torch(old, new):
    import torch, zipfile
    def flat(value, path, out):
        if isinstance(value, torch.Tensor):
            data = value.detach().cpu().contiguous()
            out[path] = (str(data.dtype), tuple(data.shape), hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b"").hexdigest())
        elif isinstance(value, dict):
            out[path] = ("dict", [repr(key) for key in value])
            for key, entry in value.items():
                flat(entry, f"{path}/{key}", out)
        elif isinstance(value, (list, tuple)):
            out[path] = (type(value).__name__, len(value))
            for index, entry in enumerate(value):
                flat(entry, f"{path}/{index}", out)
        else:
            out[path] = (type(value).__name__, repr(value))
        return out
    # the folder inside is named after the temporary file
    names = [sorted(name.partition("/")[2] for name in zipfile.ZipFile(path).namelist()) for path in (old, new)]
    one, two = (flat(torch.load(path, weights_only=True), "", {}) for path in (old, new))
    allowed = {"/training/tally/seconds"}
    wrong = [f"{key}: {one.get(key)} / {two.get(key)}" for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key) and key not in allowed]
    if list(one) != list(two):
        wrong.append("the entries' order differs")
    if names[0] != names[1]:
        wrong.append("names inside the zip differ")
    return not wrong, "\n".join(wrong[:15])

def same_events(old, new):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    def read(path):
        rows = []
        for event in EventFileLoader(path).Load():
            for value in event.summary.value:
                number = value.simple_value if value.HasField("simple_value") else list(value.tensor.float_val)
                rows.append((event.step, value.tag, "T" if value.tag == "seconds" else repr(number)))
            rows.append((event.step, "file_version", event.file_version, event.session_log.status))
        return rows
    one, two = read(old), read(new)
    return one == two, "" if one == two else f"{[row for row in one if row not in two][:5]} / {[row for row in two if row not in one][:5]}"

def same_onnx(old, new):
    import onnx
    def read(path):
        model = onnx.load(path)
        model.producer_version = ""
        for entry in model.metadata_props:
            if entry.key == "irsde_card":
                entry.value = json.dumps({**json.loads(entry.value), "tool_version": ""})
        return model.SerializeToString(deterministic=True)
    return read(old) == read(new), describe_onnx(old, new)

def describe_onnx(old, new):
    import onnx
    a, b = onnx.load(old), onnx.load(new)
    said = []
    weights = [{t.name: t.SerializeToString() for t in m.graph.initializer} for m in (a, b)]
    changed = [name for name in {**weights[0], **weights[1]} if weights[0].get(name) != weights[1].get(name)]
    said.append(f"{len(changed)} of {len(weights[0])} initialisers differ: {changed[:5]}")
    said.append("initialisers in another order" if list(weights[0]) != list(weights[1]) else "initialisers in the same order")
    nodes = [[n.SerializeToString() for n in m.graph.node] for m in (a, b)]
    said.append(f"nodes: {len(nodes[0])} and {len(nodes[1])}, " + ("the same" if nodes[0] == nodes[1] else f"{sum(x != y for x, y in zip(*nodes))} differ, as a set " + ("the same" if sorted(nodes[0]) == sorted(nodes[1]) else "different")))
    props = [{p.key: p.value for p in m.metadata_props} for m in (a, b)]
    for key in {**props[0], **props[1]}:
        if props[0].get(key) != props[1].get(key):
            said.append(f"metadata {key}: {str(props[0].get(key))[:1500]}\n      / {str(props[1].get(key))[:1500]}")
    head = [(m.ir_version, m.producer_name, m.producer_version, m.doc_string, m.graph.name, [str(o) for o in m.opset_import]) for m in (a, b)]
    if head[0] != head[1]:
        said.append(f"heads {head[0]} / {head[1]}")
    return "\n".join(said)

def describe_npy(old, new):
    a, b = np.load(old), np.load(new)
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{a.shape} / {b.dtype}{b.shape}"
    return f"max abs difference {np.abs(a.astype(np.float64) - b).max():.3g} of {a.dtype}{a.shape}"

def describe_image(old, new):
    import cv2
    a, b = (cv2.imread(p, cv2.IMREAD_UNCHANGED) for p in (old, new))
    if a is None or b is None:
        return "cannot be read"
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{a.shape} / {b.dtype}{b.shape}"
    return f"pixels: max abs difference {np.abs(a.astype(int) - b).max()}, {np.count_nonzero(a != b)} values of {a.size} differ"

def describe_video(old, new):
    import av
    def read(path):
        with av.open(path) as c:
            head = [(s.type, s.codec_context.name if s.codec_context else "", str(s.time_base), dict(s.metadata)) for s in c.streams], dict(c.metadata)
            return head, [(p.stream_index, p.pts, p.dts, hashlib.sha256(bytes(p)).hexdigest()[:8]) for p in c.demux()]
    a, b = read(old), read(new)
    return f"streams {'the same' if a[0] == b[0] else f'{a[0]} / {b[0]}'}; {sum(x != y for x, y in zip(a[1], b[1]))} packets of {len(a[1])} and {len(b[1])} differ"

jobs, found = json.load(open(sys.argv[1])), []
for kind, old, new in jobs:
    try:
        if kind in ("torch", "events", "onnx"):
            found.append({"torch": same_torch, "events": same_events, "onnx": same_onnx}[kind](old, new))
        else:
            found.append((False, {"describe-onnx": describe_onnx, "describe-npy": describe_npy, "describe-image": describe_image, "describe-video": describe_video}[kind](old, new)))
    except Exception as error:
        found.append((False, f"cannot be compared: {type(error).__name__}: {error}"))
json.dump(found, open(sys.argv[2], "w"))
"""

DESCRIBE = {
    ".onnx": "describe-onnx",
    ".npy": "describe-npy",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"), "describe-image"),
    **dict.fromkeys((".mp4", ".mkv", ".webm", ".mov", ".m4v"), "describe-video"),
}

# ---------------------------------------------------------------------------------------------------------------------
# Running
# ---------------------------------------------------------------------------------------------------------------------


def stop(sentence: str) -> None:
    print(f"same_files: {sentence}", file=sys.stderr)
    sys.exit(2)


class Checkout:
    def __init__(self, path: str) -> None:
        self.path = Path(path).resolve()
        self.program = self.path / ".venv/bin/irsde-deploy"
        self.python = self.path / ".venv/bin/python"
        if not self.program.exists():
            stop(f"{self.program} is missing")
        first = self.program.read_text().splitlines()[0].removeprefix("#!").strip()
        shebang = Path(first)
        code = "import irsde_deploy; print(irsde_deploy.__file__); print(irsde_deploy.__version__)"
        for python in {str(shebang), str(self.python)}:
            done = subprocess.run(
                [python, "-c", code], capture_output=True, text=True, cwd="/", env=environment(Path("/tmp"))
            )
            if done.returncode:
                stop(f"{python} cannot import irsde_deploy: {done.stderr.strip().splitlines()[-1:]}")
            where, self.version = done.stdout.split()
            if not Path(where).resolve().is_relative_to(self.path):
                stop(f"{self.program}, by {python}, runs {where}, which is not of {self.path}: pip install -e . there")

    def stamp(self) -> str:
        """What the results depend on: commit, and changes that are not committed."""
        git = ["git", "-C", str(self.path)]
        parts = [
            subprocess.run([*git, *arguments], capture_output=True, text=True).stdout
            for arguments in (("rev-parse", "HEAD"), ("diff", "HEAD"), ("status", "--porcelain"))
        ]
        return hashlib.sha256("\0".join([str(self.path), *parts, Path(__file__).read_text()]).encode()).hexdigest()


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "MPLCONFIGDIR": str(ROOT / "mpl"),  # matplotlib's own font cache, made once
        "TMPDIR": str(ROOT / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "100",
        "LINES": "40",
    }


class BadCase(Exception):
    pass


def arguments_of(text: str) -> list[str]:
    return [re.sub(r"(?<![\w.])@(?=\w)", f"{IN}/", word) for word in shlex.split(text)]


def run_case(checkout: Checkout, name: str) -> tuple[str, float, list[str]]:
    """Run the commands of a case; writes transcript.txt. Gives what was not as expected."""
    folder, home = WORK / name, ROOT / "home" / name
    for path in (folder, home):
        path.mkdir(parents=True)
    env, transcript, problems, started = environment(home), [], [], time.monotonic()
    for line in CASES[name]:
        try:
            transcript.append(f"$ {line}\n{_run_line(checkout, line, folder, env, name, problems)}")
        except subprocess.TimeoutExpired:
            problems.append(f"longer than {TIMEOUT} s: {line}")
    (folder / "transcript.txt").write_text("\n".join(transcript))
    caches = []
    for path in sorted(home.rglob("*")):
        relative = path.relative_to(home).as_posix()
        if path.is_file() and not any(fnmatch.fnmatch(relative, pattern) for pattern in HOME_IGNORED):
            caches.append(re.sub(r"[0-9a-f]{32,}", "HASH", relative))
    if caches:
        (folder / "in-home.txt").write_text("\n".join(caches) + "\n")
    return name, time.monotonic() - started, problems


def _run_line(checkout: Checkout, line: str, folder: Path, env: dict[str, str], name: str, problems: list[str]) -> str:
    words = arguments_of(line)
    awaited = None
    if words and words[0] == "!interrupt":
        awaited, words = words[1], words[2:]
    elif words and words[0].startswith("!") and words[0] != "!python":
        return _shell(words, folder)
    expected = 0
    if words and (match := re.fullmatch(r"\[(\d+)\]", words[0])):
        expected, words = int(match[1]), words[1:]
    stdin, stdout = subprocess.DEVNULL, subprocess.PIPE
    opened = []
    for sign in "<>":
        if sign in words:
            index = words.index(sign)
            opened.append(open(folder / words[index + 1], "rb" if sign == "<" else "wb"))
            if sign == "<":
                stdin = opened[-1]
            else:
                stdout = opened[-1]
            del words[index : index + 2]
    if words and words[0] == "!python":
        command = [str(checkout.python), "-c", PROGRAMS[words[1]].replace("@in/", f"{IN}/")]
    else:
        command = [str(checkout.program), *words]
    process = subprocess.Popen(command, cwd=folder, env=env, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    if awaited is not None:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None and not (folder / awaited).exists():
            time.sleep(0.003)
        process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    finally:
        for file in opened:
            file.close()
    if process.returncode != expected:
        problems.append(
            f"exit code {process.returncode}, not {expected}: {line}\n      {masked(err.decode(errors='replace'), checkout, name)[-300:]}"
        )
    out_text = "" if out is None else masked(out.decode(errors="backslashreplace"), checkout, name)
    return f"exit code {process.returncode}\n--- stdout\n{out_text}--- stderr\n{masked(err.decode(errors='backslashreplace'), checkout, name)}"


def _shell(words: list[str], folder: Path) -> str:
    kind, *rest = words
    if kind == "!cp":
        shutil.copy(rest[0], folder / rest[1])
    elif kind == "!rm":
        (folder / rest[0]).unlink(missing_ok=True)
    elif kind == "!mkdir":
        (folder / rest[0]).mkdir()
    elif kind == "!cut":
        path = folder / rest[0]
        path.write_bytes(path.read_bytes()[: int(rest[1])])
    elif kind == "!set":
        (folder / rest[0]).write_text(rest[1])
    else:
        raise ValueError(kind)
    return ""


def masked(text: str, checkout: Checkout, name: str) -> str:
    text = text.replace(str(checkout.path), "CHECKOUT")
    more = {"bench": BENCH_MASKS, "video-interrupted": INTERRUPT_MASKS}.get(
        name, TRAIN_MASKS if name.startswith("train") else []
    )
    for pattern, replacement, _ in [*MASKS, *more]:
        text = re.sub(pattern, replacement, text)
    if name == "help":
        text = text.replace(checkout.version, "VERSION")
    return text


def run_all(checkout: Checkout, names: list[str], target: Path, jobs: int) -> dict[str, tuple[float, list[str]]]:
    for folder in (WORK, ROOT / "home", ROOT / "tmp", target):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (WORK, ROOT / "home", ROOT / "tmp"):
        folder.mkdir(parents=True)
    with ThreadPoolExecutor(jobs) as pool:
        results = {
            name: (seconds, problems) for name, seconds, problems in pool.map(lambda n: run_case(checkout, n), names)
        }
    left = sorted(path.name for path in (ROOT / "tmp").iterdir())
    if left:
        print(f"note: {checkout.path} left in TMPDIR: {', '.join(left[:6])} (.ses, torchinductor_*: of libraries)")
    WORK.rename(target)
    return results


# ---------------------------------------------------------------------------------------------------------------------
# Comparing
# ---------------------------------------------------------------------------------------------------------------------


def listing(folder: Path) -> dict[str, Path]:
    """Comparable name -> path, of files, links and empty folders."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            continue
        name = re.sub(r"\.[0-9a-f]{12}\.part$", ".TOKEN.part", path.relative_to(folder).as_posix())
        name = re.sub(r"events\.out\.tfevents\.[^/]*", "events.out.tfevents.N", name)  # time, host, process
        count = 0
        while (unique := name if not count else f"{name}#{count}") in found:
            count += 1
        found[unique] = path
    return found


def fingerprint(path: Path) -> tuple[str, int, str]:
    """Kind, permissions, content."""
    info = path.lstat()
    if path.is_symlink():
        return "link", 0, os.readlink(path)
    if path.is_dir():
        return "folder", stat.S_IMODE(info.st_mode), ""
    return "file", stat.S_IMODE(info.st_mode), hashlib.sha256(path.read_bytes()).hexdigest()


def compare(old: Checkout, new: Checkout, names: list[str], results: list[dict]) -> int:
    other_version = old.version != new.version
    rules = [*RULES, *(VERSION_RULES if other_version else [])]
    differing: dict[str, list[list[str]]] = {name: [] for name in names}
    waiting, jobs, used, same = [], [], {}, 0

    def allowed(reason: str) -> None:
        used[reason] = used.get(reason, 0) + 1

    for name in names:
        ours, theirs = listing(ROOT / "old" / name), listing(ROOT / "new" / name)
        for file in sorted({*ours, *theirs}):
            if file not in ours or file not in theirs:
                differing[name].append([file, "only in " + ("old" if file in ours else "new")])
                continue
            a, b = ours[file], theirs[file]
            one, two = fingerprint(a), fingerprint(b)
            if one == two:
                same += 1
                continue
            if one[:2] != two[:2] or one[0] != "file":
                differing[name].append([file, f"{one[0]} {one[1]:o} {one[2][:40]} / {two[0]} {two[1]:o} {two[2][:40]}"])
                continue
            rule = next(
                (r for r in rules if fnmatch.fnmatch(name, r[0]) and fnmatch.fnmatch(re.sub(r"#\d+$", "", file), r[1])),
                None,
            )
            x, y = a.read_bytes(), b.read_bytes()
            if other_version:
                x, y = (version_masked(data, checkout.version, a) for data, checkout in ((x, old), (y, new)))
            if (rule is not None and rule[2] is None) or (
                rule is not None and callable(rule[2]) and rule[2](x) == rule[2](y)
            ):
                same += 1
                allowed(f"{rule[1]}: {rule[3]}")
            elif other_version and x == y:
                same += 1
                allowed("version field")
            elif rule is not None and isinstance(rule[2], str):
                waiting.append((name, file, rule))
                jobs.append([rule[2], str(a), str(b)])
            elif a.suffix in DESCRIBE:
                waiting.append((name, file, None))
                jobs.append([DESCRIBE[a.suffix], str(a), str(b)])
            else:
                if rule is not None:
                    x, y = rule[2](x), rule[2](y)
                differing[name].append([file, diff(x, y, a)])
    if jobs:
        asked, answered = ROOT / "jobs.json", ROOT / "answers.json"
        asked.write_text(json.dumps(jobs))
        subprocess.run(
            [str(old.python), "-c", COMPARE, str(asked), str(answered)],
            check=True,
            env=environment(ROOT / "helper-home"),
        )
        for (name, file, rule), (equal, words) in zip(waiting, json.loads(answered.read_text()), strict=True):
            if equal:
                same += 1
                allowed(f"{rule[1]}: {rule[3]}")
            else:
                differing[name].append([file, words])
    bad = 0
    for name in names:
        seconds = " and ".join(f"{result[name][0]:.0f}" for result in results if name in result)
        print(f"{'DIFFERENT' if differing[name] else 'same':<10} {name} ({seconds} s)")
        for file, words in differing[name]:
            print(f"    {file}\n" + "\n".join("      " + line for line in words.splitlines()))
        for problem in dict.fromkeys(problem for result in results for problem in result.get(name, (0, []))[1]):
            bad += 1
            print(f"    NOT AS EXPECTED: {problem}")
    for reason, count in sorted(used.items()):
        print(f"allowed to differ, and did, in {count} files: {reason}")
    different = sum(map(len, differing.values()))
    print(
        f"{len(names)} cases, {same} files the same, {different} different"
        + (f"; {bad} commands did not do what their case says" if bad else "")
    )
    return 1 if different else 2 if bad else 0


def version_masked(data: bytes, version: str, path: Path) -> bytes:
    """Text without the version of irsde-deploy, in lines that speak of it."""
    if path.suffix not in TEXT:
        return data
    lines = data.split(b"\n")
    return b"\n".join(
        line.replace(version.encode(), b"VERSION") if b"irsde-deploy" in line or b"version" in line else line
        for line in lines
    )


def diff(x: bytes, y: bytes, path: Path) -> str:
    try:
        one, two = x.decode(), y.decode()
    except UnicodeDecodeError:
        at = next((i for i, (p, q) in enumerate(zip(x, y)) if p != q), min(len(x), len(y)))
        return f"{len(x)} / {len(y)} bytes, first different at {at}: {x[at : at + 16].hex()} / {y[at : at + 16].hex()}"
    lines = list(difflib.unified_diff(one.splitlines(), two.splitlines(), "old", "new", lineterm="", n=1))
    return "\n".join(line[:400] for line in lines[:24]) + (
        f"\n... {len(lines) - 24} more lines" if len(lines) > 24 else ""
    )


def make_inputs(old: Checkout) -> None:
    stamp = hashlib.sha256((str(old.path) + MAKE_INPUTS).encode()).hexdigest()
    if (ROOT / "in.stamp").exists() and (ROOT / "in.stamp").read_text() == stamp:
        return
    print("making inputs ...", flush=True)
    shutil.rmtree(IN, ignore_errors=True)
    IN.mkdir(parents=True)
    for name in ("tmp", "mpl", "in-home"):
        (ROOT / name).mkdir(exist_ok=True)
    done = subprocess.run(
        [str(old.python), "-c", MAKE_INPUTS, str(old.path), str(IN), str(SHARED)],
        env=environment(ROOT / "in-home"),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        stop(f"inputs cannot be made: {done.stderr[-3000:]}")
    (ROOT / "in.stamp").write_text(stamp)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases, by name or pattern")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--reuse-old", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    names = [name for name in CASES if not given.only or any(fnmatch.fnmatch(name, p) for p in given.only)]
    if given.list or not names:
        print("\n".join(f"{name}: {len(CASES[name])} lines" for name in CASES))
        return 0 if given.list else 2
    ROOT.mkdir(exist_ok=True)
    (ROOT / "tmp").mkdir(exist_ok=True)
    old, new = Checkout(given.old), Checkout(given.new)
    make_inputs(old)
    kept = ROOT / "old.json"
    before = json.loads(kept.read_text()) if given.reuse_old and kept.exists() else {}
    if before.get("stamp") == old.stamp() and all((ROOT / "old" / name).is_dir() for name in names):
        first, took = before["results"], 0.0
    else:
        kept.unlink(missing_ok=True)
        started = time.monotonic()
        first = run_all(old, names, ROOT / "old", given.jobs)
        took = time.monotonic() - started
        kept.write_text(json.dumps({"stamp": old.stamp(), "results": first}))
    started = time.monotonic()
    second = run_all(new, names, ROOT / "new", given.jobs)
    print(
        f"old {old.path} ({old.version}) in {took:.0f} s, new {new.path} ({new.version}) in {time.monotonic() - started:.0f} s"
    )
    return compare(old, new, names, [first, second])


if __name__ == "__main__":
    sys.exit(main())
