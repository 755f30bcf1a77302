"""An export as one call from Python: the proven graph, in the precision asked for, and what is told on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from golden import load_case
from places import ROOT

from irsde_deploy.core.card import ModelCard
from irsde_deploy.core.comparison import DIVERGENCE, format_heading
from irsde_deploy.errors import InputFileError, InvalidValueError, OutputFileError
from irsde_deploy.export.description import flags
from irsde_deploy.export.export_settings import ExportSettings, PlanOrder
from irsde_deploy.export.exporter import export_files
from irsde_deploy.export.sources import read_options_file, read_recipe
from irsde_deploy.graphs.onnx_file import read_model
from irsde_deploy.networks import ConditionalUNet
from irsde_deploy.precision.measured_pictures import MAX_PICTURES, read_pictures
from irsde_deploy.runtimes.tensorrt.options import BuildOptions
from irsde_deploy.runtimes.tensorrt.profiles import Profile
from irsde_deploy.system.listener import Listener

CASE = load_case("latent_nafnet_w8")
PICTURES = load_case("nafnet_w16")


def test_one_call_writes_what_the_command_writes(
    succeeds: Callable[..., tuple[str, str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sources = [flags(form="latent"), read_recipe("derain")]
    card = export_files(CASE.weights, tmp_path / "call.onnx", sources, ExportSettings(opset=17))
    assert capfd.readouterr() == ("", "")
    options = ("--recipe", "derain", "--form", "latent", "--opset", 17)
    printed, _ = succeeds("export", CASE.weights, "-o", tmp_path / "command.onnx", *options)
    assert (tmp_path / "call.onnx").read_bytes() == (tmp_path / "command.onnx").read_bytes()
    model, written = read_model(tmp_path / "call.onnx")
    assert written == card
    assert model.opset_import[0].version == 17
    lines: list[str] = []
    told = Listener(line=lines.append)
    export_files(CASE.weights, tmp_path / "again.onnx", sources, ExportSettings(opset=17), listener=told)
    assert "schedule = cosine (from `recipe` derain)" in lines
    assert "schedule = cosine (from --recipe derain)" in printed.splitlines()
    assert "comparing with PyTorch ..." in printed.splitlines()
    assert format_heading() in printed
    expected = "\n".join(lines).replace("`recipe`", "--recipe").replace("again.onnx", "command.onnx")
    assert printed.strip() == expected


def test_a_sources_note_and_a_diverging_network_are_told(tmp_path: Path) -> None:
    """Weights that were never trained: PyTorch's own trajectory has no end, and the file is written with a note."""
    model = ConditionalUNet(3, 3, 8, depth=1)
    with torch.no_grad():
        model.final_conv.bias.fill_(1e7)
    torch.save(model.state_dict(), tmp_path / "wild.pth")
    (tmp_path / "o.yml").write_text("sde: {max_sigma: 10, T: 4, sample_T: 3, schedule: cosine, eps: 0.005}\n")
    lines: list[str] = []
    notes: list[str] = []
    listener = Listener(line=lines.append, note=notes.append)
    export_files(tmp_path / "wild.pth", tmp_path / "a.onnx", [read_options_file(tmp_path / "o.yml")], listener=listener)
    assert notes == [DIVERGENCE]
    assert any(line.startswith("note: sample_T = 3 of the options file is not used") for line in lines)
    compared = next(line for line in lines if "eps 1x3x2x2 t=1" in line)
    assert "x_4 posterior, 4 steps" in compared
    assert (tmp_path / "a.onnx").exists()


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    output = tmp_path / "mine.onnx"
    output.write_bytes(b"mine")
    with pytest.raises(OutputFileError, match="exists already: pass `overwrite`"):
        export_files(CASE.weights, output, [read_recipe("derain")])
    assert output.read_bytes() == b"mine"


def test_precision_and_what_rewrites_the_graph(tmp_path: Path) -> None:
    """The rewriter is asked for before any work, and is given the lowered graph."""
    cards: list[ModelCard] = []

    def rewriter_for(card: ModelCard) -> Callable[[onnx.ModelProto, ModelCard, Path], None]:
        cards.append(card)

        def write(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
            cards.append(card)
            model.doc_string = "rewritten"
            onnx.save(model, path)

        return write

    output = tmp_path / "a.onnx"
    sources = [flags(**PICTURES.sde)]
    export_files(PICTURES.weights, output, sources, ExportSettings(precision="fp16"), rewriter_for=rewriter_for)
    assert [card.precision for card in cards] == ["fp32", "fp16"]
    assert onnx.load(output).doc_string == "rewritten"

    def refuses(card: ModelCard) -> Callable[[onnx.ModelProto, ModelCard, Path], None]:
        raise InvalidValueError("not for this model")

    with pytest.raises(InvalidValueError, match="not for this model"):
        export_files(PICTURES.weights, tmp_path / "b.onnx", sources, rewriter_for=refuses)
    assert not (tmp_path / "b.onnx").exists()


def test_a_plan_is_refused_before_any_work(tmp_path: Path) -> None:
    def options(card: ModelCard) -> BuildOptions:
        raise InvalidValueError(f"no size fits a multiple of {card.multiple_of}")

    plan = PlanOrder(tmp_path / "a.plan", options)
    with pytest.raises(InvalidValueError, match="no size fits a multiple of 16"):
        export_files(PICTURES.weights, tmp_path / "a.onnx", [flags(**PICTURES.sde)], plan=plan)
    assert not (tmp_path / "a.onnx").exists()


def test_a_plan_is_built_of_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    built: list[tuple[str, Path, Path]] = []

    def build(model: onnx.ModelProto, card: ModelCard, source: Path, path: Path, options: BuildOptions) -> None:
        assert source.read_bytes() == model.SerializeToString()
        assert options == wanted
        built.append((card.precision, source, path))

    wanted = BuildOptions("tensorrt-rtx", (Profile(*[(1, 64, 64)] * 3),))
    plan, output = PlanOrder(tmp_path / "a.plan", lambda card: wanted, build), tmp_path / "a.onnx"
    export_files(PICTURES.weights, output, [flags(**PICTURES.sde)], ExportSettings(precision="mixed"), plan)
    assert built == [("mixed", output, plan.path)]


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="`psnr_budget` searches a mixed precision: leave out `precision` fp16"):
        ExportSettings(precision="fp16", psnr_budget=40)
    with pytest.raises(InvalidValueError, match="`pictures` is for measuring fp16 or mixed"):
        ExportSettings(pictures=(Path("a.png"),))
    with pytest.raises(InvalidValueError, match="must be one of fp32, fp16, mixed, not 'int8'"):
        ExportSettings(precision="int8")


def test_pictures_to_measure_on_come_from_files_and_folders(tmp_path: Path, unet_onnx: Path) -> None:
    card = read_model(unet_onnx)[1]
    folder = ROOT / "assets"
    one = read_pictures(card, [folder / "rain.png"])
    assert (len(one), one[0].shape[:2]) == (1, (1, 3))
    assert len(read_pictures(card, [folder, folder / "rain.png"])) > 1
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    notes: list[str] = []
    assert len(read_pictures(card, [broken, folder / "rain.png"], notes.append)) == 1
    assert [note.rpartition(": ")[2] for note in notes] == ["not measured on"]
    assert str(broken) in notes[0]
    with pytest.raises(InputFileError, match=r"broken\.png: not a PNG"):
        read_pictures(card, [broken])
    broken.unlink()
    with pytest.raises(InputFileError, match="no pictures there"):
        read_pictures(card, [tmp_path])
    with pytest.raises(InputFileError, match=f"give {MAX_PICTURES} at most"):
        read_pictures(card, [folder / "rain.png"] * (MAX_PICTURES + 1))
