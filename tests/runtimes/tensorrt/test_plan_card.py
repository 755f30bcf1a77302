"""A plan's card: kept in any bytes, compared with a machine, and turned into the command that rebuilds the plan."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from pathlib import Path

import pytest
from hostile import hostile_json, not_utf8

from irsde_deploy.cli import cli
from irsde_deploy.cli.engines import BUILD_SETTINGS, read_build_options
from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.sde import MeanRevertingSDE
from irsde_deploy.errors import EngineError, InvalidValueError
from irsde_deploy.runtimes.device.drivers.probe import Device
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.plan_card import PlanCard, differences, read_plan_card
from irsde_deploy.runtimes.tensorrt.profiles import Profile

SMALL = Profile((1, 64, 64), (1, 256, 256), (4, 512, 512))
LARGE = Profile((1, 256, 256), (1, 512, 768), (1, 1024, 2048))
MODEL = ModelCard(
    network="ConditionalNAFNet",
    settings={"width": 16, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]},
    channels=3,
    multiple_of=16,
    pad_mode="zero",
    sde=MeanRevertingSDE(max_sigma=10, T=100, schedule="cosine", eps=0.005),
    precision="mixed",
)
H100 = Device("NVIDIA H100 80GB HBM3", (9, 0))
ADA = Device("NVIDIA GeForce RTX 4090", (8, 9))
TURING = Device("Tesla T4", (7, 5))


def plan_card(backend: str = "tensorrt", version: str = "10.13.3.9", **build) -> PlanCard:
    rtx = backend == "tensorrt-rtx"
    options = BuildOptions(backend, build.pop("profiles", (SMALL,)), **build)
    return PlanCard(
        model=MODEL,
        build=options,
        version=version,
        gpu="" if rtx else H100.name,
        compute_capabilities=options.compute_capabilities if rtx else ("9.0",),
        onnx="de rain.onnx",
        onnx_sha256="0" * 64,
        platform="Linux x86_64",
        tool_version="0.1.0",
    )


FULL = plan_card(
    "tensorrt-rtx",
    "1.7.1.116",
    profiles=(SMALL, LARGE),
    workspace=2048,
    optimization_level=4,
    compute_capabilities=("8.6", "8.9"),
    tf32=True,
)


@pytest.mark.parametrize("card", [plan_card(), FULL, plan_card(hardware_compatible=True, version_compatible=True)])
def test_the_card_is_found_in_any_bytes(card: PlanCard, tmp_path: Path) -> None:
    plan = tmp_path / "a.plan"
    noise = bytes(range(256)) * 40
    decoy = b"irsde-card:{not a card" + b'irsde-card:7 irsde-card:["schema"]'
    plan.write_bytes(noise + decoy + noise + card.network_name().encode() + b"\0\xff" + noise)
    assert read_plan_card(plan) == card


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    plan = tmp_path / "a.plan"
    text = plan_card().network_name()
    for content, message in (
        ("no card at all", "no card of irsde-deploy"),
        (text[:300], "the plan's card is not valid JSON"),
        (text.replace('"schema":1,', ""), "no card of irsde-deploy"),
        (text.replace('"schema":1', '"schema":9'), "schema version 9"),
        (text.replace('"max_sigma":10', '"max_sigma":-3'), "max_sigma"),
        (
            text.replace('"onnx":', '"unknown":'),
            "the plan's card has the unknown field 'unknown': build the plan again",
        ),
        (text.replace(',"onnx_sha256":"' + "0" * 64 + '"', ""), "the plan's card lacks onnx_sha256"),
        (
            text.replace('"onnx":"de rain.onnx"', '"onnx":"/etc/passwd"'),
            "its source is no .onnx file, but '/etc/passwd'",
        ),
        (text.replace('"onnx":"de rain.onnx"', '"onnx":["a.onnx"]'), "onnx must be text, not ..a.onnx.."),
        (text.replace('"gpu":"NVIDIA', r'"gpu":"\u001b[2JNVIDIA'), r"\['\\x1b.2JNVIDIA .*'\] cannot be printed"),
        (text.replace('"version":"10.13.3.9"', '"version":10.13'), "version must be text, not 10.13"),
        (
            text.replace('"workspace":null', '"workspace":true'),
            "build.workspace must be a whole number or null, not True",
        ),
        (
            text.replace('"workspace":null', '"workspace":1e3'),
            "build.workspace must be a whole number or null, not 1000.0",
        ),
        (text.replace('"tf32":false', '"tf32":12345'), "build.tf32 must be true or false, not 12345"),
        (text.replace('"tf32":false,', ""), "build in the plan's card lacks tf32"),
        (text.replace("[1,64,64]", '[1,"64",64]'), r"build.profiles.0..min.1. must be a whole number, not '64'"),
        (text.replace("[1,64,64]", "[64,64]"), r"build.profiles.0..min must be a list of 3 entries, not .64, 64."),
        (text.replace('"channels":3', '"channels":NaN'), "model.channels must be a finite number, not nan"),
        (text.replace('"channels":3', '"channels":"3"'), "in the model card, channels must be a whole number, not '3'"),
        (text.replace('"min":[1,64,64]', '"min":[1,640,64]'), "min <= opt <= max"),
    ):
        plan.write_text(content)
        with pytest.raises(EngineError, match=message):
            read_plan_card(plan)


def test_a_card_longer_than_tensorrt_keeps_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="TensorRT keeps 4095"):
        plan_card(profiles=(SMALL,) * 60).network_name()
    fits = plan_card(profiles=(SMALL,) * 8)
    room = 4095 - len(fits.network_name())
    assert len(dataclasses.replace(fits, gpu=fits.gpu + "x" * room).network_name()) == 4095
    with pytest.raises(InvalidValueError, match="takes 4096 characters"):
        dataclasses.replace(fits, gpu=fits.gpu + "x" * (room + 1)).network_name()


@pytest.mark.parametrize(
    ("card", "version", "device", "system", "expected"),
    [
        (plan_card(), "10.13.3.9", H100, "Linux x86_64", []),
        (plan_card(), "10.13.3.9.post1", H100, "Linux x86_64", []),
        (plan_card(), "10.14.1.48", H100, "Linux x86_64", ["built by tensorrt 10.13.3.9, and 10.14.1.48 is installed"]),
        (plan_card(), "10.13.2.6", H100, "Linux x86_64", ["built by tensorrt 10.13.3.9, and 10.13.2.6 is installed"]),
        (plan_card(), None, H100, "Linux x86_64", ["needs tensorrt 10.13.3.9, which is not installed"]),
        (plan_card(), "10.13.3.9", None, "Linux x86_64", ["needs an NVIDIA GPU"]),
        (plan_card(), "10.13.3.9", ADA, "Linux x86_64", ["a GPU of compute capability 9.0 (built on NVIDIA H100"]),
        (plan_card(), "10.13.3.9", H100, "Windows AMD64", ["built on Linux x86_64, and this is Windows AMD64"]),
        (plan_card(version_compatible=True), "10.16.1.11", H100, "Linux x86_64", []),
        (plan_card(version_compatible=True), "10.12.0.36", H100, "Linux x86_64", ["built by tensorrt 10.13.3.9"]),
        (plan_card(version_compatible=True), "11.4.0.106", H100, "Linux x86_64", ["built by tensorrt 10.13.3.9"]),
        (plan_card(hardware_compatible=True), "10.13.3.9", ADA, "Linux x86_64", []),
        (plan_card(hardware_compatible=True), "10.13.3.9", TURING, "Linux x86_64", ["8.0 or later"]),
        (plan_card("tensorrt-rtx", "1.7.1.116"), "1.7.1.116", ADA, "Windows AMD64", []),
        (plan_card("tensorrt-rtx", "1.7.1.116"), "1.7.1.116", TURING, "Linux x86_64", ["8.0 or later"]),
        (plan_card("tensorrt-rtx", "1.7.1.116"), "1.6.0.1", ADA, "Linux x86_64", ["built by tensorrt-rtx 1.7.1.116"]),
        (FULL, "1.7.1.116", ADA, "Linux x86_64", []),
        (FULL, "1.7.1.116", H100, "Linux x86_64", ["compute capability 8.6 or 8.9, and this machine has NVIDIA H100"]),
    ],
)
def test_what_a_plan_needs_is_compared_with_what_is_there(card, version, device, system, expected) -> None:
    found = differences(card, version, device, system)
    assert len(found) == len(expected)
    for reason, part in zip(found, expected, strict=True):
        assert part in reason


def test_a_changed_onnx_file_makes_a_plan_stale() -> None:
    arguments = ("10.13.3.9", H100, "Linux x86_64")
    assert differences(plan_card(), *arguments, onnx_sha256="0" * 64) == []
    assert differences(plan_card(), *arguments, onnx_sha256="1" * 64) == [
        "de rain.onnx has changed since it was built from that"
    ]


NO_DEFAULTS = plan_card(hardware_compatible=True, version_compatible=True, timing_cache=False, optimization_level=0)


@pytest.mark.parametrize("card", [plan_card(), FULL, NO_DEFAULTS])
def test_the_rebuild_command_means_the_same_build(card: PlanCard) -> None:
    words = shlex.split(card.rebuild_command(Path("/plans/a b.plan")))
    assert words[:5] == ["irsde-deploy", "build", "/plans/de rain.onnx", "-o", "/plans/a b.plan"]
    command = cli.commands["build"]
    given = command.make_context("build", words[2:]).params
    given["opt_sizes"] += given["opt_short"]
    assert read_build_options(MODEL, {name: given[name] for name in BUILD_SETTINGS}) == card.build
    assert given["precision"] == "mixed"


def test_options_for_the_other_backend_are_refused() -> None:
    for name in ("hardware_compatible", "version_compatible"):
        with pytest.raises(InvalidValueError, match="`hardware_compatible` and `version_compatible` are TensorRT's"):
            BuildOptions("tensorrt-rtx", (SMALL,), **{name: True})
    with pytest.raises(InvalidValueError, match="`compute_capabilities` is for TensorRT-RTX"):
        BuildOptions("tensorrt", (SMALL,), compute_capabilities=("8.9",))
    for settings, beyond in (
        ({"workspace": 1, "optimization_level": 0}, {"workspace": 0}),
        ({"workspace": 2**24, "optimization_level": 5}, {"workspace": 2**24 + 1}),
        ({"compute_capabilities": ("8.9", "12.0", "current")}, {"compute_capabilities": ("89",)}),
        ({}, {"optimization_level": 6}),
        ({}, {"optimization_level": -1}),
    ):
        BuildOptions("tensorrt-rtx", (SMALL,), **settings)
        with pytest.raises(InvalidValueError, match=next(iter(beyond)).replace("_capabilities", " capability")):
            BuildOptions("tensorrt-rtx", (SMALL,), **beyond)
    assert BuildOptions("tensorrt-rtx", (SMALL,), compute_capabilities=("8.9", "8.9")).compute_capabilities == ("8.9",)


def test_a_plan_is_rebuilt_as_it_was_and_for_another_gpu_where_it_must_be() -> None:
    assert FULL.rebuild_options(None) == FULL.rebuild_options(ADA) == FULL.build
    assert FULL.rebuild_options(H100) == dataclasses.replace(FULL.build, compute_capabilities=("9.0",))
    anywhere = plan_card("tensorrt-rtx", "1.7.1.116")
    assert anywhere.rebuild_options(H100) == anywhere.build
    assert plan_card().rebuild_options(ADA) == plan_card().build, "TensorRT builds for the GPU at hand anyway"
    assert "--compute-capability 9.0" in FULL.rebuild_command(Path("a.plan"), H100)


def test_texts_that_go_to_a_terminal_print() -> None:
    for change in ({"version": "1\x1b[2J"}, {"compute_capabilities": ("8.9", "9\n0")}, {"tool_version": "\t"}):
        with pytest.raises(InvalidValueError, match="cannot be printed"):
            dataclasses.replace(FULL, **change)


def test_every_field_is_in_the_inspection() -> None:
    described = json.dumps(FULL.to_dict())
    for field in (*dataclasses.fields(PlanCard), *dataclasses.fields(BuildOptions)):
        assert f'"{field.name}"' in described or field.name == "model"


def test_hostile_cards_are_one_sentence(tmp_path: Path) -> None:
    good, plan = json.loads(plan_card().network_name().removeprefix("irsde-card:")), tmp_path / "a.plan"
    for content, words in hostile_json(good, "model.channels"):
        plan.write_bytes(b"irsde-card:" + content + b"\0\xff and the plan itself")
        words = f"({words}|is not valid JSON)" if content.startswith(b'{"schema"') else "no card of irsde-deploy inside"
        with pytest.raises(EngineError, match=rf"a\.plan: .*{words}") as raised:
            read_plan_card(plan)
        assert len(str(raised.value)) < 400
    plan.write_bytes(b"irsde-card:" + not_utf8(good))
    with pytest.raises(EngineError, match="no card of irsde-deploy inside"):
        read_plan_card(plan)
    plan.write_bytes(b'irsde-card:{"schema": 1, "gpu": "\xff", irsde-card:' + json.dumps(good).encode())
    assert read_plan_card(plan) == plan_card(), "a damaged copy before the good one"


def test_a_plan_of_nothing_but_beginnings_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "p.plan").write_bytes(b"irsde-card:" * 500_000)
    started = time.process_time()
    with pytest.raises(EngineError, match="there is no card of irsde-deploy inside"):
        read_plan_card(tmp_path / "p.plan")
    assert time.process_time() - started < 3
