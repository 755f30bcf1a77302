"""Texts and values of any shape, by Hypothesis: parsers and cards take them, or refuse them in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.sde import MeanRevertingSDE
from irsde_deploy.errors import InputFileError, InvalidValueError, one_line
from irsde_deploy.system.parsing import parse_json, parse_toml, parse_yaml
from irsde_deploy.training.settings import TrainingSettings
from irsde_deploy.video.pipe_formats import header_format

QUICK = settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
LONGEST = 300

NUMBERS = st.one_of(st.integers(), st.integers(-10, 200), st.floats(), st.floats(0, 100))
TEXTS = st.one_of(st.text(max_size=30), st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl"]), max_size=5))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)

CARD = ModelCard(
    "ConditionalNAFNet",
    {"width": 16, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]},
    3,
    16,
    "zero",
    MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005),
).to_dict()
PLACES = [(name,) for name in CARD] + [("sde", name) for name in CARD["sde"]]


def taken(call: Callable[[], Any], error: type[Exception] = InvalidValueError) -> Any:
    """What a call gives; None where it refuses in one sentence."""
    try:
        return call()
    except error as refusal:
        sentence = str(refusal)
        assert 10 < len(sentence) <= LONGEST, sentence
        assert "\n" not in sentence, sentence
        return None


@QUICK
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_in_a_card(place: tuple[str, ...], value: Any) -> None:
    card = json.loads(json.dumps(CARD))
    inner = card
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    made = taken(lambda: ModelCard.from_dict(card))
    if made is not None:
        assert ModelCard.from_json(made.to_json()) == made
        assert len(made.plan().table) >= 1


@QUICK
@given(VALUES)
def test_any_value_for_a_card(value: Any) -> None:
    assert taken(lambda: ModelCard.from_dict(value)) is None


@QUICK
@given(VALUES)
def test_json_of_any_value(value: Any) -> None:
    text = json.dumps(value)
    found = taken(lambda: parse_json(text, "it", 10_000))
    if found is not None:
        assert json.dumps(found) == json.dumps(json.loads(text))


PIECES = st.one_of(
    st.text(max_size=10),
    st.sampled_from([*"{}[]:,-?&*!|>'\"%@`#=\n\t \\", "<<: ", "!!int ", "0x", "1e", "2001-01-01", "\n- ", ": "]),
)


@QUICK
@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_text_as_json_yaml_and_toml(text: str) -> None:
    taken(lambda: parse_json(text, "it", 10_000))
    taken(lambda: parse_yaml(text, "the file"))
    taken(lambda: parse_toml(text, "the file"))


@QUICK
@given(st.sampled_from(sorted(TrainingSettings.__dataclass_fields__)), st.one_of(NUMBERS, st.booleans(), TEXTS))
def test_any_number_in_training_settings(name: str, value: Any) -> None:
    from irsde_deploy.system.decoding import convert, numbers_from_text

    values = numbers_from_text({name: value}, TrainingSettings)
    taken(lambda: convert(values, TrainingSettings, "the settings"))


WORDS = st.one_of(
    st.binary(max_size=12),
    st.builds(
        lambda letter, value: letter + value, st.sampled_from([b"W", b"H", b"F", b"C", b"I"]), st.binary(max_size=6)
    ),
    st.sampled_from([b"W8", b"H6", b"F25:1", b"C420", b"C444p10", b"It", b"XCOLORRANGE=FULL", b"W9999999", b"F1:0"]),
)


@QUICK
@given(st.lists(WORDS, max_size=6))
def test_any_header_of_y4m(words: list[bytes]) -> None:
    line = b" ".join([b"YUV4MPEG2", *words]).replace(b"\n", b"") + b"\n"
    form = taken(lambda: header_format(line), InputFileError)
    if form is not None:
        assert 0 < form.height * form.width <= 100_000_000
        assert form.header == line


@QUICK
@given(st.text())
def test_what_is_printed_is_one_line(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert "\x1b" not in shown
