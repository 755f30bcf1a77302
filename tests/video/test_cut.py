"""The part of a file that is kept: what lies at its ends, and where it comes to lie."""

from __future__ import annotations

from fractions import Fraction

import pytest

from irsde_deploy.video.cut import Cut

PART = Cut(Fraction(2), Fraction(5))
S = [Fraction(second) for second in range(8)]


@pytest.mark.parametrize(("time", "inside"), [(1, False), (2, True), (4, True), (5, False)])
def test_the_beginning_is_in_a_part_and_the_end_is_not(time: int, inside: bool) -> None:
    assert PART.has_instant(S[time]) == inside
    assert Cut().has_instant(S[time])


@pytest.mark.parametrize(
    ("start", "stop", "clipped"),
    [(0, 2, None), (0, 3, (0, 1)), (2, 4, (0, 2)), (3, 7, (1, 3)), (0, 7, (0, 3)), (5, 7, None)],
)
def test_what_lies_in_a_part_is_clipped_and_moved_to_0(start: int, stop: int, clipped: tuple[int, int] | None) -> None:
    assert PART.has(S[start], S[stop]) == (clipped is not None)
    if clipped is not None:
        assert PART.clipped(S[start], S[stop]) == clipped
    assert Cut().clipped(S[start], S[stop]) == (start, stop)


def test_the_shift_in_units_of_a_time_base() -> None:
    assert Cut(Fraction(1, 3)).units(Fraction(1, 1000)) == 333
    assert Cut(None, Fraction(5)).units(Fraction(1, 1000)) == 0
