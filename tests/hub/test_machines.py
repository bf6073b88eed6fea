"""Two machines with a process each, as `accelerate launch --num_machines 2` starts them, on loopback: they train, save,
resume and push as one machine with two processes does."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress

import pytest
from hub_tools import TOKEN, commits, sent, up
from launch import ROOT, launch
from PIL import Image
from tiny import ACCELERATE, assert_same_run, command

# A constant learning rate lets a training go on beyond its end.
OPTIONS = {"lr_schedule": "constant"}


def two_machines(commands, env, multi=("--multi_gpu",)):
    """Status and output of each. Without GPUs it is --multi_gpu that makes accelerate start processes in groups."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = [*ACCELERATE, *multi, "--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1"]
    words += ["--main_process_port", port, "--machine_rank"]
    options = {"cwd": ROOT, "env": env, "stderr": subprocess.STDOUT, "start_new_session": True}
    logs = [tempfile.TemporaryFile("w+") for _ in commands]  # noqa: SIM115 - closed below
    started = [
        subprocess.Popen([*words, str(rank), *command], stdout=log, **options)
        for rank, (command, log) in enumerate(zip(commands, logs, strict=True))
    ]
    end = time.monotonic() + 120
    try:
        for process in started:
            process.wait(max(0, end - time.monotonic()))
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the launcher and what it started
    answers = []
    for process, log in zip(started, logs, strict=True):
        log.seek(0)
        answers.append((process.returncode, log.read()))
        log.close()
    return answers


@pytest.mark.slow
def test_two_machines_train_save_resume_and_push_like_one_with_two_processes(lfs, hub, tmp_path):
    # Nothing is saved before the end, so no milestone is pushed, however much time a slow machine has for one.
    push = {"push_to_hub": True, "hub_model_id": "two-machines", "validation_steps": 12, "checkpointing_steps": 12}
    for steps, more in ((6, {}), (12, push)):
        # Each machine has a disk of its own. Only the first one's folder counts, and nothing is written elsewhere.
        folders = [tmp_path / name for name in ("first", "second")]
        commands = [command(folder, max_train_steps=steps, **OPTIONS, **more) for folder in folders]
        (status, said), (other_status, other_said) = two_machines(commands, lfs.env)
        assert (status, other_status) == (0, 0), said + other_said
        assert "finished: step" not in other_said, "one process speaks"
        assert not folders[1].exists()
        assert ("Resuming at step 6 of 12" in said) == (steps == 12)
    name = "alice/two-machines"
    assert f"Pushed to the Hub, downloaded again and compared: {hub.endpoint}/{name}/tree/" in said
    assert TOKEN not in said + other_said
    assert commits(hub, name) == 1
    assert up(hub, name) == sent(tmp_path / "first")
    for steps in (6, 12):
        done = launch(*command(tmp_path / "one", max_train_steps=steps, **OPTIONS), processes=2)
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "first", tmp_path / "one")


@pytest.mark.slow
def test_machines_that_are_started_differently_or_without_each_other_are_refused(lfs, tmp_path):
    """Each in one line, before a network that differs or an image that is missing ends in a traceback."""
    pictures = [tmp_path / name for name in ("some", "others", "none")]
    for value, folder in enumerate(pictures):
        folder.mkdir()
        for number in range(40):
            if folder.name != "none":
                Image.new("L", (8, 8), 3 * number + value).save(folder / f"{number}.png")
    for options, said in (
        ([{"layers_per_block": 1}, {"layers_per_block": 2}], "differ in --layers_per_block (1, elsewhere 2)"),
        ([{"dataset_name": folder} for folder in pictures[:2]], "differ in the images of the dataset"),
        ([{"dataset_name": folder} for folder in pictures[::2]], "in another process: "),
    ):
        commands = [command(tmp_path / f"{rank}", **each) for rank, each in enumerate(options)]
        (status, first), (other_status, other) = two_machines(commands, lfs.env)
        assert (status, other_status) == (1, 1), first + other
        assert f"train.py: error: {said}" in first or f"started alike, and they {said}" in first, first
    for status, output in two_machines([command(tmp_path / "0")] * 2, lfs.env, multi=()):
        assert status == 1
        assert "train.py: error: accelerate launch was to start several processes, and has started one alone" in output
    assert not list(tmp_path.glob("[01]"))
