"""The process in which damaged files are read, since any of them may crash it, hang it, or take all memory.

It is told `KIND SEED NUMBER` in a line of stdin, and answers with a line of JSON on the descriptor that it was given.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

MOST_SENTENCE = 450
"""Characters of a sentence, without the paths in it. The longest of ours lists the recipes."""
ESCAPES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_GIB = 1 << 30


@dataclass(frozen=True)
class Answer:
    """What became of a damaged file.

    Attributes:
        outcome: `accepted`, `refused` or `fault`.
        what: the sentence that refused it, or what went wrong.
        seconds, mib: what it took; memory beyond what the process had before.
        where: of a fault, the last lines of the traceback.
    """

    outcome: str
    what: str
    seconds: float
    mib: float
    where: str = ""


def main(folder: Path, answers: int) -> None:
    """Answer until stdin ends."""
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    _import_everything()
    soft = int(_vm_mib() * 2**20) + 12 * _GIB  # libraries reserve address space in large pieces
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            kind, seed, number = line.rstrip("\n").split("\t")
            out.write(json.dumps(asdict(answer(folder, kind, int(seed), int(number)))) + "\n")
            out.flush()


def _import_everything() -> None:
    """What readers import when they are first used belongs to no file's time and memory."""
    import warnings

    for category in (UserWarning, RuntimeWarning, FutureWarning):  # users see them: they count as printed, each time
        warnings.filterwarnings("always", category=category)
    import av  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch

    torch.set_num_threads(1)


def make_damaged(folder: Path, kind: str, seed: int, number: int) -> Path:
    """The damaged file of this kind, seed and number, in a fresh folder."""
    from .kinds import KINDS

    target = folder / "damaged"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    return KINDS[kind].damage(Random(f"{kind} {seed} {number}"), good_folder(folder, kind), target)


def good_folder(folder: Path, kind: str) -> Path:
    """The folder of a kind's good files, made when it is first wanted."""
    from .kinds import KINDS

    good = folder / "good" / kind.replace(" ", "-")
    if not good.exists():
        fresh = folder / f"fresh-{os.getpid()}"
        fresh.mkdir(parents=True)
        KINDS[kind].make(fresh)
        good.parent.mkdir(exist_ok=True)
        fresh.rename(good)
    return good


def answer(folder: Path, name: str, seed: int, number: int) -> Answer:
    """Make a damaged file, let it be read, and judge what happened."""
    from .kinds import KINDS

    kind = KINDS[name]
    path = make_damaged(folder, name, seed, number)
    outputs = folder / "outputs"
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir()
    _empty(folder / "home")
    before = _fingerprint(path.parent)
    printed = _Printed(folder / "printed")
    base = _reset_peak()
    began = time.process_time()  # of the processor: other processes may keep it from us
    with printed:
        outcome, what, where = _outcome(lambda: kind.read(path, outputs), str(folder))
    seconds, mib = time.process_time() - began, max(0.0, _peak_mib() - base)
    faults = [
        (seconds > kind.most_seconds, f"takes {seconds:.1f} s, where {kind.most_seconds:g} are the most"),
        (mib > kind.most_mib, f"takes {mib:.0f} MiB, where {kind.most_mib:g} are the most"),
        (bool(printed.text), f"something was printed: {printed.text[:200]!r}"),
        (_fingerprint(path.parent) != before, "the input's folder has changed"),
        (any(outputs.rglob("*.part")), "a temporary file was left"),
        (bool(found := _names(folder / "work")), f"written to the current folder: {found}"),
        (bool(found := _names(folder / "home")), f"written to the home folder: {found}"),
    ]
    for broken, sentence in faults:
        if broken and outcome != "fault":
            outcome, what, where = "fault", sentence, f"{outcome}: {what}"
    return Answer(outcome, what, seconds, mib, where)


def _outcome(read: object, folder: str) -> tuple[str, str, str]:
    from irsde_deploy.errors import IrsdeError

    from .kinds.kind import Wrong

    try:
        read()  # type: ignore[operator]
    except IrsdeError as error:
        return _judged(str(error).replace(folder, ""))
    except Wrong as wrong:
        return "fault", str(wrong), ""
    except BaseException as error:
        lines = traceback.format_exc().splitlines()
        return "fault", f"{type(error).__name__}: {str(error)[:300]}", "\n".join(lines[-14:])
    return "accepted", "", ""


def _judged(sentence: str) -> tuple[str, str, str]:
    """A refusal, if its sentence is one line that can be printed."""
    if len(sentence) > MOST_SENTENCE:
        return "fault", f"a sentence of {len(sentence)} characters: {sentence[:MOST_SENTENCE]}", ""
    if ESCAPES.search(sentence):
        return "fault", f"a control character in the sentence {sentence!r}", ""
    return "refused", sentence, ""


def _names(folder: Path) -> str:
    return ", ".join(path.name for path in folder.iterdir())


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.name == "lock":
            continue
        digest.update(str(path).encode("utf-8", "surrogateescape"))
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


class _Printed:
    """What is written to stdout or stderr within the block, by Python or a native library.

    Attributes:
        text: that, once the block has ended.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.text = path, ""

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._kept = os.dup(1), os.dup(2)
        file = os.open(self._path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in zip((1, 2), self._kept, strict=True):
            os.dup2(kept, number)
            os.close(kept)
        self.text = self._path.read_bytes()[:2000].decode("utf-8", "replace")


def _status(name: str) -> float:
    """A number of /proc/self/status, in MiB; 0 on systems without it."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0


def _vm_mib() -> float:
    return _status("VmSize")


def _reset_peak() -> float:
    """Forget the most memory so far, and return what is in use."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_mib()
    return _status("VmRSS")


def _peak_mib() -> float:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
