"""Text of YAML, TOML and JSON that a parser stumbles over: one short sentence, in no time."""

import time

import pytest

from irsde_deploy.errors import InvalidValueError
from irsde_deploy.system.parsing import MOST_DEPTH, parse_json, parse_toml, parse_yaml, shown


def aliases(levels: int) -> str:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "a whole number of 5000 digits": (parse_yaml, "T: " + "9" * 5000, "is not valid YAML"),
    "a date that is none": (parse_yaml, "T: 2024-13-45", "month must be in 1..12"),
    "a number without digits": (parse_yaml, 'T: !!int ""', "a value is not of the type that its tag says"),
    "a flag that is none": (parse_yaml, "T: !!bool q", "a value is not of the type that its tag says"),
    "brackets": (parse_yaml, "[" * 60_000, f"nested too deeply: {MOST_DEPTH} levels are the most"),
    "dashes": (parse_yaml, "- " * 30_000, "nested too deeply"),
    "an alias of itself": (parse_yaml, "a: &a [*a]", "repeats itself without end"),
    "aliases of aliases": (parse_yaml, aliases(12), "repeats itself without end"),
    "a number to the base 60": (parse_yaml, "T: " + "1:" * 30_000 + "1", "beyond 64 bits"),
    "dots": (parse_toml, ".".join(["a"] * 30_000) + " = 1", "nested too deeply"),
    "dots in a table's name": (parse_toml, f"[{'.'.join(['a'] * 30_000)}]", "nested too deeply"),
    "brackets of TOML": (parse_toml, "T = " + "[" * 60_000, "nested too deeply"),
    "5000 digits in TOML": (parse_toml, "T = " + "9" * 5000, "is not valid TOML"),
    "a long name again and again": (
        lambda text, what: parse_json(text, what, 16_000_000),
        '{"' + "n" * 4_000_000 + '": [' + "1," * 200_000 + "1e999]}",
        "must be a finite number, not inf",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_refused_in_one_short_sentence(kind):
    parse, text, sentence = HOSTILE[kind]
    started = time.process_time()
    with pytest.raises(InvalidValueError, match=sentence) as refused:
        parse(text, "the file")
    assert len(str(refused.value)) < 250
    assert time.process_time() - started < 3


def test_as_many_levels_as_are_allowed_are_read():
    deepest = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert parse_yaml(deepest, "it") == [parse_yaml(deepest[1:-1], "it")]
    with pytest.raises(InvalidValueError, match="nested too deeply"):
        parse_yaml(f"[[{deepest}]]", "it")


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000, list(range(10_000)), 10**5000, {"a": "x" * 10_000}, [[["x" * 100] * 9] * 9]],
    ids=["text", "list", "number", "object", "lists"],
)
def test_a_value_is_shown_short(value):
    assert len(shown(value)) <= 60


def test_of_equal_keys_the_last_counts_and_is_told() -> None:
    told: list[str] = []
    assert parse_yaml("a: 1\nb: {c: 2, c: 3}\na: 4", "the file", told.append) == {"a": 4, "b": {"c": 3}}
    assert sorted(told) == ["a", "c"]
    with pytest.raises(InvalidValueError, match="the file is not valid JSON .'a' is there twice"):
        parse_json('{"b": {"a": 1, "a": 1}}', "the file", 100)


def test_yaml_is_refused_where_it_is_too_deep_before_what_follows_is_read() -> None:
    with pytest.raises(InvalidValueError, match="nested too deeply: 32 levels are the most"):
        parse_yaml("[" * 40 + "a, " * 1000 + "@", "the file")  # what is no YAML comes last
