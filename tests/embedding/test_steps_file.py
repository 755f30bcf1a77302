"""steps.txt: what is written, and exactly what is read: no number in another form, no line more or less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irsde_deploy.core.samplers import StepTable
from irsde_deploy.embedding.steps_file import PackSettings, is_steps_file, read_steps_file, to_text
from irsde_deploy.embedding.steps_values import coefficient, sha256, tolerance, whole, words
from irsde_deploy.errors import InputFileError

TABLE = StepTable(np.array([9, 4]), *(np.array([0.1 * k + 1 / 3, -0.7 * k - 0.25]) for k in range(1, 7)), start=0.1)
SETTINGS = PackSettings(
    "openvino", 10, 3, 16, "zero", True, False, False, 0, "fp32", "mean", "", 8, 9, 1e-4, TABLE
)  # fmt: skip


def read(folder: Path, text: str) -> PackSettings:
    (folder / "steps.txt").write_bytes(text.encode())
    return read_steps_file(folder / "steps.txt")


def test_every_value_comes_back_and_what_earlier_versions_do_not_know_is_left_out(tmp_path: Path) -> None:
    text = to_text(SETTINGS)
    assert "\nseed 0\n" in text
    assert "\nclip 0\n" in text
    assert "\ntask\n" in text
    assert "margin" not in text
    assert "engine_sha256" not in text
    for changes in ({}, {"margin": 256, "engine_sha256": "0f" * 32}, {"seed": 2**64 - 1, "clip": True}):
        expected = replace(SETTINGS, **changes)
        found = read(tmp_path, to_text(expected))
        for name in PackSettings.__dataclass_fields__:
            if name != "table":
                assert getattr(found, name) == getattr(expected, name), name
    assert found.table.start == 0.1
    for name in ("t", "a", "c", "d", "s", "p", "r"):
        np.testing.assert_array_equal(getattr(found.table, name), getattr(TABLE, name), name)
    assert found.plan.clip is True


def test_the_columns_of_a_step_are_in_the_order_that_c_reads() -> None:
    first = next(line for line in to_text(SETTINGS).splitlines() if line.startswith("step "))
    values = [TABLE.a[0], TABLE.c[0], TABLE.d[0], TABLE.s[0], TABLE.p[0], TABLE.r[0]]
    assert first == "step 9 " + " ".join(float(value).hex() for value in values)


LARGEST = [("channels", 256), ("multiple_of", 256), ("reference_height", 8192), ("reference_width", 8192)]


@pytest.mark.parametrize(("name", "most"), LARGEST)
def test_limits_are_those_of_the_c_library(name: str, most: int, tmp_path: Path) -> None:
    assert getattr(read(tmp_path, to_text(replace(SETTINGS, **{name: most}))), name) == most
    assert getattr(read(tmp_path, to_text(replace(SETTINGS, **{name: 1}))), name) == 1
    for wrong in (0, most + 1):
        with pytest.raises(InputFileError, match=f"its '{name}' is wrong"):
            read(tmp_path, to_text(replace(SETTINGS, **{name: wrong})))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("irsde-steps 1", "irsde-steps 2", "its first line is not 'irsde-steps 1'"),
        ("irsde-steps 1", "irsde-steps 10", "its first line is not"),
        ("clip 0", "clip 0\nturbo 1", "it says 'turbo', which is unknown"),
        ("clip 0", "clip 0\nclip 1", "it says 'clip' twice"),
        ("clip 0", "clip 0\r", "its 'clip' is wrong"),
        ("\nend\n", "\n", "it is cut short"),
        ("\nend\n", "\nend", None),
        ("steps 2", "steps 3", "it has not as many steps as it says"),
        ("steps 2", "steps 1", "it has not as many steps as it says"),
        ("step 9 ", "step 4 ", "its timesteps do not decrease"),
        ("step 9 ", "step 1000001 ", "no whole number from 1 to 1000000"),
        ("task", "task a\tb", "its 'task' is wrong"),
        ("seed 0", f"seed {2**64}", "its 'seed' is wrong"),
    ],
)
def test_other_texts_are_refused(old: str, new: str, words: str | None, tmp_path: Path) -> None:
    text = to_text(SETTINGS).replace(old, new, 1)
    if words is None:
        assert read(tmp_path, text).channels == 3
        return
    with pytest.raises(InputFileError, match=words):
        read(tmp_path, text)


def test_a_clipped_step_must_hang_on_the_network(tmp_path: Path) -> None:
    table = replace(TABLE, r=np.array([0.5, 0.0]))
    assert not read(tmp_path, to_text(replace(SETTINGS, table=table))).clip
    with pytest.raises(InputFileError, match="its step 2 has r = 0, which does not go with clip"):
        read(tmp_path, to_text(replace(SETTINGS, table=table, clip=True)))


READ: list[tuple[Callable[[str], object], str, object]] = [
    (whole(3, 5), "3", 3), (whole(3, 5), "5", 5), (whole(0, 9), "0", 0),
    (whole(0, 2**64 - 1), str(2**64 - 1), 2**64 - 1),
    (coefficient, "0x1.8p+1", 3.0), (coefficient, "-0x0.0p+0", 0.0), (coefficient, (1e30).hex(), 1e30),
    (coefficient, (-1e30).hex(), -1e30), (coefficient, "0x0.0000000000001p-1022", 5e-324),
    (coefficient, "0x1.00000000000000p+0", 1.0), (coefficient, "0x1p-2000", 0.0),
    (tolerance, "0x1p-1", 0.5), (tolerance, "0x1p-30", 2.0**-30),
    (words, "", ""), (words, 800 * "a", 800 * "a"), (words, 400 * "\u00e9", 400 * "\u00e9"),
    (sha256, "0a" * 32, "0a" * 32),
]  # fmt: skip

REFUSED: list[tuple[Callable[[str], object], str]] = [
    *((whole(3, 5), text) for text in ("2", "6", "", " 3", "3 ", "+3", "-3", "3.0", "3_0", "0x3", "\u0663", "0" * 21)),
    *((coefficient, text) for text in (
        "nan", "inf", "1.5", "0x1.8", "0x1.8p1", "0x.8p+1", "0x1.p+1", "0X1p+0", "0x1Ap+0", "0x1p+2001", "0x1p-2001",
        "0x1p+12345", "0x1.000000000000000p+0", "0x1p+1024", "0x1p+1999", (1.1e30).hex(), (-1.1e30).hex(),
        "+0x1p+0", "0x1p+0 ",
    )),
    *((tolerance, text) for text in ("0x0p+0", "-0x1p-9", "0x1.0000000000001p-1", "0x1p+0")),
    *((words, text) for text in (801 * "a", 401 * "\u00e9", "a\x1fb", "a\nb", "a\tb")),
    *((sha256, text) for text in ("", "0a" * 31, "0a" * 33, "0A" * 32, "0g" * 32)),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "text", "value"), READ)
def test_values_are_read_as_they_are_written(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text"), REFUSED)
def test_values_in_another_form_are_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"is no |is not |is out of range"):
        parse(text)


def test_packs_of_every_version_are_told_by_their_first_words(tmp_path: Path) -> None:
    path = tmp_path / "steps.txt"
    assert not is_steps_file(path)
    for text, ours in (("irsde-steps 2\n", True), ("irsde-steps\n", False), ("irsde notes\n", False), ("", False)):
        path.write_text(text)
        assert is_steps_file(path) is ours, text
