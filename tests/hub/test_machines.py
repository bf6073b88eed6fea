"""Two machines with a process each, as `accelerate launch --num_machines 2` starts them, on loopback: they train, save,
resume and push as one machine with two processes does."""

import re
import socket
import subprocess

import pytest
from hub_tools import TOKEN, commits, sent, up
from launch import ROOT, launch
from tiny import ACCELERATE, assert_same_run, command

# A constant learning rate lets a training go on beyond its end.
OPTIONS = {"lr_schedule": "constant"}


def two_machines(commands, env, multi=("--multi_gpu",)):
    """Their status and output. Without GPUs it is --multi_gpu that makes accelerate start processes in groups."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = [*ACCELERATE, *multi, "--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [
        subprocess.Popen(
            [*words, "--main_process_port", port, "--machine_rank", str(rank), *command], cwd=ROOT, env=env, **pipes
        )
        for rank, command in enumerate(commands)
    ]
    try:
        return [(process.communicate(timeout=200)[0], process.returncode)[::-1] for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.mark.slow
def test_two_machines_train_save_resume_and_push_like_one_with_two_processes(lfs, hub, tmp_path):
    push = {"push_to_hub": True, "hub_model_id": "two-machines"}
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
    commands = [command(tmp_path / f"{rank}", learning_rate=rate) for rank, rate in enumerate((1e-3, 2e-3))]
    (status, said), (other_status, _) = two_machines(commands, lfs.env)
    assert (status, other_status) == (1, 1)
    assert "they differ in --learning_rate (0.001, elsewhere 0.002)" in said
    for status, said in two_machines([command(tmp_path / "0")] * 2, lfs.env, multi=()):
        assert status == 1
        assert re.search(r"train.py: error: .*this one is alone; on CPUs --multi_gpu is needed, too: ", said)
    assert not list(tmp_path.iterdir())
