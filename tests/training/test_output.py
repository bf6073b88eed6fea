"""Output that nobody reads costs the output, not the training; and every signal that asks for an end saves first."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from launch import ROOT, launch
from tiny import ACCELERATE, command

from ddpm.checkpoint import EMBEDDED
from ddpm.metrics import read_metrics
from ddpm.training import state

ODD = "tests/training/odd_output.py"


def reached(folder):
    return state.load_latest(folder / "checkpoints").meta["step"]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["pipe", "terminal", "full", "closed"])
def test_output_that_nobody_reads_does_not_end_a_training(tmp_path, output):
    done = launch(ODD, output, "none", *command(tmp_path / "run", logging_steps=1))
    assert done.returncode == 0, done.stderr
    assert reached(tmp_path / "run") == 12
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 14
    for path in (tmp_path / "run").rglob("*.json*"):
        assert b"steps/s" not in path.read_bytes(), "what was printed went into a file"


@pytest.mark.long
def test_a_real_pipe_whose_reader_leaves(tmp_path):
    """With the end of the interpreter, which flushes its output once more."""
    words = [sys.executable, *command(tmp_path / "run", max_train_steps=3)]
    read, write = os.pipe()
    process = subprocess.Popen(
        words, cwd=ROOT, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, stdout=write, stderr=write
    )
    os.close(write)
    with open(read, "rb") as pipe:
        pipe.read(1)
    assert process.wait(200) == 0
    assert reached(tmp_path / "run") == 3


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ("SIGHUP", 129),
        ("SIGUSR1", 138),
        ("SIGHUP,SIGHUP,SIGTERM", 129),  # a closed terminal and its shell, then a service manager
        ("SIGINT,SIGTERM", 130),  # Ctrl-C, and then a service manager
        ("SIGINT,SIGINT", 130),  # somebody impatient, who means no less than the state
        ("ignore-SIGHUP", 0),  # nohup
    ],
)
def test_every_signal_that_asks_for_an_end_saves_first(tmp_path, signals, status):
    steps = {"max_train_steps": 40 if status == 0 else 10**6, "lr_schedule": "constant", "checkpointing_steps": 10**6}
    done = launch(ODD, "whole", signals, *command(tmp_path / "run", **steps, validation_steps=20))
    assert done.returncode == status, done.stderr
    last, step = done.stderr.strip().splitlines()[-1], reached(tmp_path / "run")
    if status == 0:
        assert last.startswith(f"finished: step 40, in {tmp_path / 'run'}. To draw pictures: python -m ddpm.sample ")
    else:
        assert last == f"Stopped at step {step}, state saved; the same command continues from there"


def test_ctrl_c_again_within_a_second_is_no_second_wish(tmp_path):
    """Though Python hears of it later."""
    done = launch("tests/training/long_step.py", 0.3, 2, *command(tmp_path / "run"))
    assert (done.returncode, done.stdout) == (130, "asked to stop\n"), done.stderr
    assert (
        done.stderr.count("Stopping after this step, with the state saved. After a second, Ctrl-C again ends at once")
        == 1
    )
    assert done.stderr.splitlines()[-1].startswith("Stopped at step 2, state saved")


@pytest.mark.parametrize(
    ("there", "resume", "said"),
    [
        ("state", "latest", "state is that of step 900, from which the same command continues"),
        (
            "state",
            "none",
            "state is that of step 900; with --resume_from_checkpoint latest, the command continues from",
        ),
        ("model", "latest", "There is no training state: --resume_from_checkpoint none starts again and replaces the "),
        ("", "latest", "There is no training state: the same command starts again"),
    ],
)
def test_a_second_ctrl_c_ends_at_once_and_says_what_there_is_to_go_on_from(tmp_path, there, resume, said):
    if there == "state":
        (tmp_path / "run/checkpoints/step-000900").mkdir(parents=True)
    if there == "model":
        shutil.copytree(EMBEDDED, tmp_path / "run")
    words = command(tmp_path / "run", resume_from_checkpoint=resume)
    done = launch("tests/training/long_step.py", 1.5, 0, *words)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Ended at once: a second Ctrl-C. ")
    assert said in last


def test_ctrl_c_before_the_first_step_says_that_nothing_is_saved(tmp_path):
    moment = "ddpm.training.batches:prepared:1:1"
    done = launch("tests/training/killed.py", "SIGINT", moment, *command(tmp_path / "run"))
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "Ended at once: Ctrl-C before the first step of this process. There is no training state: the same command "
        "starts again"
    )


@pytest.mark.long
@pytest.mark.parametrize("moment", ["ddpm.output:keep_going:1:1000", "torch:<module>:1:20000"])
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("train.py", ["--output_dir"]),
        ("ddpm/sample/__main__.py", ["mnist", "--output"]),
        ("ddpm/evaluate/__main__.py", ["--output"]),
        ("app.py", None),
    ],
)
def test_ctrl_c_while_libraries_are_imported_needs_no_traceback(tmp_path, program, words, moment):
    if program == "app.py":
        moment = moment.replace("torch", "gradio")
    done = subprocess.run(
        [sys.executable, "tests/training/killed.py", "SIGINT", moment, program]
        + ([*words, tmp_path / "out.json"] if words else []),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not (tmp_path / "out.json").exists()


def test_a_signal_while_a_state_is_saved_waits_for_it(tmp_path):
    moment = "ddpm.training.state:save:1:40"
    done = launch("tests/training/killed.py", "SIGTERM", moment, *command(tmp_path / "run"), timeout=250)
    assert done.returncode == 143, done.stderr
    assert "Stopped at step 4, state saved" in done.stderr, "at the first step that ends after the signal"
    assert [path.name for path in state.folders(tmp_path / "run/checkpoints")] == ["step-000003", "step-000004"]


@pytest.mark.long
@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_under_accelerate_launch(tmp_path, nohup):
    """The kernel hangs up the launcher and the training, and whatever they print fails from then on."""
    master, slave = os.openpty()
    steps = {"max_train_steps": 60 if nohup else 10**6, "lr_schedule": "constant", "checkpointing_steps": 10**6}
    words = [*ACCELERATE, *command(tmp_path / "run", **steps, logging_steps=1)]

    def in_terminal():
        os.setsid()
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = subprocess.Popen(words, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, preexec_fn=in_terminal)
    os.close(slave)
    children = []
    try:
        deadline = time.monotonic() + 200
        while not read_metrics(tmp_path / "run/metrics.jsonl"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError):
                os.set_blocking(master, False)
                os.read(master, 65536)
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        os.close(master)
        psutil.wait_procs(children, 200)
        assert process.wait(60) == (0 if nohup else -signal.SIGHUP)
    finally:
        for left in [*children, process]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                left.kill()
    rows = [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert reached(tmp_path / "run") == rows[-1]
    assert rows[-1] == 60 or not nohup
