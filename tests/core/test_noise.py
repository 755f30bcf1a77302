"""Philox against published vectors; fields against their own pieces; the distribution within its sampling error."""

from __future__ import annotations

import os
import select
import signal
import threading

import numpy as np
import pytest

from irsde_deploy.core import noise
from irsde_deploy.core.noise import _BLOCK, given_noise, normal_field, philox4x32, seeded_noise
from irsde_deploy.errors import InvalidValueError

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's kat_vectors, "philox4x32 10"
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert tuple(int(word) for word in philox4x32(counter, key)) == expected


def test_a_value_is_what_the_documented_formula_says() -> None:
    """One value computed in plain Python from the module's docstring."""
    seed, frame, step, channel, y, x = 2**40 + 5, 9, 3, 2, 17, 23
    w = [int(v) for v in philox4x32((x // 4, y, step * 256 + channel, frame), (seed % 2**32, seed // 2**32))]
    i = 0 if x % 4 < 2 else 2
    radius = np.sqrt(-2 * np.log((w[i] + 0.5) / 2**32))
    angle = 2 * np.pi * w[i + 1] / 2**32
    expected = radius * (np.sin(angle) if x % 2 else np.cos(angle))
    assert normal_field(seed, step, (3, 18, 24), frame)[channel, y, x] == np.float32(expected)


@pytest.mark.parametrize("origin", [(0, 0), (5, 1), (11, 2), (3, 7), (20, 30)])
def test_a_crop_of_a_field_is_the_field_of_the_crop(origin: tuple[int, int]) -> None:
    whole = normal_field(7, 4, (3, 40, 50))
    y, x = origin
    np.testing.assert_array_equal(normal_field(7, 4, (3, 13, 17), origin=origin), whole[:, y : y + 13, x : x + 17])


def test_a_field_of_several_blocks_is_one_field() -> None:
    """Drawn block by block by several threads, against one crop a row, each its own block."""
    whole = normal_field(7, 4, (3, 300, 250))
    assert whole.size > 3 * _BLOCK
    rows = [normal_field(7, 4, (3, 1, 250), origin=(y, 0)) for y in range(300)]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_draws_too() -> None:
    """The threads of the parent, and a lock that one of them may hold, are not the child's."""
    expected = seeded_noise(11, (1, 3, 300, 250))(2)
    reading, writing = os.pipe()
    lock, held, done = noise._kept._lock, threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        os.write(writing, seeded_noise(11, (1, 3, 300, 250))(2).tobytes()[:4096])
        os._exit(0)
    done.set()
    holder.join()
    ready, _, _ = select.select([reading], [], [], 30)
    drawn = os.read(reading, 4096) if ready else b""
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert drawn == expected.tobytes()[:4096]


def test_fields_are_kept_for_one_seed_and_shape_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = noise._KeptFields()
    shape = (3, 9, 11)
    first = kept.field(1, 0, shape, 0)
    np.testing.assert_array_equal(first, normal_field(1, 0, shape))
    assert kept.field(1, 0, shape, 0) is first
    assert kept.field(1, 0, (3, 9, 12), 0).shape == (3, 9, 12)
    first = kept.field(1, 0, shape, 0)
    assert not first.flags.writeable, "whoever writes to it changes everybody's"
    monkeypatch.setattr(noise._KeptFields, "LIMIT", 2 * first.nbytes)
    second, third = (kept.field(1, step, shape, 0) for step in (1, 2))
    assert kept.field(1, 1, shape, 0) is second
    assert kept.field(1, 2, shape, 0) is not third, "there is room for two"
    np.testing.assert_array_equal(kept.field(2, 0, shape, 0), normal_field(2, 0, shape))
    assert kept.field(1, 0, shape, 0) is not first, "another seed came between"


def test_batch_and_order_do_not_matter() -> None:
    draw = seeded_noise(3, (4, 3, 9, 11), frames=[5, 0, 5, 2])
    last, first = draw(6), draw(0)
    for entry, frame in enumerate([5, 0, 5, 2]):
        np.testing.assert_array_equal(last[entry], normal_field(3, 6, (3, 9, 11), frame))
        np.testing.assert_array_equal(first[entry], normal_field(3, 0, (3, 9, 11), frame))
    np.testing.assert_array_equal(seeded_noise(3, (2, 3, 9, 11))(6)[1], normal_field(3, 6, (3, 9, 11)))


def test_a_million_draws_are_standard_normal_within_sampling_error() -> None:
    z = normal_field(11, 1, (4, 500, 500)).astype(np.float64)
    n = z.size
    assert n == 1_000_000
    # five standard errors of each statistic of a normal sample
    assert abs(z.mean()) < 5 / np.sqrt(n)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * np.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / n)
    for axis in range(3):
        neighbours = np.take(z, range(1, z.shape[axis]), axis) * np.take(z, range(z.shape[axis] - 1), axis)
        assert abs(neighbours.mean()) < 5 / np.sqrt(neighbours.size), f"axis {axis}"


def test_every_part_of_the_address_changes_the_field() -> None:
    base = normal_field(1, 1, (2, 50, 50))
    np.testing.assert_array_equal(base, normal_field(np.int32(1), 1, (2, 50, 50)))
    others = [
        normal_field(2, 1, (2, 50, 50)),
        normal_field(1 + 2**32, 1, (2, 50, 50)),
        normal_field(1, 2, (2, 50, 50)),
        normal_field(1, 1, (2, 50, 50), frame=1),
        base[::-1],
    ]
    for other in others:
        correlation = np.mean(base.astype(float) * other)
        assert abs(correlation) < 5 / np.sqrt(base.size)


def test_injected_noise_is_used_as_it_is() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 1, 2, 4, 5))
    draw = given_noise(noise, 2, (1, 2, 4, 5))
    np.testing.assert_array_equal(draw(2), noise[2].astype(np.float32))
    with pytest.raises(InvalidValueError, match="shape"):
        given_noise(noise, 3, (1, 2, 4, 5))
    noise[1, 0, 0, 0, 0] = np.nan
    with pytest.raises(InvalidValueError, match="finite"):
        given_noise(noise, 2, (1, 2, 4, 5))


@pytest.mark.parametrize(
    ("seed", "step", "frame"),
    [(-1, 0, 0), (2**64, 0, 0), (1.5, 0, 0), (True, 0, 0), (0, 2**24, 0), (0, -1, 0), (0, 0, -1), (0, 0, 2**32)],
)
def test_addresses_outside_the_field_are_refused(seed: int, step: int, frame: int) -> None:
    with pytest.raises(InvalidValueError):
        normal_field(seed, step, (1, 2, 2), frame)


@pytest.mark.parametrize(("channels", "origin"), [(257, (0, 0)), (0, (0, 0)), (1, (2**32 - 1, 0)), (1, (0, 2**32 - 1))])
def test_windows_outside_the_field_are_refused(channels: int, origin: tuple[int, int]) -> None:
    with pytest.raises(InvalidValueError):
        normal_field(0, 0, (channels, 2, 2), origin=origin)
    y, x = origin
    assert normal_field(2**64 - 1, 2**24 - 1, (256, 1, 1), 2**32 - 1, (y, x)).shape == (256, 1, 1)


@pytest.mark.parametrize("frames", [[0, -1], [2**32, 0], [0, True], [0], [0, 1, 2]])
def test_every_frame_of_a_batch_is_checked(frames: list[int]) -> None:
    with pytest.raises(InvalidValueError, match="frame"):
        seeded_noise(3, (2, 3, 4, 5), frames)


def test_a_picture_alone_has_the_field_of_its_frame() -> None:
    np.testing.assert_array_equal(seeded_noise(3, (1, 3, 9, 11), [7])(2)[0], normal_field(3, 2, (3, 9, 11), 7))


def test_a_field_drawn_while_another_seed_was_asked_for_is_not_kept_as_its(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, shape = noise._KeptFields(), (1, 2, 3)

    def meanwhile(seed: int, *address: object) -> np.ndarray:
        monkeypatch.undo()
        kept.field(2, 1, shape, 0)  # as another thread would
        return normal_field(seed, *address)  # type: ignore[arg-type]

    monkeypatch.setattr(noise, "normal_field", meanwhile)
    np.testing.assert_array_equal(kept.field(1, 0, shape, 0), normal_field(1, 0, shape))
    np.testing.assert_array_equal(kept.field(2, 0, shape, 0), normal_field(2, 0, shape))
