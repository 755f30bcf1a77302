"""Profiles as people write them: sizes, trtexec's shapes, several at once, and what does not fit."""

from __future__ import annotations

import pytest

from irsde_deploy.errors import InvalidValueError
from irsde_deploy.runtimes.tensorrt.profiles import Profile, parse_profiles

NONE = ((), (), ())


def parsed(sizes=NONE, batches=(), shapes=NONE, multiple=16):
    return parse_profiles(sizes, batches, shapes, channels=3, multiple_of=multiple)


def test_defaults_are_multiples() -> None:
    assert parsed() == (Profile((1, 64, 64), (1, 256, 256), (1, 1024, 1024)),)
    assert parsed(multiple=48) == (Profile((1, 96, 96), (1, 288, 288), (1, 1056, 1056)),)


def test_sizes_and_batches() -> None:
    full = parsed((["64x96"], ["256x384"], ["512x768"]), ["1:2:4"])
    assert full == (Profile((1, 64, 96), (2, 256, 384), (4, 512, 768)),)
    assert parsed(((), ["256x384"], ()), ["4"]) == (Profile(*[(4, 256, 384)] * 3),), "opt alone is one size"
    assert parsed((["96x96"], (), ["128x128"])) == (Profile((1, 96, 96), (1, 128, 128), (1, 128, 128)),)
    assert parsed(((), (), ["1088x1920"])) == (Profile((1, 64, 64), (1, 1088, 1920), (1, 1088, 1920)),)
    assert parsed(((), (), ["32x1920"]))[0].min == (1, 32, 64)


def test_several_profiles() -> None:
    two = (["64x64", "256x256"], ["128x128", "512x512"], ["256x256", "1024x1024"])
    small, large = parsed(two, ["1:2:4"])
    assert small == Profile((1, 64, 64), (2, 128, 128), (4, 256, 256))
    assert large == Profile((1, 256, 256), (2, 512, 512), (4, 1024, 1024))
    assert [p.max[0] for p in parsed(two, ["1:2:4", "1"])] == [4, 1]
    assert [p.max[0] for p in parsed(two, ["4"])] == [4, 4]
    with pytest.raises(InvalidValueError, match="once for each profile .2., not 3 times"):
        parsed(two, ["1", "2", "3"])
    with pytest.raises(InvalidValueError, match="each of the 2 profiles needs"):
        parsed((["64x64"], ["128x128", "512x512"], ()))


def test_trtexec_shapes_mean_the_same() -> None:
    shapes = (["x:1x3x64x96"], ["x:2x3x256x384,mu:2x3x256x384,t:2"], ["x:4x3x512x768,t:4"])
    assert parsed(shapes=shapes) == parsed((["64x96"], ["256x384"], ["512x768"]), ["1:2:4"])


def test_arguments_come_back_as_the_same_profile() -> None:
    profile = Profile((1, 64, 96), (2, 256, 384), (4, 512, 768))
    words = profile.arguments.split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert parsed(([given["--min"]], [given["--opt"]], [given["--max"]]), [given["--batch"]]) == (profile,)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [("100x64", "112x64"), ("64x1000", "64x1008"), ("500x512", "512x512"), ("4x4", "16x16"), ("99999x16", "32768x16")],
)
def test_sides_that_are_no_multiples_name_the_nearest(size: str, nearest: str) -> None:
    with pytest.raises(InvalidValueError, match=f"multiples of 16, and {size} is none: .* {nearest} "):
        parsed(((), [size], ()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": ((), (), ["1000x1000"])}, "nearest valid shape is 1008x1008"),
        ({"sizes": (["1000x1000"], ["2048x2048"], ())}, "nearest valid shape is 992x992"),
        ({"sizes": ((), ["64x64"], ()), "batches": ["0"]}, "1 <= min <= opt <= max"),
        ({"shapes": ((), ["x:1xx3x64x64x"], ())}, "x:1x3x64x64"),
        ({"sizes": ((), ["64"], ())}, "written HxW"),
        ({"sizes": ((), ["64x64"], ()), "batches": ["1:2"]}, "min:opt:max"),
        ({"sizes": (["128x128"], ["64x64"], ["64x64"])}, "min <= opt <= max"),
        ({"sizes": ((), ["64x64"], ()), "batches": ["4:2:1"]}, "min <= opt <= max"),
        ({"sizes": ((), ["65536x64"], ())}, "sides to 32768"),
        ({"shapes": ((), ["x:1x3x64"], ())}, "must be BxCxHxW"),
        ({"shapes": ((), ["x:1x4x64x64"], ())}, "3 channels"),
        ({"shapes": ((), ["x:1x3x64x64,mu:1x3x64x80"], ())}, "mu must go with x: 1x3x64x64"),
        ({"shapes": ((), ["x:2x3x64x64,t:1"], ())}, "t must go with x: 2, not 1"),
        ({"sizes": ((), ["64x64"], ()), "batches": ["1:1:1025"]}, "batches to 1024"),
        ({"shapes": ((), ["x:1x3x64x64,z:1"], ())}, "inputs are x, mu and t"),
        ({"shapes": ((), ["input:1x3x64x64"], ())}, "x:1x3x64x64"),
        ({"shapes": ((), ["x:1x3x64x64"], ()), "batches": ["1"]}, "give either"),
    ],
)
def test_what_does_not_fit(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        parsed(**arguments)


def test_a_profile_takes_what_lies_within_each_side() -> None:
    profile = Profile((1, 64, 64), (1, 256, 256), (4, 512, 256))
    assert profile.takes((4, 512, 64))
    assert not profile.takes((1, 256, 512))
    assert not profile.takes((5, 64, 64))
    assert not profile.takes((1, 48, 64))
    assert profile.distance((2, 256, 256)) == profile.distance((1, 512, 256)) == 256 * 256


def test_sizes_are_of_pictures_where_there_is_a_margin() -> None:
    """What the network sees is the picture, twice the margin, and what is missing to the multiple; shapes are that."""
    sizes = (["64x100"], ["256x256"], ["1080x1920"])
    (found,) = parse_profiles(sizes, ["1:2:4"], NONE, 3, 16, margin=10)
    assert found == Profile((1, 96, 128), (2, 288, 288), (4, 1104, 1952))
    assert parse_profiles(NONE, (), NONE, 3, 16, margin=16)[0].opt == (1, 288, 288)
    words = found.as_shapes(3).split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    shapes = ([given["--minShapes"]], [given["--optShapes"]], [given["--maxShapes"]])
    assert parse_profiles(NONE, (), shapes, 3, 16, margin=10) == (found,)
