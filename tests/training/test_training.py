"""Training as users start it: launchers, processes, signals, trackers, and what goes wrong."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDPMPipeline
from launch import ROOT, launch
from PIL import Image
from tiny import ACCELERATE, TINY, TORCHRUN, assert_same_run, command, in_process, weights

import train as trainer
from ddpm.config import preset
from ddpm.metrics import read_metrics
from ddpm.training import state


def kill(process):
    """With all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()


def start(words):
    """The real thing."""
    env = os.environ | {"ACCELERATE_USE_CPU": "true"}
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)


def test_accelerate_launch_trains_and_leaves_what_the_contract_lists(tmp_path):
    out = tmp_path / "run"
    options = {"max_train_steps": 60, "train_batch_size": 32, "learning_rate": 4e-3, "validation_steps": 30}
    done = start([*ACCELERATE, *command(out, plots=True, num_train_timesteps=100, **options)])
    assert done.returncode == 0, done.stderr
    assert re.search(r"60/60 .*(steps/s|s/ ?steps), loss 0\.\d+, \d+ images/s", done.stderr), (
        "progress bar with loss and images/s"
    )
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

    rows = read_metrics(out / "metrics.jsonl")
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(5, 65, 5))
    assert set(train[0]) == {
        "kind", "step", "images", "epoch", "loss", "loss_by_decile", "lr", "grad_norm", "images_per_second",
    }  # fmt: skip
    assert train[-1]["images"] == 60 * 32
    assert len(train[0]["loss_by_decile"]) == 10
    assert train[0]["loss"] == pytest.approx(1, abs=0.15), "a zero-initialised head predicts 0, so the loss starts at 1"
    assert train[-1]["loss"] < 0.6 * train[0]["loss"]
    validation = [row for row in rows if row["kind"] == "validation"]
    keys = {"kind", "step", "images", "epoch", "val_loss", "val_loss_ema", "train_loss_ema", "loss_gap_se"}
    assert [set(row) for row in validation] == [keys] * 2
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


@pytest.mark.long
def test_two_processes_equal_two_micro_batches(tmp_path):
    done = start([*TORCHRUN, *command(tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finished: step 12") == 1, "one process speaks"
    done = launch(*command(tmp_path / "accumulated", gradient_accumulation_steps=2))
    assert done.returncode == 0, done.stderr
    two, accumulated = weights(tmp_path / "two"), weights(tmp_path / "accumulated")
    for name, tensor in two.items():
        torch.testing.assert_close(tensor, accumulated[name], rtol=1e-3, atol=2e-5, msg=name)
    rows = [read_metrics(tmp_path / f / "metrics.jsonl") for f in ("two", "accumulated")]
    for a, b in zip(*rows, strict=True):
        assert (a["kind"], a["step"], a["images"]) == (b["kind"], b["step"], b["images"])
        for key in ("loss", "loss_by_decile", "grad_norm", "val_loss", "val_loss_ema"):
            if key in a:
                assert a[key] == pytest.approx(b[key], rel=1e-3), key
    grids = [np.asarray(Image.open(tmp_path / f / "samples/step-000012.png"), float) for f in ("two", "accumulated")]
    assert np.abs(grids[0] - grids[1]).max() <= 2


def test_processes_that_do_not_know_of_each_other_are_refused(tmp_path):
    done = launch(*command(tmp_path / "run"), processes=2, ACCELERATE_USE_CPU="false", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert "2 processes were started but do not know of each other" in done.stderr
    assert not (tmp_path / "run").exists()


def test_one_process_alone_of_several_that_the_launcher_was_to_start_is_refused(tmp_path, monkeypatch):
    launchers = {"ACCELERATE_DYNAMO_BACKEND": "NO", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    done = launch(*command(tmp_path / "run"), **launchers)
    assert done.returncode == 1
    assert "has started one alone: without GPUs --multi_gpu and ACCELERATE_USE_CPU=true is needed" in done.stderr
    assert not (tmp_path / "run").exists()
    for name, value in launchers.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(psutil.Process, "environ", lambda process: launchers)  # a cluster set them for everybody
    in_process(tmp_path / "run", max_train_steps=1)


# The signal comes before the end, however slow this machine: a constant learning rate allows a nearer one afterwards.
ENDLESS = {"max_train_steps": 10**6, "max_train_minutes": 4, "lr_schedule": "constant"}
ENDLESS |= {"checkpointing_steps": 10, "validation_steps": 15}


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    """Runs of so many processes and steps that were never cut off."""
    folders = {}

    def get(processes, options):
        key = processes, options["max_train_steps"]
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("uncut") / "run"
            done = launch(*command(folders[key], **options), processes=processes)
            assert done.returncode == 0, done.stderr
        return folders[key]

    return get


@pytest.mark.long
@pytest.mark.parametrize(
    ("processes", "number"),
    [(1, signal.SIGTERM), (1, signal.SIGINT), (1, signal.SIGKILL), (2, signal.SIGTERM), (2, signal.SIGKILL)],
)
def test_a_run_cut_off_by_a_signal_goes_on_as_if_it_had_not_been(tmp_path, uncut, processes, number):
    options = ENDLESS | {"gradient_accumulation_steps": 2 // processes}  # cut between micro-batches, where there are
    head = [sys.executable] if processes == 1 else TORCHRUN
    env = os.environ | {"ACCELERATE_USE_CPU": "true"}
    words = [*head, *command(tmp_path / "cut", **options)]
    process = subprocess.Popen(words, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "cut/checkpoints").glob("step-*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if number == signal.SIGKILL:
            kill(process)
        process.send_signal(number)
        error = process.communicate(timeout=120)[1]
    finally:
        kill(process)
    if processes == 1 and number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "the same command continues from there" in error
    reached = state.load_latest(tmp_path / "cut/checkpoints").meta["step"]
    options["max_train_steps"] = (reached // 50 + 1) * 50  # mostly 50, so that one run serves all cases
    done = launch(*command(tmp_path / "cut", **options), processes=processes)
    assert done.returncode == 0, done.stderr
    assert f"Resuming at step {reached}" in done.stderr
    assert_same_run(tmp_path / "cut", uncut(processes, options))


@pytest.mark.long
def test_a_signal_to_accelerate_launch_reaches_the_trainer(tmp_path):
    """The launcher dies of SIGTERM without a word to its child; the child notices, saves and ends."""
    words = [*ACCELERATE, *command(tmp_path / "run", **ENDLESS)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(read_metrics(tmp_path / "run/metrics.jsonl")) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (child,) = psutil.Process(process.pid).children()
        process.terminate()
        process.wait(60)
        child.wait(60)
    finally:
        kill(process)
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    reached = state.load_latest(tmp_path / "run/checkpoints").meta["step"]
    assert rows[-1]["step"] <= reached < rows[-1]["step"] + TINY["logging_steps"], "saved where it stood"


@pytest.mark.slow
def test_two_processes_stop_together_on_what_is_not_finite(tmp_path):
    done = launch(*command(tmp_path / "run", learning_rate=1e30, lr_warmup_steps=0), processes=2)
    assert done.returncode == 3
    assert done.stderr.count("train.py: error: loss or gradient is not finite at step") == 1


def test_two_runs_in_one_folder_are_refused(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    first = trainer.train(preset("digits", output_dir=tmp_path / "run", **TINY))
    next(first)
    with pytest.raises(ValueError, match="another process is training in"):
        in_process(tmp_path / "run")
    first.close()
    assert in_process(tmp_path / "run").stopped == "finished"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"dataset_name": "./nowhere"}, 1, r"'./nowhere': no such folder"),
        (
            {"block_out_channels": (8, 16, 16, 16, 16)},
            1,
            r"resolution 8 cannot be halved 4 times: .* at most 4 widths",
        ),
        (
            {"train_batch_size": 2000},
            1,
            r"1707 training images are too few for a step of 2000: .*--train_batch_size 1707",
        ),
        (
            {"train_batch_size": 64, "gradient_accumulation_steps": 40},
            1,
            r"1707 training images are too few for a step of 2560 \(64 images x 40 micro-batches\): "
            r"pass --gradient_accumulation_steps 26 or less$",
        ),
        ({"train_batch_size": 1, "gradient_accumulation_steps": 1708}, 1, r"pass --gradient_accumulation_steps 1707"),
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
    done = launch(*command(tmp_path / "run", **options))
    assert done.returncode == status, done.stderr
    assert re.search(f"^train.py: error: .*{message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


# ----------------------------------------------------------------------------------------------------------- trackers


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


@pytest.mark.slow
@pytest.mark.parametrize(("tracker", "read"), [("tensorboard", from_tensorboard), ("trackio", from_trackio)])
def test_real_trackers_get_the_numbers_and_the_pictures(tmp_path, tracker, read):
    done = launch(*command(tmp_path / "run", report_to=tracker), TRACKIO_DIR=str(tmp_path / "trackio"))
    assert done.returncode == 0, done.stderr
    numbers, pictures = read(tmp_path)
    for row in read_metrics(tmp_path / "run/metrics.jsonl"):
        for key in ("loss", "val_loss", "val_loss_ema", "lr"):
            if key in row:
                assert numbers[row["step"]][f"{row['kind']}/{key}"] == pytest.approx(row[key], rel=1e-5)
    width = Image.open(tmp_path / "run/samples/step-000012.png").width
    assert pictures == {6: width, 12: width}


@pytest.mark.slow
def test_wandb_gets_the_numbers_and_the_pictures(tmp_path):
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

    in_process(tmp_path / "run", prepare=lambda accelerator: accelerator.trackers.append(Tracker()))
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    for row in rows:
        for key in ("loss", "val_loss", "val_loss_ema", "lr"):
            if key in row:
                assert seen["numbers"][row["step"]][f"{row['kind']}/{key}"] == pytest.approx(row[key], rel=1e-5)
    assert seen["pictures"].keys() == {6, 12}
    assert next(iter(seen["pictures"].values()))[-1] == 3
