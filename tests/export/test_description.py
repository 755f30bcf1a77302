"""Shapes give the network, sources give the rest, in the order flags > options file > recipe > checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import load_case

from irsde_deploy.errors import CheckpointError, InputFileError, InvalidValueError
from irsde_deploy.export.description import describe, flags
from irsde_deploy.export.sources import read_options_file, read_recipe, recipe_names
from irsde_deploy.networks import ConditionalNAFNet, ConditionalUNet, LatentUNet
from irsde_deploy.networks.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from irsde_deploy.networks.detection import build_network, detect_network

SDE = {"max_sigma": 10, "T": 100, "schedule": "cosine", "eps": 0.005}

NETWORKS: list[tuple[type[torch.nn.Module], dict[str, Any]]] = [
    (ConditionalUNet, {"in_nc": 3, "out_nc": 3, "nf": 12, "depth": 2}),
    (ConditionalUNet, {"in_nc": 4, "out_nc": 4, "nf": 8, "ch_mult": [1, 2, 2]}),
    (
        ConditionalNAFNet,
        {
            "width": 8,
            "enc_blk_nums": [1, 0, 3],
            "middle_blk_num": 2,
            "dec_blk_nums": [2, 1, 0],
            "img_channel": 3,
        },
    ),
    (
        ConditionalNAFNet,
        {"width": 6, "enc_blk_nums": [2], "middle_blk_num": 0, "dec_blk_nums": [1], "img_channel": 8},
    ),
]


def checkpoint(model: torch.nn.Module, **changes: Any) -> Checkpoint:
    return Checkpoint(Path("c.pth"), {**model.state_dict(), **changes}, None, "00")


@pytest.mark.parametrize(("network", "settings"), NETWORKS)
def test_hyper_parameters_are_read_from_shapes(network: type[torch.nn.Module], settings: dict[str, Any]) -> None:
    weights = network(**settings).state_dict()
    assert detect_network(weights) == (network.__name__, settings)
    rebuilt = build_network(network.__name__, settings, weights).state_dict()
    assert all(torch.equal(rebuilt[key], weights[key]) for key in weights)


def test_the_latent_unet_is_recognised_and_refused_as_a_score_network() -> None:
    weights = LatentUNet(3, 3, 8, [4, 8, 16], 8).state_dict()
    assert detect_network(weights) == (
        "UNet",
        {"in_ch": 3, "out_ch": 3, "ch": 8, "ch_mult": [4, 8, 16], "embed_dim": 8},
    )
    with pytest.raises(CheckpointError, match=r"c\.pth: UNet is not a score network"):
        describe(Checkpoint(Path("c.pth"), weights, None, "00"), [flags(**SDE)])
    with pytest.raises(CheckpointError, match="not a score network"):
        build_network("UNet", {}, weights)


def test_precedence_setting_by_setting(tmp_path: Path) -> None:
    options = tmp_path / "o.yml"
    options.write_text(
        "model: denoising\ndistortion: deblur\nsde:\n  max_sigma: 30\n  T: 50\n  schedule: linear\n  eps: 5e-3\n"
        "train:\n  lr_G: !!float 4e-5\n"
    )
    model = ConditionalNAFNet(8, [1], 1, [1])
    sources = [flags(T=25, eps=None), read_options_file(options), read_recipe("deshadow-refusion")]
    card = describe(checkpoint(model), sources).card
    assert (card.sde.T, card.sde.max_sigma, card.sde.schedule, card.sde.eps) == (25, 30, "linear", 0.005)
    assert (card.task, card.settings["form"], card.steps) == ("deblur", "pixel", 10)
    # the recipe alone, then the checkpoint's own card below it
    own = describe(checkpoint(model), [flags(**{**SDE, "max_sigma": 70}, form="latent")]).card
    save_checkpoint(tmp_path / "own.pt", model.state_dict(), own)
    loaded = read_checkpoint(tmp_path / "own.pt")
    assert describe(loaded, []).card.sde.max_sigma == 70
    assert describe(loaded, []).card.settings["form"] == "latent"
    assert describe(loaded, [read_recipe("deshadow-refusion")]).card.sde.max_sigma == 50


def test_every_setting_is_printed_with_its_source() -> None:
    description = describe(checkpoint(ConditionalNAFNet(8, [1], 1, [1])), [flags(max_sigma=20), read_recipe("derain")])
    assert "max_sigma = 20 (from flag)" in description.origins
    assert "schedule = cosine (from `recipe` derain)" in description.origins
    assert any(line.startswith("network = ConditionalNAFNet width 8") for line in description.origins)


def test_the_nafnet_form_is_pixel_and_said_so_where_nothing_tells() -> None:
    description = describe(checkpoint(ConditionalNAFNet(8, [1], 1, [1])), [flags(**SDE)])
    assert description.card.settings["form"] == "pixel"
    assert any("form = pixel (default" in line for line in description.origins)


def test_latent_options_mean_the_latent_form_without_a_value_range(tmp_path: Path) -> None:
    options = tmp_path / "latent.yml"
    options.write_text(
        "model: latent_denoising\nsde: {max_sigma: 50, T: 100, sample_T: 100, schedule: cosine, eps: 0.005}\n"
        "network_G:\n  which_model: ConditionalNAFNet\n  setting: {img_channel: 8, width: 8, enc_blk_nums: [1],"
        " middle_blk_num: 1, dec_blk_nums: [1]}\nnetwork_L: {which_model: UNet}\n"
    )
    card = describe(checkpoint(ConditionalNAFNet(8, [1], 1, [1], 8)), [read_options_file(options)]).card
    assert (card.settings["form"], card.value_range, card.channels) == ("latent", None, 8)
    assert read_options_file(options).note == ""
    options.write_text(options.read_text().replace("sample_T: 100", "sample_T: 10"))
    assert "sample_T = 10" in read_options_file(options).note


def test_a_unet_on_latents_has_no_value_range_and_keeps_that(tmp_path: Path) -> None:
    model = ConditionalUNet(4, 4, 8, depth=1)
    card = describe(checkpoint(model), [flags(**SDE, form="latent")]).card
    assert (card.value_range, "form" in card.settings) == (None, False)
    save_checkpoint(tmp_path / "own.pt", model.state_dict(), card)
    assert describe(read_checkpoint(tmp_path / "own.pt"), []).card.value_range is None


@pytest.mark.parametrize("missing", list(SDE))
def test_a_missing_sde_setting_is_an_error_that_names_it(missing: str) -> None:
    with pytest.raises(InvalidValueError, match=f"do not say {missing} of the SDE"):
        describe(checkpoint(ConditionalNAFNet(8, [1], 1, [1])), [flags(**{**SDE, missing: None})])


RECIPES = {
    "derain": 10, "dehaze": 10, "deblur": 10, "denoise": 10, "deshadow": 30, "super-resolution": 30, "inpaint": 30,
    "derain-refusion": 50, "dehaze-refusion": 50, "deblur-refusion": 50, "denoise-refusion": 50,
    "deshadow-refusion": 50, "super-resolution-refusion": 50, "inpaint-refusion": 50,
}  # fmt: skip


def test_recipes_hold_the_references_settings() -> None:
    assert set(RECIPES) == {name for name in recipe_names() if read_recipe(name).training == {}}
    for name, max_sigma in RECIPES.items():
        recipe = read_recipe(name)
        assert {key: recipe.values[key] for key in SDE} == {**SDE, "max_sigma": max_sigma}
        assert recipe.network is not None
        network, settings = recipe.network
        if name.endswith("refusion"):
            blocks = (
                settings["width"],
                settings["enc_blk_nums"],
                settings["middle_blk_num"],
                settings["dec_blk_nums"],
            )
            assert (network, *blocks) == ("ConditionalNAFNet", 64, [1, 1, 1, 28], 1, [1, 1, 1, 1])
        else:
            size = (32, 5) if name == "deshadow" else (64, 4)
            assert (network, settings["nf"], settings["depth"]) == ("ConditionalUNet", *size)


def options_with(setting: str, model: str = "ConditionalNAFNet") -> str:
    sde = "sde: {max_sigma: 10, T: 100, schedule: cosine, eps: 0.005}"
    return f"{sde}\nnetwork_G: {{which_model_G: {model}, setting: {setting}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("just text", "no section 'sde'"),
        ("sde: [1, 2]", "no section 'sde'"),
        ("a: b: c:", "the options file is not valid YAML .mapping values are not allowed here"),
        ("sde: {max_sigma: many, T: 100}", "max_sigma must be a number"),
        ("sde: {T: 99.5}", "T must be a whole number"),
        ("sde: {T: .inf}", "in the options file, sde.T must be a finite number, not inf"),
        ("sde: {T: '.inf'}", "in the options file, T must be a whole number, not '.inf'"),
        ("sde: {T: 'inf'}", "T must be a whole number, not 'inf'"),
        ("sde: {eps: 'nan'}", "eps must be a finite number, not nan"),
        (f"sde: {{T: {2**64}}}", "sde.T is a whole number beyond 64 bits"),
        ("sde: {T: 2020-99-99}", "not valid YAML .month must be in 1..12"),
        ("sde: &a {T: *a}", "aliases|nested too deeply"),
        ("{" * 300, "is not valid YAML|nested too deeply"),
        ("sde: {T: true}", "T must be a whole number"),
        ("sde: {max_sigma: [1]}", "max_sigma must be a number"),
        ("sde: {schedule: [a]}", "schedule must be text"),
        (options_with("{enc_blk_nums: 5}"), "the settings say enc_blk_nums = 5"),
        (options_with("{depth: 4}", "ConditionalUNet"), "the settings are for ConditionalUNet"),
        (options_with("{width: 9}"), "the settings say width = 9, the weights have width = 8"),
        (options_with("{}", "ConditionalUNet"), "the settings are for ConditionalUNet"),
        (options_with("7"), "must name a network"),
        ("sde: {T: 100}\nnetwork_G: 5", "must name a network"),
        ("sde: {T: 100}\ndistortion: [1]", "task must be text"),
        (options_with("{enc_blk_nums: null}"), "the settings say enc_blk_nums = None"),
        ("sde: !!python/object/apply:os.system ['touch pwned']", "is not valid YAML"),
    ],
)
def test_options_files_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "o.yml").write_text(text)
    with pytest.raises((InputFileError, CheckpointError), match=message):
        describe(checkpoint(ConditionalNAFNet(8, [1], 1, [1])), [read_options_file(tmp_path / "o.yml")])


def test_recipes_that_do_not_exist() -> None:
    with pytest.raises(InputFileError, match="choose one of deblur"):
        read_recipe("desnow")
    with pytest.raises(InputFileError, match="choose one of"):
        read_recipe("../pyproject")
    with pytest.raises(InputFileError, match="no such file"):
        read_recipe("nowhere/mine.toml")


def test_recipes_of_the_wrong_types(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[sde]\nmax_sigma = 10\n[sampling]\nsampler = ["ddim"]\n')
    with pytest.raises(InputFileError, match="sampler must be text"):
        read_recipe(str(tmp_path / "r.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sde = 5", r"\[sde\] of the recipe must be an object .names with values., not 5"),
        ("network = 5", r"\[network\] of the recipe must be an object"),
        ("training = 5", "in the recipe, training must be an object"),
        (
            "[sde]\nsigma = 10",
            r"\[sde\] of the recipe has the unknown field 'sigma': it has kind, max_sigma, T, schedule, eps",
        ),
        (
            "colour = 3",
            "the recipe has the unknown field 'colour': it has task, note, sde, sampling, network, training, ",
        ),
        ("note = 5", "in the recipe, note must be text, not 5"),
        ("[sde]\nT = true", "T must be a whole number, not True"),
        ("[sde]\nT = 9.5", "T must be a whole number, not 9.5"),
        ("[sde]\nT = 1\nT = 2", "the recipe is not valid TOML .Cannot overwrite a value"),
        (f"[sde]\nT = {2**64}", "sde.T is a whole number beyond 64 bits"),
        ("[sampling]\nt0 = [1]", "t0 must be a whole number, not .1."),
        ("[network]\nform = 3", "form must be text, not 3"),
        ("[degradation]\nangle = [1, nan]", r"degradation.angle\[1\] must be a finite number, not nan"),
        ("[network" + ".a" * 400 + "]", "nested too deeply"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("[network]\nname = [1]", "name must be text"),
        ("task = 5", "task must be text"),
        ("[sde]\nT = inf", "in the recipe, sde.T must be a finite number, not inf"),
        ("a b c", "the recipe is not valid TOML .Expected '=' after a key"),
    ],
)
def test_recipes_with_mistakes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(InputFileError, match=message):
        read_recipe(str(tmp_path / "r.toml"))


def test_a_recipe_may_start_late(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[sampling]\nsampler = "mean"\nsteps = 4\nt0 = 80\n')
    card = describe(
        checkpoint(ConditionalNAFNet(8, [1], 1, [1])), [flags(**SDE), read_recipe(str(tmp_path / "r.toml"))]
    ).card
    assert (card.t0, card.plan().table.t[0]) == (80, 80)


def test_a_sampler_that_takes_every_timestep_sets_the_steps(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[sampling]\nsampler = "euler"\n')
    model = ConditionalNAFNet(8, [1], 1, [1])
    assert describe(checkpoint(model), [flags(**SDE), read_recipe(str(tmp_path / "r.toml"))]).card.steps == 100


def test_depth_and_ch_mult_forms_are_compared() -> None:
    weights = ConditionalUNet(3, 3, 8, ch_mult=[1, 2]).state_dict()
    for stated in ({"depth": 2}, {"depth": 10**6}, {"depth": "x"}, {"ch_mult": [2, 4]}):
        with pytest.raises(CheckpointError, match="the settings say ch_mult"):
            build_network("ConditionalUNet", {"in_nc": 3, "out_nc": 3, "nf": 8, **stated}, weights)
    deep = ConditionalUNet(3, 3, 8, depth=2).state_dict()
    assert build_network("ConditionalUNet", {"in_nc": 3, "out_nc": 3, "nf": 8, "ch_mult": [2, 4]}, deep)


def test_weights_that_do_not_fit() -> None:
    weights = read_checkpoint(load_case("latent_nafnet_w8").weights).weights
    name, settings = detect_network(weights)
    missing = {key: value for key, value in weights.items() if key != "middle_blks.0.conv1.bias"}
    with pytest.raises(CheckpointError, match="1 keys missing .*middle_blks.0.conv1.bias"):
        build_network(name, settings, missing)
    with pytest.raises(CheckpointError, match="1 keys too many .*extra.weight"):
        build_network(name, settings, {**weights, "extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="'middle_blks.0.beta' has the shape"):
        build_network(name, settings, {**weights, "middle_blks.0.beta": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="unknown architecture"):
        detect_network({"conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="sizes cannot be read \\(there is no "):
        detect_network({key: value for key, value in weights.items() if key != "intro.weight"})


@pytest.mark.parametrize(("read", "name"), [(read_recipe, "r.toml"), (read_options_file, "o.yml")])
def test_files_that_are_no_text_or_too_large(read: Callable[[str], Any], name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"note = '\xff'")
    with pytest.raises(InputFileError, match=f"{name}: is not an? (recipe|options file): byte 8 is not UTF-8 text"):
        read(str(tmp_path / name))
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**16 + 1)
    with pytest.raises(InputFileError, match=f"{name}: is too large to be an? .*: 65537 bytes, where 65536 are"):
        read(str(tmp_path / name))


def test_numbers_in_recipes_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[sde]\nmax_sigma = 10\nT = 1e2\neps = "5e-3"\n[sampling]\nsteps = "4"\n')
    values = read_recipe(str(tmp_path / "r.toml")).values
    assert list(values.items()) == [
        ("max_sigma", 10.0), ("T", 100), ("eps", 0.005), ("steps", 4), ("task", ""), ("kind", "mean-reverting")
    ]  # fmt: skip
    assert [type(value) for value in values.values()] == [float, int, float, int, str, str]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("[sde]\nmax_sigma = -1", "max_sigma must be above 0 and at most 255, not -1"),
        ("[sde]\nkind = 'brownian'", "the SDE's kind must be one of mean-reverting, denoising, not 'brownian'"),
        ("[sampling]\nsteps = 0", "steps must be a whole number from 1, not 0"),
        ("[sampling]\nsampler = 'zzz'", "sampler must be one of .*, not 'zzz'"),
    ],
)
def test_settings_out_of_range_are_refused_where_they_are_read(tmp_path, section, sentence):
    (tmp_path / "r.toml").write_text(section)
    with pytest.raises(InputFileError, match=f"r.toml: {sentence}"):
        read_recipe(str(tmp_path / "r.toml"))


def test_a_doubled_key_of_an_options_file_takes_the_last_and_is_told(tmp_path):
    (tmp_path / "o.yml").write_text("sde:\n  T: 100\n  T: 50\n  max_sigma: 10\n")
    source = read_options_file(tmp_path / "o.yml")
    assert source.values["T"] == 50
    assert source.note == "the options file has 'T' twice: the last one counts, as for the reference"


@pytest.mark.parametrize(("read", "name"), [(read_recipe, "r.toml"), (read_options_file, "o.yml")])
def test_a_byte_order_mark_is_accepted(tmp_path, read, name):
    text = {"r.toml": "[sde]\nT = 7\n", "o.yml": "sde: {T: 7}\n"}[name]
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert read(str(tmp_path / name)).values["T"] == 7


def model_of(**settings: Any) -> torch.nn.Module:
    return ConditionalNAFNet(8, [1], 1, [1], **settings)


def test_an_empty_task_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[sde]\nmax_sigma = 10\n")
    model = model_of()
    save_checkpoint(tmp_path / "own.pt", model.state_dict(), describe(checkpoint(model), [flags(**SDE, task="t")]).card)
    found = describe(read_checkpoint(tmp_path / "own.pt"), [read_recipe(str(tmp_path / "r.toml"))])
    assert found.card.task == "t"
    assert "task = t (from the checkpoint's card)" in found.origins


def test_all_of_a_checkpoints_own_card_is_kept(tmp_path: Path) -> None:
    model = model_of()
    said = flags(**SDE, task="t", sampler="ddim", steps=6, t0=50, margin=16, form="latent")
    card = describe(checkpoint(model), [said]).card
    assert (card.t0, card.margin, card.steps, card.checkpoint_sha256) == (50, 16, 6, "00")
    assert (card.pad_mode, card.multiple_of, card.channels, card.global_operators) == ("zero", 2, 3, True)
    save_checkpoint(tmp_path / "own.pt", model.state_dict(), card)
    read = read_checkpoint(tmp_path / "own.pt")
    assert describe(read, []).card == replace(card, checkpoint_sha256=read.sha256)


def test_steps_are_no_more_than_there_are_timesteps() -> None:
    def steps(**values: Any) -> int:
        return describe(checkpoint(model_of()), [flags(**{**SDE, **values})]).card.steps

    assert (steps(), steps(T=5), steps(t0=7), steps(t0=7, steps=3), steps(steps=200)) == (10, 5, 7, 3, 100)
    assert (steps(sampler="euler"), steps(sampler="euler", t0=7), steps(sampler="ode", steps=3)) == (100, 7, 100)


@pytest.mark.parametrize(
    ("conditional", "kind", "message"),
    [
        (True, "denoising", "of kind 'denoising', and the network sees mu, as one for 'mean-reverting' does"),
        (False, "mean-reverting", "of kind 'mean-reverting', and the network does not see mu, as one for 'denoising'"),
        (True, "brownian", "the SDE's kind must be one of mean-reverting, denoising, not 'brownian'"),
    ],
)
def test_a_kind_of_sde_that_is_not_the_networks_is_refused(conditional: bool, kind: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        describe(checkpoint(model_of(conditional=conditional)), [flags(**SDE, kind=kind)])
    with pytest.raises(InvalidValueError, match="form must be one of pixel, latent, not 'round'"):
        describe(checkpoint(model_of()), [flags(**SDE, form="round")])


def test_a_recipes_network_is_a_proposal_and_an_options_files_is_not(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[network]\nname = "ConditionalNAFNet"\nwidth = 9\nform = "latent"\n')
    (tmp_path / "o.yml").write_text(options_with("{width: 9}"))
    recipe, options = read_recipe(str(tmp_path / "r.toml")), read_options_file(tmp_path / "o.yml")
    assert describe(checkpoint(model_of()), [flags(**SDE), recipe]).card.settings["form"] == "latent"
    with pytest.raises(CheckpointError, match=r"o.yml: .*c\.pth: |c\.pth: .*o.yml: the settings say width = 9"):
        describe(checkpoint(model_of()), [options])
    assert recipe.network == ("ConditionalNAFNet", {"width": 9, "form": "latent"})
    assert (recipe.name, options.name) == ("`recipe` r", "`opt` o.yml")


def test_settings_out_of_range_are_refused_in_options_files_too(tmp_path: Path) -> None:
    (tmp_path / "o.yml").write_text("sde: {max_sigma: 300}\n")
    with pytest.raises(InputFileError, match=r"o\.yml: max_sigma must be above 0 and at most 255, not 300"):
        read_options_file(tmp_path / "o.yml")
    (tmp_path / "r.toml").write_text("[sampling]\nt0 = 0\n")
    with pytest.raises(InputFileError, match=r"r\.toml: t0 must be "):
        read_recipe(str(tmp_path / "r.toml"))


TRAINING = """
sde: {max_sigma: 10, T: 100, schedule: cosine, eps: 0.005}
datasets:
  train: {dataroot_GT: [/a, /b], dataroot_LQ: /lq, batch_size: 2, use_rot: true}
  val: {dataroot_GT: /v, dataroot_LQ: /w}
degradation: {sigma: [10, 50]}
train: {lr_G: 3e-5, lr_scheme: Warm, warmup_iter: 40, weight_decay_G: 0.1, niter: null, optimizer: ADAMW}
logger: {print_freq: 7}
"""


def test_training_settings_of_an_options_file(tmp_path: Path) -> None:
    (tmp_path / "o.yml").write_text(TRAINING)
    source = read_options_file(tmp_path / "o.yml")
    assert source.training == {
        "objective": "ml", "ema": 0.995**0.1, "warmup": 40, "learning_rate": "3e-5", "weight_decay": 0.1, "batch": 2,
        "rotate": True, "log_every": 7, "optimizer": "adamw", "scheme": "Warm",
    }  # fmt: skip
    assert source.data == {"lq": "/lq", "validation_gt": "/v", "validation_lq": "/w"}, "no lists"
    (tmp_path / "o.yml").write_text(TRAINING.replace("warmup_iter: 40", "warmup_iter: 0").replace("[10, 50]", "true"))
    source = read_options_file(tmp_path / "o.yml")
    assert source.training["warmup"] == 0
    assert "noise_level" not in source.data
    (tmp_path / "o.yml").write_text("sde: {T: 100}\ndegradation: {sigma: 15}\ndatasets: {train: {batch_size: 3}}\n")
    source = read_options_file(tmp_path / "o.yml")
    assert (source.training, source.data) == ({}, {"noise_level": 15}), "a file for testing trains nothing"


@pytest.mark.parametrize(
    ("more", "kind"), [("", None), (", eps: 0.005", None), ("", "denoising")], ids=["LQGT", "eps", "GT"]
)
def test_an_options_file_of_clean_pictures_alone_is_for_a_denoising_sde(
    more: str, kind: str | None, tmp_path: Path
) -> None:
    mode = "LQGT" if not more and kind is None else "GT"
    network = "network_G: {which_model_G: ConditionalUNet, setting: {nf: 8}}"
    text = f"sde: {{T: 100, sample_T: 100{more}}}\ndatasets: {{train: {{mode: {mode}}}}}\n{network}\n"
    (tmp_path / "o.yml").write_text(text)
    source = read_options_file(tmp_path / "o.yml")
    assert source.values.get("kind") == kind
    assert source.network == ("ConditionalUNet", {"nf": 8} if kind is None else {"mid_attention": "full", "nf": 8})
    assert source.note == ""
