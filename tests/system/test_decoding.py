"""Plain values become dataclasses of just the types they name; everything else is one sentence that helps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hostile import hostile_json

from irsde_deploy.errors import EngineError, InputFileError, InvalidValueError, refuse
from irsde_deploy.system.decoding import convert, inside, numbers_from_text
from irsde_deploy.system.parsing import MOST_DEPTH, parse_json, parse_toml, parse_yaml, read_text


@dataclass(frozen=True)
class Wheel:
    size: float
    spokes: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        refuse([(self.size <= 0, f"a wheel's size is above 0, not {self.size}")])


@dataclass(frozen=True)
class Bicycle:
    name: str
    gears: int
    wheels: tuple[Wheel, ...]
    bell: bool = True
    notes: Mapping[str, Any] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    owner: str | None = None


GOOD = {"name": "Tern", "gears": 8, "wheels": [{"size": 20}, {"size": 20.5, "spokes": [28, 32]}]}


def test_what_is_written_again_is_what_was_read() -> None:
    read = convert({**GOOD, "prices": {"new": 900, "used": 450.0}}, Bicycle, "the bicycle")
    assert read == Bicycle("Tern", 8, (Wheel(20), Wheel(20.5, (28, 32))), prices={"new": 900, "used": 450.0})
    assert json.dumps([wheel.size for wheel in read.wheels]) == "[20, 20.5]"
    assert json.dumps(read.prices) == '{"new": 900, "used": 450.0}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gears": "8"}, "in the bicycle, gears must be a whole number, not '8': mend it"),
        ({"gears": True}, "in the bicycle, gears must be a whole number, not True: mend it"),
        ({"gears": 8.0}, "in the bicycle, gears must be a whole number, not 8.0: mend it"),
        ({"bell": 1}, "in the bicycle, bell must be true or false, not 1: mend it"),
        ({"owner": 3}, "in the bicycle, owner must be text or null, not 3: mend it"),
        ({"wheels": {}}, "in the bicycle, wheels must be a list, not {}: mend it"),
        ({"notes": [1]}, "in the bicycle, notes must be an object (names with values), not [1]: mend it"),
        ({"wheels": [{"size": "x"}]}, "in the bicycle, wheels[0].size must be a number, not 'x': mend it"),
        ({"wheels": [{}]}, "wheels[0] in the bicycle lacks size: mend it"),
        ({"wheels": [{"size": 1, "tyre": 2}]}, "wheels[0] in the bicycle has the unknown field 'tyre': mend it"),
        (
            {"wheels": [{"size": 1, "spokes": [1]}]},
            "in the bicycle, wheels[0].spokes must be a list of 2 entries, not [1]: mend it",
        ),
        ({"wheels": [{"size": -1}]}, "in the bicycle: a wheel's size is above 0, not -1: mend it"),
        ({"prices": {"new": "9"}}, "in the bicycle, prices[...] must be a number, not text: mend it"),
        ({"\ud800": 1}, "the bicycle has the name '\\ud800', which is no text: mend it"),
        ({"notes": {1: 2}}, "names in notes in the bicycle must be text: mend it"),
        ({"x" * 90: 2}, f"the bicycle has the unknown field '{'x' * 27}...{'x' * 28}': mend it"),
    ],
)
def test_a_sentence_names_field_find_expectation_and_advice(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        convert({**GOOD, **change}, Bicycle, "the bicycle", "mend it")
    assert str(raised.value) == message


def test_unknown_fields_are_told_what_there_is_where_nothing_else_helps() -> None:
    with pytest.raises(InvalidValueError, match=r"the wheel has the unknown field 'rim': it has size, spokes$"):
        convert({"size": 1, "rim": 2}, Wheel, "the wheel")
    with pytest.raises(InvalidValueError, match="the wheel must be an object .names with values., not 5$"):
        convert(5, Wheel, "the wheel")


def test_what_we_write_in_full_is_read_in_full() -> None:
    assert convert({"size": 1}, Wheel, "the wheel") == Wheel(1)
    with pytest.raises(InvalidValueError, match="the wheel lacks spokes"):
        convert({"size": 1}, Wheel, "the wheel", complete=True)
    assert convert({"size": 1, "spokes": None}, Wheel, "the wheel", complete=True) == Wheel(1)
    full = {"bell": True, "notes": {}, "prices": {}, "owner": None, **GOOD}
    with pytest.raises(InvalidValueError, match=r"wheels\[0\] in the bicycle lacks spokes"):
        convert(full, Bicycle, "the bicycle", complete=True)


def test_parts_are_made_by_their_own_functions() -> None:
    made = convert({**GOOD, "wheels": 2}, Bicycle, "the bicycle", parts={"wheels": lambda n: (Wheel(20),) * n})
    assert made.wheels == (Wheel(20), Wheel(20))


@pytest.mark.parametrize(("content", "message"), hostile_json(GOOD, "gears"))
def test_hostile_json(content: bytes, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message) as raised:
        convert(parse_json(content.decode(), "the bicycle", 250_000), Bicycle, "the bicycle")
    assert len(str(raised.value)) < 250


def test_numbers_may_be_written_as_text_by_people() -> None:
    @dataclass(frozen=True)
    class Numbers:
        rate: float = 0
        count: int = 0
        steps: tuple[int, ...] = ()
        most: int | None = None
        name: str = ""
        flag: bool = False

    def read(**values: Any) -> Numbers:
        return convert(numbers_from_text(values, Numbers), Numbers, "the numbers")

    assert read(rate="5e-3", count="1e5", steps=["5", 1e1, " 20"], most=" 4", name="7") == Numbers(
        5e-3, 100_000, (5, 10, 20), 4, "7"
    )
    assert isinstance(read(rate=1).rate, float)
    assert read(count=f"{2**63 - 1}").count == 2**63 - 1, "no float on the way"
    for name, value, words in (
        ("rate", "much", "a number, not 'much'"),
        ("rate", True, "a number, not True"),
        ("rate", "nan", "a finite number, not nan"),
        ("count", "1.5", "a whole number, not '1.5'"),
        ("count", "inf", "a whole number, not 'inf'"),
        ("count", True, "a whole number, not True"),
        ("steps", [True], "a whole number, not True"),
        ("flag", 1, "true or false, not 1"),
        ("flag", "true", "true or false, not 'true'"),
        ("name", 7, "text, not 7"),
    ):
        with pytest.raises(InvalidValueError, match=f"{name}.* must be {words}"):
            read(**{name: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = inf", "in the recipe, a must be a finite number, not inf"),
        ("a = [1, nan]", r"in the recipe, a\[1\] must be a finite number, not nan"),
        ("a = 1\na = 2", "is not valid TOML .*overwrite"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a" + ".a" * 500 + " = 1", "nested too deeply"),
        ("a = 2020-99-99", "is not valid TOML"),
        (f"a = {2**64}", "beyond 64 bits"),
        ("a = " + "9" * 4321, "4321 digits|beyond 64 bits"),
    ],
)
def test_hostile_toml(text: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parse_toml(text, "the recipe")


DOUBLED = "a0: &a0 [1]\n" + "".join(f"a{k + 1}: &a{k + 1} [*a{k}, *a{k}]\n" for k in range(25))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: .nan", "in the options, a must be a finite number, not nan"),
        ("a: &a [*a]", "by aliases|nested too deeply"),
        (DOUBLED, "repeats itself without end, by aliases"),
        ("[" * 1000, "nested too deeply"),
        ("a: 2020-99-99", "is not valid YAML .month must be in 1..12"),
        ("!!int ''", "is not valid YAML"),
        ("? [a]: 1\n: 2", "is not valid YAML .*unhashable"),
        ("!!timestamp x", "is not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "is not valid YAML"),
        (f"a: {2**64}", "beyond 64 bits"),
    ],
)
def test_hostile_yaml(text: str, message: str) -> None:
    pytest.importorskip("yaml")
    with pytest.raises(InvalidValueError, match=message):
        parse_yaml(text, "the options")


def test_names_of_files_that_are_no_utf8_are_read_back() -> None:
    """Python writes such a name with lone surrogates, which msgspec's own parser refuses."""
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert parse_json(json.dumps({"name": name}), "the file", 100) == {"name": name}


def test_depth_and_whole_numbers_at_their_bounds() -> None:
    deep = "[" * MOST_DEPTH + "1" + "]" * MOST_DEPTH
    parse_json(deep, "the file", 1000)
    with pytest.raises(InvalidValueError, match="nested too deeply: 32 levels"):
        parse_json(f"[{deep}]", "the file", 1000)
    assert parse_json(f"[{2**64 - 1}, {1 - 2**64}]", "the file", 1000) == [2**64 - 1, 1 - 2**64]
    with pytest.raises(InvalidValueError, match=r"in the file, \[0\] is a whole number beyond 64 bits"):
        parse_json(f"[{-(2**64)}]", "the file", 1000)


def test_what_follows_a_value_may_be_left_alone() -> None:
    assert parse_json('{"a": 1}\0\xff', "the card", 100, rest=True) == {"a": 1}
    with pytest.raises(InvalidValueError, match="not valid JSON .Extra data"):
        parse_json('{"a": 1}\0', "the card", 100)


def test_files_are_looked_at_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"123456")
    assert read_text(path, 6, "a note") == "123456"
    with pytest.raises(InputFileError, match=r"a\.json: is too large to be a note: 6 bytes, where 5 are the most"):
        read_text(path, 5, "a note")
    path.write_bytes(b"\xef\xbb\xbf123")
    assert read_text(path, 6, "a note") == "123", "with the mark of editors on Windows"
    path.write_bytes(b"12\xff")
    with pytest.raises(InputFileError, match=r"a\.json: is not a note: byte 2 is not UTF-8 text"):
        read_text(path, 5, "a note")
    with pytest.raises(InputFileError, match="no such file"):
        read_text(tmp_path / "b.json", 5, "a note")


def test_the_file_comes_first_and_the_kind_of_error_is_the_callers() -> None:
    with (
        pytest.raises(EngineError, match=r"^a\.onnx: channels must be 3: export again$"),
        inside(Path("a.onnx"), EngineError, "export again"),
    ):
        raise InvalidValueError("channels must be 3")


def test_rules_after_a_broken_one_are_not_asked() -> None:
    def rules():
        yield False, "never said"
        yield True, "the second"
        raise AssertionError

    with pytest.raises(InvalidValueError, match="the second"):
        refuse(rules())
