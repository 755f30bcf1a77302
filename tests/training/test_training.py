"""Training: learns two tasks, resumes bit for bit, shares a batch between processes, survives being killed."""

from __future__ import annotations

import csv
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from commands import irsde, irsde_forked
from golden import load_case
from places import DATA
from sample_pictures import write_photographs
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from irsde_deploy import DenoisingSDE, MeanRevertingSDE
from irsde_deploy.errors import CheckpointError, InputFileError, InvalidValueError, OutputFileError
from irsde_deploy.export.description import flags
from irsde_deploy.export.sources import SettingsSource
from irsde_deploy.networks import ConditionalNAFNet
from irsde_deploy.networks.checkpoints import read_checkpoint
from irsde_deploy.pictures.degradations import degradation
from irsde_deploy.system.temporaries import temporary_beside
from irsde_deploy.training import validation
from irsde_deploy.training.data import Batch, DegradedFolder, TrainingSamples
from irsde_deploy.training.plan import DataPlan, TrainingPlan, make_plan
from irsde_deploy.training.processes import Process
from irsde_deploy.training.run import Ending, train
from irsde_deploy.training.run_folder import RunFolder, read_run
from irsde_deploy.training.settings import TrainingSettings
from irsde_deploy.training.trainer import Trainer

SDE = MeanRevertingSDE(max_sigma=30, T=20, schedule="cosine", eps=0.02)
TINY = {"width": 8, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]}
SETTINGS = {
    "batch": 4,
    "patch": 16,
    "learning_rate": 2e-3,
    "warmup": 5,
    "log_every": 2,
    "validate_every": 100,
    "save_every": 4,
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def plan(
    photographs: Path, iterations: int, kind: str | None = "rain", network: dict = TINY, **changes: object
) -> TrainingPlan:
    sde = {"kind": "denoising", "max_sigma": 75, "T": 20} if kind is None else {}
    values = {"max_sigma": 30, "T": 20, "schedule": "cosine", "eps": 0.02, "steps": 3, **sde}
    if kind is None:
        del values["eps"]
    source = SettingsSource("test", values, ("ConditionalNAFNet", network), binding=False)
    data = DataPlan(str(photographs), degradation=kind and {"kind": kind}, side=32)
    return make_plan([source], data, {**SETTINGS, "iterations": iterations, **changes}, None)


def weights_of(folder: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name).weights


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", ["rain", "shadow", None], ids=["rain", "shadow", "denoising-sde"])
def test_the_loss_falls_whatever_the_task(photographs: Path, tmp_path: Path, kind: str | None) -> None:
    """Only the data changes; 120 iterations more than halve the loss of the first ten."""
    seldom = {"validate_every": 1000, "save_every": 1000}
    changes = {"objective": "noise", "log_every": 10, "learning_rate": 1e-2, **seldom}
    shallow = {**TINY, "enc_blk_nums": [1], "dec_blk_nums": [1]}
    train(plan(photographs, 300, kind, shallow, **changes), tmp_path / "run", Process(), stop_at=120)
    losses = [float(row["loss"]) for row in log_of(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0], losses


@pytest.fixture(scope="module")
def whole(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run of 12 iterations, validated twice."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(plan(photographs, 12, validate_every=6), folder, Process()) is Ending.COMPLETE
    return folder


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(photographs: Path, tmp_path: Path, whole: Path) -> None:
    broken = tmp_path / "broken"
    assert train(plan(photographs, 12, validate_every=6), broken, Process(), stop_at=7) is Ending.STOPPED
    saved, state = read_run(broken)
    assert state["iteration"] == 7
    assert train(TrainingPlan.from_dict(saved), broken, Process(), resumed=state) is Ending.COMPLETE
    _require_equal_runs(whole, broken)


def _require_equal_runs(whole: Path, broken: Path) -> None:
    one, other = read_run(whole)[1], read_run(broken)[1]
    for name, value in one["weights"].items():
        assert torch.equal(value, other["weights"][name]), name
    averaged = weights_of(broken)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, averaged[name]), name
    assert log_of(whole) == log_of(broken)


@pytest.mark.parametrize("at", [6, 12], ids=["on the way", "at the end"])
def test_a_validation_cut_short_is_made_up_for(photographs: Path, tmp_path: Path, whole: Path, at: int) -> None:
    """SIGINT to this very process while it validates iteration `at`; log and best checkpoint are as if never."""
    broken = tmp_path / "broken"
    original = validation.numpy_loop.restore

    def interrupting(*arguments: object, **named: object) -> object:
        if trainer_iterations and trainer_iterations[-1] + 1 >= at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **named)  # type: ignore[arg-type]

    trainer_iterations: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation.numpy_loop, "restore", interrupting)
        ending = train(
            plan(photographs, 12, validate_every=6),
            broken,
            Process(),
            on_progress=lambda progress: trainer_iterations.append(progress.iteration),
        )
    assert ending is Ending.INTERRUPTED
    saved, state = read_run(broken)
    assert state["iteration"] == at
    assert train(TrainingPlan.from_dict(saved), broken, Process(), resumed=state) is Ending.COMPLETE
    _require_equal_runs(whole, broken)
    best = [read_checkpoint(folder / "best.pt").weights for folder in (whole, broken)]
    assert all(torch.equal(value, best[1][key]) for key, value in best[0].items())
    with pytest.raises(InvalidValueError, match="12 iterations are done: give a larger"):
        train(TrainingPlan.from_dict(saved), broken, Process(), resumed=read_run(broken)[1])


def test_worker_processes_change_nothing(photographs: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        train(plan(photographs, 4), tmp_path / str(workers), Process(), workers=workers)
    _require_equal_runs(tmp_path / "0", tmp_path / "2")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_breaks_ends_the_run_in_one_sentence_and_saves(tmp_path: Path, workers: int) -> None:
    """Its header is whole, so that only reading it shows the damage; once it is mended, the run goes on."""
    pictures = write_photographs(tmp_path / "pictures")
    victim = pictures / "p4.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    folder = tmp_path / "run"
    done = [0]
    broken = plan(pictures, 20, batch=1, save_every=1000)
    with pytest.raises(InputFileError, match=r"p4.png: the picture is damaged") as caught:
        train(broken, folder, Process(), workers=workers, on_progress=lambda state: done.append(state.iteration))
    assert str(caught.value).startswith(f"{victim}: "), "and not with a worker's traceback"
    saved, state = read_run(folder)
    assert state["iteration"] == done[-1] > 0
    victim.write_bytes(whole)
    assert train(TrainingPlan.from_dict(saved), folder, Process(), resumed=state) is Ending.COMPLETE
    victim.unlink()
    with pytest.raises(InvalidValueError, match="not those that the run started with"):
        train(TrainingPlan.from_dict(read_run(folder)[0], 30), folder, Process(), resumed=read_run(folder)[1])


def test_worker_processes_end_with_a_failed_command(tmp_path: Path) -> None:
    """A picture that breaks, read by a worker: one sentence, and the command comes to its end."""
    pictures = write_photographs(tmp_path / "pictures")
    victim = pictures / "p4.png"
    victim.write_bytes(victim.read_bytes()[:-500])
    errors = tmp_path / "stderr.txt"
    process = _train_forked(tmp_path / "run", pictures, *_tiny_options(50), "--workers", "2", errors=errors)
    process.join(50)
    assert process.exitcode == 1
    complaint = errors.read_text()
    assert len(complaint.strip().splitlines()) == 1, complaint
    assert "p4.png: the picture is damaged" in complaint


def test_a_run_among_its_own_pictures_is_refused(photographs: Path) -> None:
    with pytest.raises(InvalidValueError, match="whose pictures are read"):
        train(plan(photographs, 1), photographs / "run", Process())


def test_the_checkpoint_is_one_that_export_and_run_take(photographs: Path, tmp_path: Path) -> None:
    train(plan(photographs, 4, validate_every=2), tmp_path / "run", Process())
    for name in ("last.pt", "best.pt"):
        checkpoint = read_checkpoint(tmp_path / "run" / name)
        assert checkpoint.card is not None
        assert checkpoint.card.sde == SDE
        assert checkpoint.card.steps == 3
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    averaged, raw = state["weights"], state["training"]["weights"]
    assert any(not torch.equal(averaged[key], raw[key]) for key in raw), "the averaged weights are the ones to use"
    assert float(log_of(tmp_path / "run")[0]["psnr"]) > 0
    assert (tmp_path / "run" / "samples" / "0000002.png").exists()


def test_tensorboard_has_the_same_log(photographs: Path, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(plan(photographs, 6, validate_every=3), tmp_path / "run", Process())
    events = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = log_of(tmp_path / "run")
    for name in ("loss", "learning_rate", "psnr"):
        logged = {event.step: event.value for event in events.Scalars(name)}
        written = {int(row["iteration"]): float(row[name]) for row in rows if row[name]}
        assert logged == pytest.approx(written, rel=1e-6), name  # float32 there


def test_averaging_and_the_learning_rate_follow_their_formulas() -> None:
    torch.manual_seed(0)
    settings = TrainingSettings(iterations=100, ema=0.3, learning_rate=1e-3, min_learning_rate=1e-5, warmup=4)
    trainer = Trainer(ConditionalNAFNet(**TINY), SDE, settings)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    expected = trainer.averaged.ending.weight.clone()
    for i in range(5):
        gt, mu, z = torch.rand(3, 2, 3, 16, 16, generator=generator)
        trainer.step(Batch(gt, mu, torch.tensor([3, 17]), z, torch.ones(2)))
        decay = min(0.3, (1 + i) / (10 + i))
        expected = decay * expected + (1 - decay) * trainer.model.ending.weight.detach()
    torch.testing.assert_close(trainer.averaged.ending.weight, expected, rtol=1e-5, atol=1e-7)
    rates = [settings.learning_rate_at(i) for i in (0, 1, 3, 50, 100)]
    cosine = [1e-5 + 0.99e-3 * (1 + np.cos(np.pi * i / 100)) / 2 for i in (0, 1, 3, 50, 100)]
    np.testing.assert_allclose(rates, np.array(cosine) * [0.25, 0.5, 1, 1, 1], rtol=1e-12)
    steps = TrainingSettings(scheme="multi-step", milestones=(10, 20), gamma=0.5, learning_rate=1.0, warmup=0)
    assert [steps.learning_rate_at(i) for i in (0, 9, 10, 19, 20)] == [1, 1, 0.5, 0.5, 0.25]


def test_the_loss_of_the_first_batch_is_the_formula_written_again(photographs: Path) -> None:
    """Maximum likelihood on the state itself, from a sample's own numbers, in float64."""
    samples = TrainingSamples(DegradedFolder.open(photographs, degradation("rain")), 16, SDE, seed=3)
    batch = Batch(*(torch.stack(column) for column in zip(*(samples[i] for i in range(4)), strict=True)))
    torch.manual_seed(0)
    trainer = Trainer(ConditionalNAFNet(**TINY), SDE, TrainingSettings(objective="ml"))  # type: ignore[arg-type]
    gt, mu, z = (part.double().numpy() for part in (batch.gt, batch.mu, batch.z))
    t = batch.t.numpy()
    a, sigma, delta = (column[t].reshape(-1, 1, 1, 1) for column in (SDE.a, SDE.sigma, SDE.delta))
    x = mu + a * (gt - mu) + sigma * z
    with torch.no_grad():
        eps = trainer.model(torch.from_numpy(x).float(), batch.mu, batch.t.float()).double().numpy()
    euler = x + delta * (x - mu) - 2 * SDE.lam**2 * delta * eps / sigma
    optimum = np.stack([SDE.optimal_reverse_step(x[i] - mu[i], gt[i] - mu[i], int(t[i])) + mu[i] for i in range(4)])
    assert trainer.step(batch) == pytest.approx(np.abs(euler - optimum).mean(), rel=1e-4)


def test_a_share_of_the_samples_is_what_sampling_starts_from(photographs: Path) -> None:
    """Those have t = T and y = lam z; the loss is the formula on that state, its target the optimal step from there."""
    pairs = DegradedFolder.open(photographs, degradation("rain"))
    samples = TrainingSamples(pairs, 16, SDE, seed=3, start_share=0.4)
    starts = [samples[i].left == 0 for i in range(300)]
    assert 0.3 < np.mean(starts) < 0.5  # 0.4 within 3.5 standard deviations
    number = starts.index(True)
    batch = Batch(*(column[None] for column in samples[number]))
    assert int(batch.t) == SDE.T
    torch.manual_seed(0)
    trainer = Trainer(ConditionalNAFNet(**TINY), SDE, TrainingSettings(objective="ml"))  # type: ignore[arg-type]
    gt, mu, z = (part.double().numpy() for part in (batch.gt, batch.mu, batch.z))
    y = SDE.lam * z
    with torch.no_grad():
        eps = trainer.model(torch.from_numpy(y + mu).float(), batch.mu, batch.t.float()).double().numpy()
    cy, cn, _ = SDE.euler_step(SDE.T)
    target = SDE.optimal_reverse_step(y, gt - mu, SDE.T)
    assert trainer.step(batch) == pytest.approx(np.abs(cy * y + cn * eps - target).mean(), rel=1e-4)


def test_samples_depend_on_seed_and_number_alone(photographs: Path) -> None:
    pairs = DegradedFolder.open(photographs, degradation("rain"))
    one, other = (TrainingSamples(pairs, 16, SDE, seed) for seed in (0, 1))
    again = TrainingSamples(DegradedFolder.open(photographs, degradation("rain")), 16, SDE, 0)
    for number in (5, 0, 17):
        assert all(torch.equal(a, b) for a, b in zip(one[number], again[number], strict=True))
    assert not torch.equal(one[0].z, other[0].z)
    timesteps = np.bincount([int(one[i].t) for i in range(400)], minlength=21)
    assert timesteps[0] == 0
    assert timesteps[1:].min() >= 5  # 20 expected each; 5 or fewer in any has a probability of 1e-3
    seen = {float(one[i].gt.sum()) for i in range(6)}
    assert len(seen) == 6


def _gradients(rank: int, count: int, port: int, out: str) -> None:
    """One of two processes: a step on its half of a batch."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(count)}
    torch.set_num_threads(1)
    if count > 1:
        torch.distributed.init_process_group("gloo", rank=rank, world_size=count)
    torch.manual_seed(0)
    trainer = Trainer(ConditionalNAFNet(**TINY), SDE, TrainingSettings(objective="noise"))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(5)
    gt, mu, z = torch.rand(3, 4, 3, 16, 16, generator=generator)
    t, share = torch.tensor([1, 7, 13, 20]), 4 // count
    mine = slice(rank * share, (rank + 1) * share)
    trainer.step(Batch(gt[mine], mu[mine], t[mine], z[mine], torch.ones(share)))
    torch.save({name: p.grad for name, p in trainer.model.named_parameters()}, f"{out}.{count}.{rank}")
    if count > 1:
        torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path: Path, free_port: int) -> None:
    out = str(tmp_path / "gradients")
    _gradients(0, 1, free_port, out)
    how = "spawn" if torch.cuda.is_available() else "fork"  # CUDA's threads do not survive a fork; imports are saved
    mp.start_processes(_gradients, (2, free_port, out), nprocs=2, start_method=how)
    alone = torch.load(f"{out}.1.0")
    for rank in (0, 1):
        shared = torch.load(f"{out}.2.{rank}")
        for name, gradient in alone.items():
            scale = float(gradient.abs().max())
            assert float((shared[name] - gradient).abs().max()) <= 1e-5 * scale, name


def test_torchrun_trains_what_one_process_does(photographs: Path, tmp_path: Path) -> None:
    """The command under torchrun: two processes share each batch and one writes; same samples, hence the same loss."""
    arguments = ["--gt", str(photographs), "--degradation", "rain", *_tiny_options(4)]
    alone = irsde("train", "-o", tmp_path / "one", *arguments)
    assert alone.returncode == 0, alone.stderr
    how = "spawn" if torch.cuda.is_available() else "fork"  # as above; torchrun's command line has neither
    config = LaunchConfig(
        1, 1, nproc_per_node=2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id="test", start_method=how,
        monitor_interval=0.05, logs_specs=DefaultLogsSpecs(str(tmp_path), redirects=Std.ALL),
    )  # fmt: skip
    elastic_launch(config, _run_train)("-o", str(tmp_path / "two"), *arguments)
    one, two = (_losses(tmp_path / name) for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-4)


def _run_train(*arguments: str) -> None:
    """One of torchrun's processes: the command."""
    done = irsde("train", *arguments)
    assert done.returncode == 0, done.stderr


def _losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in log_of(folder)]


def _tiny_options(iterations: int) -> list[str]:
    recipe = DATA / "tiny_recipe.toml"
    return ["--recipe", str(recipe), "--iterations", str(iterations)]


def test_a_killed_run_leaves_a_checkpoint_to_resume_from(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = _train_forked(folder, photographs, *_tiny_options(100_000), "--set", "save_every=1")
    _wait_for(folder / "log.csv", process)
    while len(log_of(folder)) < 3:  # a row is written before its checkpoint: two are saved
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join(30)
    saved, state = read_run(folder)
    assert state["iteration"] >= 2
    resumed = TrainingPlan.from_dict(saved, iterations=state["iteration"] + 2)
    ours = temporary_beside(folder / "last.pt").name.replace(f"-{os.getpid()}-", f"-{process.pid}-")
    (folder / "samples").mkdir(exist_ok=True)
    for name in (ours, f"samples/{ours}", ".download.part"):
        (folder / name).write_bytes(b"")
    left: list[list[str]] = []  # after each iteration; a validation, which sweeps samples by itself, is yet to come

    def look(progress: object) -> None:
        left.append([path.name for path in folder.rglob("*.part")])

    assert train(resumed, folder, Process(), resumed=state, on_progress=look) is Ending.COMPLETE
    assert left[0] == [".download.part"], "only what is ours is swept up, and that at once"
    assert [path.name for path in folder.rglob("*.part")] == [".download.part"], "only what is ours is swept up"
    assert read_run(folder)[1]["iteration"] == state["iteration"] + 2


def test_a_run_is_continued_by_one_process_at_a_time(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = train(plan(photographs, 2), folder, Process(), stop_at=1)
    before = read_run(folder)[1]["iteration"]
    other = RunFolder.reopen(folder, 1)
    saved, state = read_run(folder)
    with pytest.raises(OutputFileError, match="another process is training there: wait for its end, or stop it"):
        train(TrainingPlan.from_dict(saved), folder, Process(), resumed=state)
    other.close()
    assert (first, before, train(TrainingPlan.from_dict(saved), folder, Process(), resumed=state)) == (
        Ending.STOPPED,
        1,
        Ending.COMPLETE,
    )
    assert not (folder / "lock").exists()


def test_a_run_is_begun_by_one_process_at_a_time(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path / "run")
    with pytest.raises(OutputFileError, match="another process is training there: wait for its end, or stop it"):
        RunFolder.create(tmp_path / "run")
    first.close()
    RunFolder.create(tmp_path / "run").close()


def test_an_interrupt_ends_the_iteration_and_saves(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    errors = tmp_path / "stderr.txt"
    options = [*_tiny_options(100_000), "--set", "save_every=100000"]
    process = _train_forked(folder, photographs, *options, errors=errors)
    _wait_for(folder / "log.csv", process)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    assert "interrupted" in errors.read_text()
    rows = log_of(folder)
    assert read_run(folder)[1]["iteration"] == int(rows[-1]["iteration"]) >= 1


def test_a_terminated_group_of_processes_saves_too(photographs: Path, tmp_path: Path) -> None:
    """What timeout, systemd and batch systems do: SIGTERM to the workers as well."""
    folder = tmp_path / "run"
    errors = tmp_path / "stderr.txt"
    options = [*_tiny_options(100_000), "--set", "save_every=100000", "--workers", "1"]
    process = _train_forked(folder, photographs, *options, errors=errors)
    _wait_for(folder / "log.csv", process)
    os.killpg(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 130
    assert errors.read_text().splitlines() == [
        f"irsde-deploy: 'irsde-deploy train --resume {folder}' continues the run",
        "irsde-deploy: interrupted; finished files stay, none is half-written",
    ]
    assert read_run(folder)[1]["iteration"] == int(log_of(folder)[-1]["iteration"]) >= 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_mixed_precision_has_the_loss_of_full_precision(device: str, precision: str) -> None:
    """The first losses differ by the rounding of the network alone: 2^-8 in bf16, for each of a few layers."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    generator = torch.Generator().manual_seed(5)
    gt, mu, z = torch.rand(3, 4, 3, 16, 16, generator=generator)
    losses = {}
    for kind in ("fp32", precision):
        torch.manual_seed(0)
        settings = TrainingSettings(objective="noise", precision=kind, learning_rate=1e-3, warmup=0)
        trainer = Trainer(ConditionalNAFNet(**TINY), SDE, settings, device)  # type: ignore[arg-type]
        losses[kind] = [trainer.step(Batch(gt, mu, torch.tensor([1, 7, 13, 20]), z, torch.ones(4))) for _ in range(5)]
    np.testing.assert_allclose(losses[precision], losses["fp32"], rtol=2e-2)
    assert losses[precision] != losses["fp32"]
    assert losses[precision][-1] < losses[precision][0]


def _train_forked(folder: Path, pictures: Path, *options: str, errors: Path = Path(os.devnull)) -> BaseProcess:
    return irsde_forked(
        "train", "-o", folder, "--gt", pictures, "--degradation", "rain", *options, errors=errors
    )  # fmt: skip


def _wait_for(path: Path, process: BaseProcess) -> None:
    for _ in range(6000):
        if path.exists():
            return
        assert process.is_alive()
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def test_a_reference_checkpoint_is_where_training_starts(photographs: Path, tmp_path: Path) -> None:
    case = load_case("nafnet_w16")
    initial = read_checkpoint(case.weights)
    data = DataPlan(str(photographs), degradation={"kind": "rain"}, side=32)
    started = make_plan([flags(**case.sde, steps=2)], data, {**SETTINGS, "iterations": 1, "patch": 16}, initial)
    assert (len(initial.sha256), started.card.checkpoint_sha256) == (64, "")
    train(started, tmp_path / "run", Process(), initial=initial, stop_at=1)
    learned = weights_of(tmp_path / "run")
    largest = max(float((learned[key] - value).abs().max()) for key, value in initial.weights.items())
    assert 0 < largest < 2 * started.settings.learning_rate_at(0)  # one step of Adam: at most the learning rate


def test_a_reference_options_file_is_trained_as_it_is(photographs: Path, tmp_path: Path) -> None:
    from irsde_deploy.export.sources import read_options_file

    rainy = tmp_path / "lq"
    write_photographs(rainy)
    options = tmp_path / "ir-sde.yml"
    options.write_text(
        f"""
model: denoising
distortion: derain
sde: {{max_sigma: 10, T: 100, schedule: cosine, eps: 0.005}}
degradation: {{sigma: 25, scale: 4}}
datasets:
  train:
    {{dataroot_GT: {photographs}, dataroot_LQ: {rainy}, batch_size: 2, GT_size: 16, use_flip: true, use_rot: false}}
  val: {{dataroot_GT: {photographs}, dataroot_LQ: {rainy}}}
network_G:
  which_model_G: ConditionalNAFNet
  setting: {{width: 8, enc_blk_nums: [1], middle_blk_num: 1, dec_blk_nums: [1]}}
train:
  optimizer: Lion
  lr_G: !!float 3e-5
  lr_scheme: TrueCosineAnnealingLR
  beta1: 0.9
  beta2: 0.99
  niter: 3
  warmup_iter: -1
  lr_steps: [200000, 400000]
  lr_gamma: 0.5
  eta_min: !!float 1e-7
  is_weighted: true
  loss_type: l1
  manual_seed: 7
  val_freq: !!float 5e3
logger: {{print_freq: 1, save_checkpoint_freq: !!float 5e3}}
"""
    )
    source = read_options_file(options)
    made = make_plan([source], DataPlan(**source.data), {}, None)
    s = made.settings
    assert (s.objective, s.loss, s.weighted, s.optimizer, s.scheme) == ("ml", "l1", True, "lion", "cosine")
    assert (s.learning_rate, s.min_learning_rate, s.beta1, s.beta2) == (3e-5, 1e-7, 0.9, 0.99)
    assert (s.iterations, s.batch, s.patch, s.flip, s.rotate, s.seed) == (3, 2, 16, True, False, 7)
    assert (s.validate_every, s.save_every, s.log_every, s.warmup) == (5000, 5000, 1, 0)
    assert (made.card.sde.max_sigma, made.card.task) == (10, "derain")
    assert (made.data.gt, made.data.lq, made.data.validation_gt) == (str(photographs), str(rainy), str(photographs))
    assert train(made, tmp_path / "run", Process()) is Ending.COMPLETE
    assert len(_losses(tmp_path / "run")) == 3


def test_the_references_denoising_options_mean_its_other_process(photographs: Path, tmp_path: Path) -> None:
    """No eps, clean pictures alone: the Denoising-SDE, whose U-Net attends fully in its middle block."""
    from irsde_deploy.export.sources import read_options_file

    options = tmp_path / "ir-sde.yml"
    options.write_text(
        f"""
sde: {{max_sigma: 70, T: 1000, schedule: cosine}}
degradation: {{sigma: 50}}
datasets: {{train: {{mode: GT, dataroot_GT: {photographs}, batch_size: 1, GT_size: 16}}}}
network_G: {{which_model_G: ConditionalUNet, setting: {{in_nc: 3, out_nc: 3, nf: 8, depth: 2}}}}
train: {{optimizer: Adam, lr_G: 1e-4, lr_scheme: MultiStepLR, lr_steps: [5], lr_gamma: 0.5, niter: 1, val_freq: 5}}
"""
    )
    source = read_options_file(options)
    made = make_plan([source], DataPlan(**source.data), {"iterations": 3}, None)
    assert made.card.sde == DenoisingSDE(70, 1000, "cosine", 0.04)
    assert (made.card.settings["mid_attention"], made.card.settings["conditional"]) == ("full", False)
    assert (made.data.noise_level, made.settings.scheme, made.settings.milestones) == (50, "multi-step", (5,))
    train(made, tmp_path / "run", Process(), stop_at=1)
    assert weights_of(tmp_path / "run")["mid_attn.fn.fn.to_out.weight"].shape == (32, 128, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mse"}, "objective must be one of ml, ml-exact, noise"),
        ({"batch": 0}, "batch must be from 1"),
        ({"batch": "many"}, "batch must be a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, not nan"),
        ({"patch": 18}, "patch must be a multiple of 4"),
        ({"momentum": 0.9}, "training has the unknown field .momentum.: it has objective, loss, "),
        ({"milestones": [5, 5]}, "milestones must be above 0 and increase"),
    ],
)
def test_settings_out_of_range_are_named(photographs: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        plan(photographs, 10, **changes)


def test_data_that_does_not_fit_the_process_is_refused(photographs: Path) -> None:
    assert isinstance(plan(photographs, 1, None).card.sde, DenoisingSDE)
    denoising = SettingsSource(
        "test", {"kind": "denoising", "max_sigma": 75, "T": 20}, ("ConditionalNAFNet", TINY), False
    )
    with pytest.raises(InvalidValueError, match="makes its own noise"):
        make_plan([denoising], DataPlan(str(photographs), degradation={"kind": "rain"}), {}, None)
    reverting = SettingsSource(
        "test", {"max_sigma": 30, "T": 20, "schedule": "cosine", "eps": 0.02}, ("ConditionalNAFNet", TINY)
    )
    with pytest.raises(InvalidValueError, match="what shall be restored"):
        make_plan([reverting], DataPlan(str(photographs)), {}, None)


def test_another_networks_state_is_refused(photographs: Path, tmp_path: Path) -> None:
    train(plan(photographs, 1), tmp_path / "run", Process())
    _, state = read_run(tmp_path / "run")
    other = Trainer(ConditionalNAFNet(**{**TINY, "width": 16}), SDE, TrainingSettings())  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="does not fit this network"):
        other.load_state(state)
