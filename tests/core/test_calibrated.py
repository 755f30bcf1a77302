"""What is said of timesteps outside of an INT8 engine's calibration."""

from __future__ import annotations

from dataclasses import replace

from irsde_deploy import MeanRevertingSDE, ModelCard
from irsde_deploy.core.calibrated import uncalibrated_words

CARD = ModelCard("ConditionalNAFNet", {}, 3, 8, "zero", MeanRevertingSDE(10, 100, "cosine", 0.005))


def test_the_sentence_names_the_span_and_what_lies_outside_of_it_the_latest_first() -> None:
    card = replace(CARD, precision="int8", calibrated=(69, 16))
    assert uncalibrated_words(CARD, [100, 1]) is None
    assert uncalibrated_words(card, [69, 16]) is None
    words = uncalibrated_words(card, [15, 70, 40, 100])
    assert words is not None
    assert words.startswith("INT8 is calibrated from t = 69 to 16, and may be far off at t = 100, 70, 15, which")
    alone = uncalibrated_words(replace(card, calibrated=(9, 9)), [10])
    assert alone is not None
    assert alone.startswith("INT8 is calibrated at t = 9 alone, and")


def test_no_more_than_eight_are_named() -> None:
    card = replace(CARD, precision="int8", calibrated=(50, 1))
    for count, end in ((8, "53, 52, 51, which"), (9, "54, 53, 52, ..., which")):
        words = uncalibrated_words(card, range(51, 51 + count))
        assert words is not None
        assert end in words
