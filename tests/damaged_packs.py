"""Ways in which a pack can be damaged, for every reader: what is done to it, the exit code, part of the sentence."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Damage = Callable[[Path], None]


def edit(old: str, new: str) -> Damage:
    def damage(pack: Path) -> None:
        text = (pack / "steps.txt").read_text()
        assert text.count(old) == 1, old
        (pack / "steps.txt").write_text(text.replace(old, new))

    return damage


def without(name: str) -> Damage:
    return lambda pack: (pack / name).unlink()


def cut(name: str, size: int) -> Damage:
    def damage(pack: Path) -> None:
        (pack / name).write_bytes((pack / name).read_bytes()[:size])

    return damage


def shift(name: str, by: float) -> Damage:
    def damage(pack: Path) -> None:
        array = np.load(pack / name)
        array.flat[array.size // 2] += by
        np.save(pack / name, array)

    return damage


def replaced(name: str, content: np.ndarray) -> Damage:
    return lambda pack: np.save(pack / name, content)


def step(column: int, value: str, *edits: Damage) -> Damage:
    """Another number in the last step (columns t a c d s p r), and further edits."""

    def damage(pack: Path) -> None:
        lines = (pack / "steps.txt").read_text().split("\n")
        at = max(i for i, line in enumerate(lines) if line.startswith("step "))
        words = lines[at].split(" ")
        words[1 + column] = value
        (pack / "steps.txt").write_text("\n".join([*lines[:at], " ".join(words), *lines[at + 1 :]]))
        for further in edits:
            further(pack)

    return damage


def windows(name: str) -> Damage:
    """Lines that end in CR LF."""
    return lambda pack: (pack / name).write_bytes((pack / name).read_bytes().replace(b"\n", b"\r\n"))


def other_header(old: bytes, new: bytes, name: str) -> Damage:
    """Another text in an array's header, of the same size after it."""

    def damage(pack: Path) -> None:
        head, data = (content := (pack / name).read_bytes())[:128], content[128:]
        assert head.count(old) == 1
        changed = head.replace(old, new).rstrip(b" \n")
        (pack / name).write_bytes(changed.ljust(127) + b"\n" + data)

    return damage


def other_start(pack: Path) -> None:
    lines = (pack / "steps.txt").read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("start "))
    lines[at] = f"start {(1.01 * float.fromhex(lines[at].split()[1])).hex()}"
    (pack / "steps.txt").write_text("\n".join(lines))


def claims_more(pack: Path) -> None:
    """A header that claims 2^40 values."""
    path = pack / "reference_noise.npy"
    content = path.read_bytes()
    at, end = content.index(b"'shape': ("), content.index(b"), }")
    path.write_bytes(content[:at] + b"'shape': (1099511627776".ljust(end - at) + content[end:])


def with_nan(pack: Path) -> None:
    """NaN in the weights of the last convolution; the size stays."""
    path = pack / "engine.onnx"
    model = onnx.load(path)
    weights = next(tensor for tensor in reversed(model.graph.initializer) if len(tensor.dims) == 4)
    array = numpy_helper.to_array(weights).copy()
    array.flat[0] = np.nan
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    path.write_bytes(model.SerializeToString())
    known(pack)


def known(pack: Path) -> None:
    """Let steps.txt know the engine that is there now."""
    engine = (pack / "engine.onnx").read_bytes()
    text = (pack / "steps.txt").read_text()
    text = re.sub("engine_bytes [0-9]+", f"engine_bytes {len(engine)}", text)
    text = re.sub("engine_sha256 [0-9a-f]+", f"engine_sha256 {hashlib.sha256(engine).hexdigest()}", text)
    (pack / "steps.txt").write_text(text)


def flipped(pack: Path) -> None:
    """One bit of the engine's weights."""
    content = bytearray((pack / "engine.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (pack / "engine.onnx").write_bytes(content)


def other_engine(content: Callable[[bytes], bytes]) -> Damage:
    """Another engine.onnx, which steps.txt knows."""

    def damage(pack: Path) -> None:
        before = (pack / "engine.onnx").read_bytes()
        (pack / "engine.onnx").write_bytes(content(before))
        known(pack)

    return damage


def pipe(name: str) -> Damage:
    """A pipe that nobody writes to in place of a file."""

    def damage(pack: Path) -> None:
        (pack / name).unlink()
        os.mkfifo(pack / name)

    return damage


def written(name: str, text: str) -> Damage:
    def damage(pack: Path) -> None:
        (pack / name).write_text(text)

    return damage


def both(first: Damage, second: Damage) -> Damage:
    def damage(pack: Path) -> None:
        first(pack)
        second(pack)

    return damage


def prefixed(name: str, before: bytes) -> Damage:
    return lambda pack: (pack / name).write_bytes(before + (pack / name).read_bytes())


def edit_bytes(name: str, old: bytes, new: bytes) -> Damage:
    def damage(pack: Path) -> None:
        content = (pack / name).read_bytes()
        assert content.count(old) == 1, old
        (pack / name).write_bytes(content.replace(old, new))

    return damage


def linked(name: str, target: str) -> Damage:
    def damage(pack: Path) -> None:
        (pack / name).unlink()
        (pack / name).symlink_to(target)

    return damage


def in_card(old: str, new: str) -> Damage:
    def damage(pack: Path) -> None:
        text = (pack / "card.json").read_text()
        assert text.count(old) == 1, old
        (pack / "card.json").write_text(text.replace(old, new))

    return damage


def longer(name: str, size: int) -> Damage:
    """Nothing behind what is there, up to a size; the disk does not hold it."""
    return lambda pack: os.truncate(pack / name, size)


def with_card(change: Callable[[dict[str, Any]], None], indent: int | None = None) -> Damage:
    """Another card.json, the engine's own stays."""

    def damage(pack: Path) -> None:
        card = json.loads((pack / "card.json").read_text())
        change(card)
        (pack / "card.json").write_text(json.dumps(card, indent=indent) + "\n")

    return damage


def with_free_channels(pack: Path) -> None:
    """An input x that does not say how many channels it has."""
    model = onnx.load(pack / "engine.onnx")
    x = next(entry for entry in model.graph.input if entry.name == "x")
    x.type.tensor_type.shape.dim[1].dim_param = "channels"
    other_engine(lambda _: model.SerializeToString())(pack)


def with_nameless_input(pack: Path) -> None:
    """One more input, whose name is empty."""
    model = onnx.load(pack / "engine.onnx")
    further = model.graph.input.add()
    further.CopyFrom(model.graph.input[0])
    further.name = ""
    other_engine(lambda _: model.SerializeToString())(pack)


TOLERANCE = f"tolerance {(1e-4).hex()}"

ARRAYS = ("input", "noise", "output")

DAMAGES: dict[str, tuple[Damage, int, str]] = {
    "no steps": (without("steps.txt"), 1, "steps.txt"),
    "no engine": (without("engine.onnx"), 1, "engine.onnx"),
    "no card": (without("card.json"), 1, "card.json"),
    "no noise": (without("reference_noise.npy"), 1, "reference_noise.npy"),
    "engine cut": (cut("engine.onnx", 1000), 1, "and steps.txt says"),
    "steps cut": (cut("steps.txt", 700), 1, "it is cut short"),
    "steps empty": (cut("steps.txt", 0), 1, "steps.txt"),
    "a margin of its own": (edit("clip 0", "clip 0\nmargin 8"), 1, "of different models"),
    "a margin of nothing": (edit("clip 0", "clip 0\nmargin 0"), 1, "its 'margin' is"),
    "a margin too wide": (edit("clip 0", "clip 0\nmargin 257"), 1, "its 'margin' is"),
    "output cut": (cut("reference_output.npy", 5000), 1, "reference_output.npy"),
    "noise claims more": (claims_more, 1, "reference_noise.npy"),
    "output too small": (replaced("reference_output.npy", np.zeros((2, 2, 3), np.float32)), 1, "reference_output.npy"),
    "input double": (replaced("reference_input.npy", np.zeros((21, 35, 3))), 1, "reference_input.npy"),
    "output turned": (
        other_header(b"(21, 35, 3)", b"(35, 21, 3)", "reference_output.npy"),
        1,
        "it is not the array {'descr': '<f4', 'fortran_order': False, 'shape': (21, 35, 3), }",
    ),
    "noise in Fortran's order": (
        other_header(b"'fortran_order': False", b"'fortran_order': True", "reference_noise.npy"),
        1,
        "it is not the array {'descr': '<f4', 'fortran_order': False, 'shape': (5, 3, 21, 35), }",
    ),
    "False elsewhere": (
        other_header(b"'fortran_order': False, 's", b"'False': True, 's", "reference_input.npy"),
        1,
        "it is not the array",
    ),
    "output not finite": (shift("reference_output.npy", np.nan), 1, "it has NaN or infinite values"),
    "noise not finite": (shift("reference_noise.npy", np.inf), 1, "it has NaN or infinite values"),
    "any tolerance": (edit(TOLERANCE, "tolerance 0x1.0p+10"), 1, "its 'tolerance' is"),
    "negative tolerance": (edit(TOLERANCE, "tolerance -0x1.0p-10"), 1, "its 'tolerance' is"),
    "no tolerance": (edit(TOLERANCE, "tolerance 0x0.0p+0"), 1, "its 'tolerance' is"),
    "too large for a float": (edit(TOLERANCE, "tolerance 0x1.0p+1999"), 1, "its 'tolerance' is"),
    "coefficient too large for a float": (step(1, "0x1.0p+1999"), 1, "steps.txt"),
    "lines of Windows": (windows("steps.txt"), 1, "its first line is not 'irsde-steps 1'"),
    "a timestep twice": (step(0, "41"), 1, "its timesteps do not decrease"),
    "a step of eight numbers": (step(6, "0x1.0p+0 0x1.0p+0"), 1, "steps"),
    "output longer": (longer("reference_output.npy", 128 + 4 * (21 * 35 * 3 + 1)), 1, "reference_output.npy: it "),
    "another conditional": (edit("conditional 1", "conditional 0"), 1, "are of different models"),
    "two spaces": (step(1, " 0x1.0p+0"), 1, "steps"),
    "an end that says more": (edit("\nend\n", "\nend 1\n"), 1, "it is cut short"),
    "a card without a default": (with_card(lambda card: card.pop("colour")), 1, "of different models"),
    "a bit of the engine": (flipped, 1, "it is not the file that was packed: its SHA-256 is another"),
    "no hash": (edit("engine_sha256 ", "engine_sha256 g"), 1, "its 'engine_sha256' is"),
    "no engine's bytes": (edit("engine_bytes ", "engine_bytes 0\n#"), 1, "its 'engine_bytes' is"),
    "r of 0 with clip": (step(6, "0x0.0p+0", edit("clip 0", "clip 1")), 1, "its step 4 has r = 0"),
    "r of -0 with clip": (step(6, "-0x0.0p+0", edit("clip 0", "clip 1")), 1, "its step 4 has r = 0"),
    "r of almost 0 with clip": (step(6, "0x0.0000000000001p-1022", edit("clip 0", "clip 1")), 1, "is not finite"),
    "another version": (edit("irsde-steps 1", "irsde-steps 2"), 1, "its first line is not 'irsde-steps 1'"),
    "a comment that is no text": (edit_bytes("steps.txt", b"# start", b"# \xae"), 1, "steps.txt: it is not UTF-8 text"),
    "a task that is no text": (
        edit_bytes("steps.txt", b"\ntask", b"\ntask \xed\xa0\x80"),
        1,
        "steps.txt: it is not UTF-8",
    ),
    "a task of two lines": (edit("\ntask", "\ntask a\x01b\n#"), 1, "its 'task' is"),
    "a key that moves the cursor": (edit("clip 0", "clip 0\n\x1b[2J\u0085\u202e 1"), 1, "which is unknown"),
    "unknown key": (edit("clip 0", "clip 0\nturbo 1"), 1, "it says 'turbo', which is unknown"),
    "missing key": (edit("clip 0\n", ""), 1, "it does not say 'clip'"),
    "key twice": (edit("clip 0", "clip 0\nclip 0"), 1, "it says 'clip' twice"),
    "huge side": (edit("reference_width 35", "reference_width 99999999999"), 1, "its 'reference_width' is"),
    "no channels": (edit("channels 3", "channels 0"), 1, "its 'channels' is"),
    "other channels": (edit("channels 3", "channels 4"), 1, "are of different models"),
    "engine elsewhere": (edit("backend openvino", "backend ../../etc/passwd"), 1, "its 'backend' is"),
    "negative seed": (edit("seed 5", "seed -5"), 1, "its 'seed' is"),
    "steps not as many": (edit("steps 4\n", "steps 5\n"), 1, "it has not as many steps as it says"),
    "steps repeated": (edit("\nend\n", "\nstep 100 0x0p+0 0x0p+0 0x0p+0 0x0p+0 0x0p+0 0x0p+0\nend\n"), 1, "steps"),
    "not a number": (edit("step 100 ", "step 100 nan "), 1, "steps"),
    "after the end": (edit("\nend\n", "\nend\nclip 1\n"), 1, "steps.txt"),
    "other output": (shift("reference_output.npy", 0.1), 3, "the restored reference differs from the pack's by 0.00"),
    "other input": (shift("reference_input.npy", 0.2), 3, "the restored reference differs from the pack's by"),
    "other noise": (shift("reference_noise.npy", 1e-3), 3, "the seed's noise differs from the pack's by 0.001"),
    "other seed": (edit("seed 5", "seed 6"), 3, "the seed's noise differs"),
    "other table": (other_start, 3, "the restored reference differs"),
    "clip": (edit("clip 0", "clip 1"), 3, "the restored reference differs"),
    "an input of any channels": (with_free_channels, 1, "engine.onnx: the graph must map x"),
    "an input without a name": (with_nameless_input, 1, "engine.onnx: "),
    **{
        f"engine of {kind}": (other_engine(lambda _, content=content: content), 1, "engine.onnx: not an ONNX model")
        for kind, content in {
            "text": b"hello world\n",
            "zeros": bytes(1000),
            "XML": b'<?xml version="1.0"?><net></net>',
            "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
            "noise": np.random.default_rng(0).bytes(500),
        }.items()
    },
    "half an engine": (other_engine(lambda engine: engine[: len(engine) // 2]), 1, "engine.onnx: not an ONNX model"),
    "an engine's end": (other_engine(lambda engine: engine[1000:]), 1, "engine.onnx: not an ONNX model"),
    **{
        f"pipe for {name}": (pipe(name), 1, "is not an ordinary file")
        for name in ("steps.txt", "card.json", "engine.onnx", *(f"reference_{name}.npy" for name in ARRAYS))
    },
    **{f"NaN in {name}": (shift(f"reference_{name}.npy", np.nan), 1, f"{name}.npy: it has NaN") for name in ARRAYS},
    "input infinite": (shift("reference_input.npy", -np.inf), 1, "reference_input.npy: it has NaN or infinite values"),
    "input too large": (
        shift("reference_input.npy", 300),
        1,
        "reference_input.npy: floating-point pictures are in [0, 1], and this one goes to 300",
    ),
    "card of nothing": (written("card.json", "{}\n"), 1, "card.json: "),
    "card of text": (written("card.json", "hello\n"), 1, "card.json: "),
    "card cut": (cut("card.json", 300), 1, "card.json: "),
    "card elsewhere": (linked("card.json", "/etc/passwd"), 1, "card.json: "),
    "card twice": (in_card("}\n", "}{}\n"), 1, "card.json: "),
    "card of gigabytes": (longer("card.json", 2200 * 2**20), 1, "card.json: "),
    "steps of gigabytes": (longer("steps.txt", 2200 * 2**20), 1, "steps.txt: "),
    "card with an unknown field": (in_card('"task":', '"turbo":1,"task":'), 1, "card.json: "),
    "card with a field twice": (in_card('"task":', '"steps":4,"task":'), 1, "card.json: "),
    "card without a field": (with_card(lambda card: card.pop("sde")), 1, "card.json: "),
    "card with a text for a number": (in_card('"channels":3', '"channels":"3"'), 1, "card.json: "),
    "card with true for a number": (in_card('"schema_version":1', '"schema_version":true'), 1, "card.json: "),
    "card with NaN": (in_card('"eps":', '"eps":NaN,"_":'), 1, "card.json: "),
    "card with a number without end": (in_card('"max_sigma":', '"max_sigma":1e999,"_":'), 1, "card.json: "),
    "card with a number of two zeros": (in_card('"channels":3', '"channels":03'), 1, "card.json: "),
    "card with half a character": (with_card(lambda card: card.update(task="\ud800")), 1, "card.json: "),
    "card with an accent": (written("card.json", '{"network":"\u00e9"}\n'), 1, "card.json: "),
    "card with a mark before it": (prefixed("card.json", b"\xef\xbb\xbf"), 1, "card.json: "),
    "card with a bracket too few": (in_card("}\n", "\n"), 1, "card.json: "),
    "card with a comma too many": (in_card('"task":', ',"task":'), 1, "card.json: "),
    "card nested without end": (
        in_card('"settings":{}', '"settings":{"a":' + "[" * 500 + "]" * 500 + "}"),
        1,
        "card.json: ",
    ),
    "card of another task": (with_card(lambda card: card.update(task="dehaze")), 1, "are of different models"),
    "card of another SDE": (with_card(lambda card: card["sde"].update(max_sigma=11)), 1, "are of different models"),
    "card of another width": (with_card(lambda card: card["settings"].update(nf=4)), 1, "are of different models"),
    "card of other steps": (with_card(lambda card: card.update(steps=7)), 1, "are of different models"),
    "card of other channels": (in_card('"channels":3,"m', '"channels":4,"m'), 1, "are of different models"),
    "card of another precision": (in_card('"precision":"fp32"', '"precision":"fp16"'), 1, "are of different models"),
    "another precision": (edit("precision fp32", "precision fp16"), 1, "are of different models"),
    "another padding": (edit("pad_mode reflect", "pad_mode zero"), 1, "are of different models"),
    "another multiple": (edit("multiple_of 4", "multiple_of 8"), 1, "are of different models"),
    "latent": (edit("latent 0", "latent 1"), 1, "are of different models"),
    "huge multiple": (edit("multiple_of 4", "multiple_of 4096"), 1, "its 'multiple_of' is"),
    "huge multiple in both": (
        both(edit("multiple_of 4", "multiple_of 512"), in_card('f":4,', 'f":512,')),
        1,
        "its 'multiple_of' is",
    ),
    "not finite": (with_nan, 1, "after step 1 of 4 (t = 100) the state is not finite (NaN or infinity), in fp32 on "),
}
"""Name -> damage to the pack of the small network: sde-2m, 4 steps, seed 5, reference 21x35."""
