"""What stands around the training and must not cost it anything: the strip at its end, trackers, torch.compile."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launch import launch
from tiny import command, in_process

from ddpm import checkpoint, plots

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_strip_never_takes_longer_than_the_training_and_shows_its_progress(tmp_path):
    options = {"max_train_steps": 4, "num_train_timesteps": 1000, "plots": True}
    done = launch(*command(tmp_path / "run", **options))
    assert done.returncode == 0, done.stderr
    assert re.search(r"drawing strip.png: .*\| [01234]/4 ", done.stderr), "as many steps as the training had"
    assert (tmp_path / "run/strip.png").is_file()
    assert plots.strip_steps(1000, 800_000) == 250, "more steps look the same"
    assert plots.strip_steps(40, 4000) == 40
    # Started afresh without plots, nothing of the earlier run is left that the card would show.
    done = launch(*command(tmp_path / "run", **options | {"plots": False}), "--resume_from_checkpoint", "none")
    assert done.returncode == 0, done.stderr
    for name in ("strip.png", "training.png"):
        assert f"{tmp_path / 'run' / name} of an earlier run is removed" in done.stderr
        assert not (tmp_path / "run" / name).exists()
    assert "strip.png" not in (tmp_path / "run/README.md").read_text()


@pytest.mark.long
def test_plots_that_are_not_drawn_any_more_are_named(tmp_path, caplog):
    stop = {"lr_schedule": "constant", "checkpointing_steps": 6}
    in_process(tmp_path, plots=True, max_train_steps=6, **stop)
    caplog.set_level("INFO")
    in_process(tmp_path, plots=False, max_train_steps=12, **stop)
    for name in ("strip.png", "training.png"):
        assert f"{tmp_path / name} shows the run until step 6 or earlier, because of --no_plots" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["log", "log_images", "finish"])
def test_a_tracker_whose_disk_is_full_costs_nothing(tmp_path, caplog, fails):
    class Tracker:
        name = "wandb"

        def act(self, what):
            if what == fails:
                raise OSError(errno.ENOSPC, "No space left on device")

        def log(self, *values, **options):
            self.act("log")

        def log_images(self, *values, **options):
            self.act("log_images")

        def finish(self):
            self.act("finish")

    last = in_process(tmp_path / "run", prepare=lambda accelerator: accelerator.trackers.append(Tracker()))
    assert last.stopped == "finished"
    assert caplog.text.count("No space left on device; training continues without it") == 1
    assert checkpoint.load(tmp_path / "run").metrics[-1]["step"] == 12


@pytest.mark.long
def test_a_real_tracker_that_cannot_write_costs_nothing(tmp_path):
    """TensorBoard's folder cannot be made, because a file has its name."""
    out, stop = tmp_path / "run", {"lr_schedule": "constant"}
    assert launch(*command(out, max_train_steps=6, **stop)).returncode == 0
    (out / "logs").write_text("")
    done = launch(*command(out, report_to="tensorboard", **stop))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"--report_to tensorboard: .*; training continues without it", done.stderr)
    assert checkpoint.load(out).metrics[-1]["step"] == 12


@pytest.mark.long
def test_torch_compile_without_a_compiler_is_one_line(tmp_path):
    nowhere = {"CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    words = [sys.executable, *command(tmp_path / "run", compile=True)]  # not forked: inductor starts threads and forks
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"} | nowhere
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = re.findall("^train.py: error: .*", done.stderr, re.MULTILINE)
    assert re.match(r"train.py: error: --compile: .*it needs a C\+\+ compiler such as g\+\+", line)
