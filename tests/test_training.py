"""Training end to end: through the launchers as users start it, and through the generator in this process."""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import DDPMPipeline
from PIL import Image

import train as trainer
from ddpm import checkpoint, draws, report, state
from ddpm.config import preset

ROOT = Path(__file__).parent.parent
TINY = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "train_batch_size": 16,
    "max_train_steps": 12,
    "lr_warmup_steps": 4,
    "logging_steps": 5,
    "validation_steps": 6,
    "checkpointing_steps": 3,
    "num_validation_images": 32,
    "num_samples": 4,
    "sample_steps": 3,
    "num_train_timesteps": 40,
    "num_cpu_threads": 1,
}
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]


def flags(**options):
    words = []
    for name, value in ({k: v for k, v in TINY.items()} | options).items():
        words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


def command(output_dir, processes=1, **options):
    if processes == 1:
        head = [sys.executable, "train.py"]
    else:
        head = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc_per_node={processes}",
            "--standalone",
            "train.py",
        ]
    return [*head, "--output_dir", str(output_dir), *flags(**options)]


def start(words, **environment):
    env = os.environ | {"ACCELERATE_USE_CPU": "true"} | environment
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)


def in_process(output_dir, should_stop=lambda step: False, **options):
    """Consume the generator here; returns the last Progress."""
    AcceleratorState._reset_state(reset_partial_state=True)
    config = preset("digits", output_dir=output_dir, **(TINY | options))
    seen = []
    for progress in trainer.train(config, lambda: should_stop(seen[-1].step + 1 if seen else 1)):
        seen.append(progress)
    return seen[-1]


def weights(folder):
    return safetensors.torch.load_file(folder / "unet/diffusion_pytorch_model.safetensors")


def assert_same_run(one, two):
    """Exported weights, full training state and metrics (but for timings) are equal bit for bit."""
    a, b = (state.load_latest(folder / "checkpoints") for folder in (one, two))
    assert a.meta["step"] == b.meta["step"]
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        assert torch.equal(tensor, b.tensors[name]), name
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(two)[name]), name
    rows = [[{k: v for k, v in row.items() if k != "images_per_second"} for row in report.read_metrics(f / "metrics.jsonl")] for f in (one, two)]  # fmt: skip
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never cut off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert in_process(folder).stopped == "finished"
    return folder


# --------------------------------------------------------------------------------------------------- as users start it


def test_accelerate_launch_trains_and_leaves_what_the_contract_lists(tmp_path):
    out = tmp_path / "run"
    options = flags(
        max_train_steps=60, train_batch_size=32, learning_rate=4e-3, validation_steps=30, num_train_timesteps=100
    )
    done = start([*LAUNCH, "train.py", "--output_dir", str(out), *options])
    assert done.returncode == 0, done.stderr
    assert re.search(r"60/60 .* steps/s, loss 0\.\d+, \d+ images/s", done.stderr), "progress bar with loss and images/s"
    assert re.search(r"step 60: val_loss 0\.\d{4}, EMA 0\.\d{4}", done.stdout + done.stderr)
    for name in [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "README.md",
        "train_config.json",
        "metrics.jsonl",
        "training.png",
        "samples/step-000030.png",
        "samples/step-000060.png",
        "strip.png",
        "checkpoints/step-000060/state.json",
    ]:
        assert (out / name).is_file(), name
    assert not [p for p in out.rglob("*") if p.suffix in (".bin", ".pt", ".pkl", ".pth") or p.name.startswith(".tmp")]

    rows = report.read_metrics(out / "metrics.jsonl")
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(5, 65, 5))
    assert set(train[0]) == {
        "kind", "step", "images", "loss", "loss_by_decile", "lr", "grad_norm", "images_per_second",
    }  # fmt: skip
    assert train[-1]["images"] == 60 * 32
    assert len(train[0]["loss_by_decile"]) == 10
    assert train[0]["loss"] == pytest.approx(1, abs=0.15), "a zero-initialised head predicts 0, so the loss starts at 1"
    assert train[-1]["loss"] < 0.6 * train[0]["loss"]
    validation = [row for row in rows if row["kind"] == "validation"]
    assert [set(row) for row in validation] == [{"kind", "step", "images", "val_loss", "val_loss_ema"}] * 2
    assert validation[1]["val_loss"] < validation[0]["val_loss"]

    settings = json.loads((out / "train_config.json").read_text())
    assert settings["options"]["max_train_steps"] == 60
    assert {"torch", "diffusers", "accelerate"} <= set(settings["versions"])
    assert len(settings["data"]["fingerprint"]) == 64
    card = (out / "README.md").read_text()
    assert "library_name: diffusers" in card
    assert "TODO" not in card
    assert str(tmp_path) not in card
    with Image.open(out / "samples/step-000060.png") as image:
        assert np.asarray(image).std() > 10

    pipeline = DDPMPipeline.from_pretrained(out)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(batch_size=2, num_inference_steps=5, output_type="np").images.shape == (2, 8, 8, 1)


def test_two_processes_equal_two_micro_batches(tmp_path):
    done = start(command(tmp_path / "two", processes=2))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finished: step 12") == 1, "one process speaks"
    done = start(command(tmp_path / "accumulated", gradient_accumulation_steps=2))
    assert done.returncode == 0, done.stderr
    two, accumulated = weights(tmp_path / "two"), weights(tmp_path / "accumulated")
    for name, tensor in two.items():
        torch.testing.assert_close(tensor, accumulated[name], rtol=1e-3, atol=2e-5, msg=name)
    rows = [report.read_metrics(tmp_path / f / "metrics.jsonl") for f in ("two", "accumulated")]
    for a, b in zip(*rows, strict=True):
        assert (a["kind"], a["step"], a["images"]) == (b["kind"], b["step"], b["images"])
        for key in ("loss", "loss_by_decile", "grad_norm", "val_loss", "val_loss_ema"):
            if key in a:
                assert a[key] == pytest.approx(b[key], rel=1e-3), key
    grids = [np.asarray(Image.open(tmp_path / f / "samples/step-000012.png"), float) for f in ("two", "accumulated")]
    assert np.abs(grids[0] - grids[1]).max() <= 2


def test_processes_that_do_not_know_of_each_other_are_refused(tmp_path):
    done = start(command(tmp_path / "run", processes=2), ACCELERATE_USE_CPU="false", CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert "2 processes were started but do not know of each other" in done.stderr
    assert not (tmp_path / "run").exists()


LONG = {"max_train_steps": 250, "checkpointing_steps": 35, "validation_steps": 200}


def long_command(folder, processes):
    return command(folder, processes, **LONG, gradient_accumulation_steps=2 // processes)


@pytest.fixture(scope="module", params=[1, 2])
def long_run(request, tmp_path_factory):
    """Number of processes, and a run of them that was never cut off; within accumulation where there is one."""
    folder = tmp_path_factory.mktemp("long") / "run"
    done = start(long_command(folder, request.param))
    assert done.returncode == 0, done.stderr
    return request.param, folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_run_cut_off_by_a_signal_goes_on_as_if_it_had_not_been(tmp_path, long_run, number):
    processes, whole = long_run
    words = long_command(tmp_path / "cut", processes)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cut/checkpoints").glob("step-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if number == signal.SIGKILL:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.send_signal(number)
    error = process.communicate(timeout=120)[1]
    if processes == 1 and number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "the same command goes on from there" in error
    reached = state.load_latest(tmp_path / "cut/checkpoints")
    assert reached.meta["step"] < LONG["max_train_steps"], "cut too late to show anything"
    done = start(words)
    assert done.returncode == 0, done.stderr
    assert f"Resuming at step {reached.meta['step']}" in done.stderr
    assert_same_run(tmp_path / "cut", whole)


def test_a_signal_to_accelerate_launch_reaches_the_trainer(tmp_path):
    """The launcher dies of SIGTERM without a word to its child; the child notices, saves and ends."""
    words = [*LAUNCH, "train.py", "--output_dir", str(tmp_path / "run"), *flags(max_train_steps=100_000)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(report.read_metrics(tmp_path / "run/metrics.jsonl")) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (child,) = psutil.Process(process.pid).children()
    process.terminate()
    process.wait(30)
    child.wait(60)
    rows = report.read_metrics(tmp_path / "run/metrics.jsonl")
    reached = state.load_latest(tmp_path / "run/checkpoints").meta["step"]
    assert rows[-1]["step"] <= reached < rows[-1]["step"] + TINY["logging_steps"], "saved where it stood"


def test_two_processes_stop_together_on_what_is_not_finite(tmp_path):
    done = start(command(tmp_path / "run", processes=2, learning_rate=1e30, lr_warmup_steps=0))
    assert done.returncode != 0
    assert done.stderr.count("train.py: error: loss or gradient is not finite at step") == 1


def test_two_runs_in_one_folder_are_refused(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    first = trainer.train(preset("digits", output_dir=tmp_path / "run", **TINY))
    next(first)
    with pytest.raises(ValueError, match="another process is training in"):
        in_process(tmp_path / "run")
    first.close()
    assert in_process(tmp_path / "run").stopped == "finished"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"dataset_name": "./nowhere"}, 1, r"'./nowhere': no such folder"),
        (
            {"block_out_channels": (8, 16, 16, 16, 16)},
            1,
            r"resolution 8 cannot be halved 4 times: .* at most 4 entries",
        ),
        (
            {"train_batch_size": 2000},
            1,
            r"1707 training images are too few for a step of 2000: .*--train_batch_size 1707",
        ),
        ({"mixed_precision": "fp16"}, 1, r"--mixed_precision fp16 needs a GPU"),
        (
            {"learning_rate": 1e30, "lr_warmup_steps": 0},
            3,
            r"not finite at step \d+: gradient norm .* worst images t=\d+.*learning rate \S+e\+\d+; last good state: none",
        ),
    ],
)
def test_trouble_is_one_line_and_a_status(tmp_path, options, status, message):
    if options.get("mixed_precision") == "fp16" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = start(command(tmp_path / "run", **options))
    assert done.returncode == status, done.stderr
    assert re.search(f"^train.py: error: .*{message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


# --------------------------------------------------------------------------------------------------------- exact resume


@pytest.mark.parametrize("cuts", [(1,), (3,), (5, 8), (11,)])
def test_any_cut_point_gives_the_same_run(tmp_path, whole, cuts):
    for cut in cuts:
        stopped = in_process(tmp_path / "run", should_stop=lambda step, cut=cut: step >= cut)
        assert (stopped.stopped, stopped.step) == ("interrupted", cut)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert_same_run(tmp_path / "run", whole)


def test_a_larger_limit_goes_on_where_the_learning_rate_allows_it(tmp_path):
    in_process(tmp_path / "run", lr_schedule="constant", max_train_steps=7)
    in_process(tmp_path / "run", lr_schedule="constant")
    in_process(tmp_path / "whole", lr_schedule="constant")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_time_limit_ends_the_ordinary_way_and_the_same_command_goes_on(tmp_path, whole):
    options = {"max_train_minutes": 1e-9}
    for step in range(1, 4):
        last = in_process(tmp_path / "run", **options)
        assert (last.stopped, last.step) == ("time", step)
        assert (tmp_path / "run/strip.png").is_file()
    in_process(tmp_path / "run")
    assert_same_run(tmp_path / "run", whole)


def test_a_finished_run_started_again_changes_nothing(whole):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in whole.rglob("*") if p.is_file()}
    assert in_process(whole).stopped.startswith("finished before")
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in whole.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"learning_rate": 1e-3, "seed": 5}, "--seed (0, now 5), --learning_rate (0.002, now 0.001)"),
        ({"max_train_steps": 20}, "--max_train_steps (12, now 20: the cosine learning rate ends there)"),
        ({"resolution": 4}, "--resolution (None, now 4), the images of the dataset"),
    ],
)
def test_other_settings_are_refused_by_name(whole, options, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        in_process(whole, **options)


def test_output_cadence_may_change_on_resume(tmp_path, whole):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 5, validation_steps=2, checkpointing_steps=1)
    in_process(tmp_path / "run")
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(tmp_path / "run")[name])


def flip_a_bit(folder):
    data = bytearray((folder / state.TENSORS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / state.TENSORS).write_bytes(data)


def write_half(folder):
    data = (folder / state.TENSORS).read_bytes()
    (folder / state.TENSORS).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_bit, "damaged, its checksum does not fit"),
        (write_half, "damaged, its checksum does not fit"),
        (lambda folder: (folder / state.META).write_text('{"step": 8, "opt'), "not a training state"),
        (lambda folder: (folder / state.META).unlink(), "not a training state"),
        (lambda folder: folder.rename(folder.with_name(f".tmp-{folder.name}")), None),  # a crash before the rename
    ],
)
def test_damaged_and_half_written_states_are_passed_over(tmp_path, whole, caplog, damage, said):
    caplog.set_level("INFO")
    in_process(tmp_path / "run", should_stop=lambda step: step >= 8)
    newest, older = sorted((tmp_path / "run/checkpoints").glob("step-*"), reverse=True)
    assert (newest.name, older.name) == ("step-000008", "step-000006")
    damage(newest)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert not said or said in caplog.text
    assert "Resuming at step 6" in caplog.text
    assert not list((tmp_path / "run/checkpoints").glob(".tmp*"))
    assert_same_run(tmp_path / "run", whole)


def test_starting_afresh(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    in_process(tmp_path / "run", resume_from_checkpoint="none", seed=1, max_train_steps=6)
    assert [row["step"] for row in report.read_metrics(tmp_path / "run/metrics.jsonl")] == [5, 6, 6]
    assert [p.name for p in (tmp_path / "run/samples").iterdir()] == ["step-000006.png"]
    assert state.load_latest(tmp_path / "run/checkpoints").meta["step"] == 6


def test_a_full_disk_costs_the_save_not_the_run(tmp_path, monkeypatch, caplog, whole):
    real, calls = state._write, []

    def full(path, data):
        calls.append(path)
        if len(calls) in (3, 4):  # the second save
            path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(state, "_write", full)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert "Step 6 could not be saved ([Errno 28] No space left on device)" in caplog.text
    assert not list((tmp_path / "run/checkpoints").glob(".tmp*"))
    assert_same_run(tmp_path / "run", whole)


# -------------------------------------------------------------------------------------------------------- what is saved


def test_the_checkpoint_is_the_averaged_weights_bit_for_bit(whole):
    saved = state.load_latest(whole / "checkpoints")
    averaged = {k.removeprefix("module."): v for k, v in saved.part("ema").items() if k.startswith("module.")}
    pipeline = DDPMPipeline.from_pretrained(whole)
    loaded = pipeline.unet.state_dict()
    assert loaded.keys() == averaged.keys()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, averaged[name]), name
    assert any(not torch.equal(v, averaged[k]) for k, v in saved.part("unet").items())
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
    ours = checkpoint.load(whole)
    for name, tensor in ours.unet.state_dict().items():
        assert torch.equal(tensor, loaded[name])


def test_without_ema_the_raw_weights_are_used(tmp_path):
    in_process(tmp_path / "run", ema_half_life_images=0, max_train_steps=6)
    raw = state.load_latest(tmp_path / "run/checkpoints").part("unet")
    for name, tensor in weights(tmp_path / "run").items():
        assert torch.equal(tensor, raw[name])
    row = report.read_metrics(tmp_path / "run/metrics.jsonl")[-1]
    assert row["val_loss"] == row["val_loss_ema"]


def test_ema_forgets_half_within_its_half_life():
    from ddpm.ema import make_ema

    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    ema = make_ema(net, half_life_images=100, ramp_up=0, global_batch=10, device="cpu")
    ema.update_parameters(net)
    torch.nn.init.ones_(net.weight)
    for _ in range(10):
        ema.update_parameters(net)
    assert ema.module.weight.item() == pytest.approx(0.5, abs=1e-5)

    ramped = make_ema(net, half_life_images=10**9, ramp_up=0.1, global_batch=10, device="cpu")
    for i in range(200):
        torch.nn.init.constant_(net.weight, float(i >= 100))
        ramped.update_parameters(net)
    # After n steps half is forgotten within n / 10: (100/200)^(ln 2 / 0.1) of the old value is left.
    assert ramped.module.weight.item() == pytest.approx(1 - 0.5**6.93, abs=0.002)


def test_compiled_weights_keep_their_names(tmp_path, monkeypatch):
    """torch.compile wraps the network; what is saved must not show it. (Without a C++ compiler: the eager backend.)"""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: real(module, backend="eager"))
    in_process(tmp_path / "run", compile=True, max_train_steps=3)
    assert not [name for name in weights(tmp_path / "run") if "_orig_mod" in name]
    assert DDPMPipeline.from_pretrained(tmp_path / "run").unet.config.sample_size == 8


def test_a_network_in_a_gpus_memory_format_resumes_to_the_bit(tmp_path, monkeypatch):
    """What a GPU trains with: channels last, and images that are tensors of the device already."""
    monkeypatch.setattr(trainer, "memory_format", lambda device: torch.channels_last)
    monkeypatch.setattr(trainer.data, "resident", lambda pixels, device: torch.from_numpy(np.array(pixels)))
    options = {"max_train_steps": 6, "checkpointing_steps": 3, "lr_schedule": "constant"}
    in_process(tmp_path / "whole", **options)
    in_process(tmp_path / "parts", **options | {"max_train_steps": 3})
    in_process(tmp_path / "parts", **options)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    monkeypatch.undo()
    in_process(tmp_path / "plain", **options)
    for name, tensor in weights(tmp_path / "plain").items():
        assert torch.allclose(tensor, whole[name], atol=1e-4), name


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_other_predictions_train_through_the_same_loop(tmp_path, prediction_type):
    in_process(
        tmp_path / "run",
        prediction_type=prediction_type,
        max_train_steps=40,
        learning_rate=4e-3,
        lr_schedule="constant",
    )
    losses = [row["loss"] for row in report.read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    assert checkpoint.load(tmp_path / "run").scheduler.config.prediction_type == prediction_type


def test_the_weights_of_the_bound_weigh_the_loss(tmp_path, monkeypatch):
    """The first objective is known: the network predicts 0, so image i has the loss w_t |eps|^2, w_t 1 on average."""
    objectives = []
    real = trainer.make_accelerator

    def spied(config):
        accelerator = real(config)
        backward = accelerator.backward
        accelerator.backward = lambda loss: (objectives.append(loss.item()), backward(loss))
        return accelerator

    monkeypatch.setattr(trainer, "make_accelerator", spied)
    in_process(tmp_path / "kl", loss_weighting="kl", max_train_steps=3)
    in_process(tmp_path / "simple", max_train_steps=3)
    beta = torch.linspace(1e-4, 0.02, 40, dtype=torch.float64) * 25
    ab = torch.cumprod(1 - beta, 0)
    ab_prev = torch.cat([torch.ones(1), ab[:-1]])
    variance = beta * (1 - ab_prev) / (1 - ab)
    variance[0] = variance[1]
    weight = beta**2 / (2 * variance * (1 - beta) * (1 - ab))
    t = draws.timesteps(0, 0, 16, 40)
    squares = draws.noise(0, 0, 0, (16, 1, 8, 8)).square().mean(dim=(1, 2, 3))
    assert objectives[0] == pytest.approx(((weight / weight.mean())[t] * squares).mean().item(), rel=1e-4)
    assert objectives[3] == pytest.approx(squares.mean().item(), rel=1e-5)
    rows = [report.read_metrics(tmp_path / f / "metrics.jsonl")[0] for f in ("kl", "simple")]
    assert rows[0]["loss"] != rows[1]["loss"]
    assert rows[0]["loss"] == pytest.approx(1, abs=0.2), "what is reported is the epsilon-MSE, not what is weighted"


def test_another_architecture_trains_through_the_same_loop(tmp_path):
    from tests.benchmarks.why_noise import TwoConvolutions

    AcceleratorState._reset_state(reset_partial_state=True)
    config = preset("digits", output_dir=tmp_path / "run", **(TINY | {"max_train_steps": 60, "learning_rate": 1e-2}))
    for _ in trainer.train(config, build=lambda resolution, channels, **_: TwoConvolutions(resolution, channels)):
        pass
    network = TwoConvolutions.from_pretrained(tmp_path / "run/unet")
    assert sum(p.numel() for p in network.parameters()) == 1217
    rows = [row for row in report.read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    with pytest.raises(ValueError, match="only a unet and a scheduler of diffusers are read"):
        checkpoint.load(tmp_path / "run")


def test_bf16_noises_in_float32(tmp_path, monkeypatch):
    """In bf16, alpha_bar rounds to 1 at small t: x_t would equal x_0 there. The network must see float32 x_t instead."""
    seen = []
    real = trainer.DDPMScheduler.add_noise

    def spy(self, x0, eps, t):
        xt = real(self, x0, eps, t)
        assert x0.dtype == eps.dtype == xt.dtype == torch.float32
        assert (xt != x0).flatten(1).any(1).all()
        seen.extend(t.tolist())
        return xt

    monkeypatch.setattr(trainer.DDPMScheduler, "add_noise", spy)
    in_process(tmp_path / "run", mixed_precision="bf16", num_train_timesteps=1000, num_validation_images=200)
    assert min(seen) < 10, "the timesteps that bf16 would spoil were met"
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "run").values())


def skip(monkeypatch, steps):
    """As if the fp16 scaler had found an overflow at these optimizer steps (0-based); a GPU has one, a CPU has not."""
    count = iter(range(10**6))
    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", property(lambda self: next(count) in steps))


def test_steps_that_the_scaler_skips_advance_neither_average_nor_learning_rate(tmp_path, monkeypatch):
    skip(monkeypatch, {2, 3, 7})
    in_process(tmp_path / "run", logging_steps=1)
    saved = state.load_latest(tmp_path / "run/checkpoints")
    assert saved.meta["skipped"] == 3
    assert int(saved.part("ema")["n_averaged"]) == 12 - 3
    rows = [row for row in report.read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    config = preset("digits", **TINY)
    taken = [0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8]  # optimizer steps before this one, or after it where it was skipped
    assert [row["lr"] for row in rows] == pytest.approx([trainer.learning_rate(config, n) for n in taken], rel=1e-4)
    assert [row["loss"] is None for row in rows] == [step in (2, 3, 7) for step in range(12)]


def test_only_a_long_row_of_skipped_steps_stops_the_run(tmp_path, monkeypatch):
    steps = {"max_train_steps": 120, "validation_steps": 1000, "checkpointing_steps": 1000}
    skip(monkeypatch, set(range(10, 59)))
    assert in_process(tmp_path / "short", **steps).stopped == "finished"
    skip(monkeypatch, set(range(10, 60)))
    with pytest.raises(report.NonFiniteError, match="50 steps in a row overflowed in fp16, up to step 60"):
        in_process(tmp_path / "long", **steps)


# ------------------------------------------------------------------------------------------------------- learning rate


def test_learning_rate_is_a_function_of_the_optimizer_step(tmp_path):
    config = preset("digits", learning_rate=1.0, lr_warmup_steps=4, max_train_steps=12)
    values = [trainer.learning_rate(config, step) for step in range(12)]
    assert values[:4] == [0.25, 0.5, 0.75, 1.0]
    assert values[4] == 1.0
    assert values[8] == pytest.approx(0.5)
    assert values[11] < 0.05
    assert values[4:] == sorted(values[4:], reverse=True)
    constant = dataclasses.replace(config, lr_schedule="constant")
    assert [trainer.learning_rate(constant, step) for step in (3, 4, 11, 10**6)] == [1.0] * 4


@pytest.mark.parametrize(
    ("processes", "accumulation", "batch"), [(1, 1, 24), (1, 2, 12), (1, 3, 8), (2, 1, 12), (2, 2, 6), (2, 3, 8)]
)
def test_processes_accumulation_and_batch_mean_what_the_flags_say(tmp_path, processes, accumulation, batch):
    """The recipe of diffusers' example steps its schedule once per process and micro-batch; here the rates are those
    of the optimizer step, and a step takes processes x accumulation x batch images."""
    shape = {"gradient_accumulation_steps": accumulation, "train_batch_size": batch}
    options = {"logging_steps": 1, "learning_rate": 1e-3, "max_train_steps": 8} | shape
    done = start(command(tmp_path / "run", processes, **options))
    assert done.returncode == 0, done.stderr
    rows = [row for row in report.read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert [row["images"] for row in rows] == [processes * accumulation * batch * step for step in range(1, 9)]
    # 4 steps of warm-up to 1e-3, then half a cosine over the other 4
    expected = [0.25e-3, 0.5e-3, 0.75e-3, 1e-3] + [0.5e-3 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert [row["lr"] for row in rows] == pytest.approx(expected, rel=1e-5)


def test_linear_betas_reach_noise_for_any_number_of_timesteps():
    for timesteps in (24, 100, 1000, 4000):
        scheduler = trainer.make_scheduler(preset("digits", num_train_timesteps=timesteps))
        assert scheduler.alphas_cumprod[-1] < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train_timesteps": 200, "beta_schedule": "linear"}, None),
        (
            {"learning_rate": 0.1, "max_train_steps": 1},
            r"--learning_rate 0.1 is far from 0.001, the preset's for 16 images",
        ),
        (
            {"learning_rate": 1e-9, "max_train_steps": 205, "lr_schedule": "constant"},
            r"The loss is 1\.0\d after warm-up",
        ),
    ],
)
def test_dubious_settings_are_said_once(tmp_path, caplog, options, message):
    in_process(tmp_path / "run", **{"validation_steps": 1000, "checkpointing_steps": 1000} | options)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if message is None:
        assert not warnings
    else:
        assert len([w for w in warnings if re.search(message, w)]) == 1


def test_a_run_whose_states_are_all_damaged_is_not_thrown_away(tmp_path):
    in_process(tmp_path / "run", max_train_steps=3)
    for path in (tmp_path / "run/checkpoints").glob("*/state.safetensors"):
        path.write_bytes(b"")
    before = weights(tmp_path / "run")
    with pytest.raises(ValueError, match="every training state is damaged; --resume_from_checkpoint none"):
        in_process(tmp_path / "run", max_train_steps=3)
    assert all(torch.equal(v, before[k]) for k, v in weights(tmp_path / "run").items())


def test_a_named_state_goes_on_from_there(tmp_path, whole):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 8, checkpoints_total_limit=9)
    in_process(tmp_path / "run", resume_from_checkpoint=str(tmp_path / "run/checkpoints/step-000003"))
    assert_same_run(tmp_path / "run", whole)


def test_rows_stay_when_the_cadence_changes(tmp_path):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 5, logging_steps=2)
    in_process(tmp_path / "run", logging_steps=3, should_stop=lambda step: step >= 10)
    in_process(tmp_path / "run", logging_steps=4)
    steps = [row["step"] for row in report.read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert steps == [2, 4, 6, 9, 12]


def test_a_signal_in_the_last_step_does_not_cost_the_end(tmp_path, whole):
    assert in_process(tmp_path / "run", should_stop=lambda step: step >= 12).stopped == "finished"
    assert_same_run(tmp_path / "run", whole)


def test_a_folder_of_other_things_is_not_taken_over(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(README.md\)"):
        in_process(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_a_disk_that_fills_while_the_model_is_exported_costs_that_export(tmp_path, monkeypatch, caplog, whole):
    from safetensors import SafetensorError

    real, calls = checkpoint.DDPMPipeline.save_pretrained, []

    def full(self, folder, **options):
        calls.append(folder)
        if len(calls) == 2:
            raise SafetensorError("I/O error: No space left on device")
        return real(self, folder, **options)

    monkeypatch.setattr(checkpoint.DDPMPipeline, "save_pretrained", full)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert "No space left on device" in caplog.text
    assert_same_run(tmp_path / "run", whole)


def from_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "run/logs/ddpm"))
    events.Reload()
    numbers = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            numbers.setdefault(event.step, {})[name] = event.value
    return numbers, {event.step: event.width for event in events.Images("samples")}


def from_trackio(folder):
    numbers, pictures = {}, {}
    with contextlib.closing(sqlite3.connect(folder / "trackio/ddpm.db")) as database:
        for step, text in database.execute("select step, metrics from metrics"):
            numbers.setdefault(step, {}).update(json.loads(text))
    for path in (folder / "trackio/media").rglob("*.png"):
        pictures[int(path.parent.name)] = Image.open(path).width
    return numbers, pictures


@pytest.mark.parametrize(("tracker", "read"), [("tensorboard", from_tensorboard), ("trackio", from_trackio)])
def test_real_trackers_get_the_numbers_and_the_pictures(tmp_path, tracker, read):
    done = start(command(tmp_path / "run", report_to=tracker), TRACKIO_DIR=str(tmp_path / "trackio"))
    assert done.returncode == 0, done.stderr
    numbers, pictures = read(tmp_path)
    for row in report.read_metrics(tmp_path / "run/metrics.jsonl"):
        for key in ("loss", "val_loss", "val_loss_ema", "lr"):
            if key in row:
                assert numbers[row["step"]][f"{row['kind']}/{key}"] == pytest.approx(row[key], rel=1e-5)
    width = Image.open(tmp_path / "run/samples/step-000012.png").width
    assert pictures == {6: width, 12: width}


def test_wandb_gets_the_numbers_and_the_pictures(tmp_path, monkeypatch):
    """Through Accelerate's own interface, with a tracker that remembers: W&B itself needs its service."""
    seen = {"numbers": {}, "pictures": {}}

    class Tracker:
        name = "wandb"

        def log(self, values, step, **kwargs):
            seen["numbers"].setdefault(step, {}).update(values)

        def log_images(self, values, step, **kwargs):
            seen["pictures"][step] = values["samples"].shape

        def finish(self):
            pass

    real = trainer.make_accelerator

    def with_tracker(config):
        accelerator = real(config)
        accelerator.trackers = [Tracker()]
        return accelerator

    monkeypatch.setattr(trainer, "make_accelerator", with_tracker)
    in_process(tmp_path / "run")
    rows = report.read_metrics(tmp_path / "run/metrics.jsonl")
    for row in rows:
        for key in ("loss", "val_loss", "val_loss_ema", "lr"):
            if key in row:
                assert seen["numbers"][row["step"]][f"{row['kind']}/{key}"] == pytest.approx(row[key], rel=1e-5)
    assert seen["pictures"].keys() == {6, 12}
    assert next(iter(seen["pictures"].values()))[-1] == 3
