"""Live training on the server's side: one at a time, ended in every way, and nothing left behind."""

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from ddpm.ui.server import live
from ddpm.ui.server.live import LiveTraining, live_config, sweep

ROOT = Path(__file__).parents[2]

# A stand-in for ddpm.training.watched: says what it does, leaves a file and a process of its own, and goes on until it is ended.
FAKE = """
import json, os, subprocess, sys, time
from pathlib import Path
order = json.loads(sys.stdin.readline())
Path(order["folder"], "left").write_text("x" * 1000)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(json.dumps({"kind": "told", "pids": [os.getpid(), other.pid], "folder": order["folder"]}), flush=True)
END
"""


def fake(end: str = "time.sleep(60)") -> list[str]:
    return [sys.executable, "-c", FAKE.replace("END", end)]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def training():
    made = LiveTraining(fake())
    yield made
    made.close()


def until(true, seconds: float = 20):
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return answer


def told(training: LiveTraining, visitor: str = "me") -> dict:
    return until(lambda: training.look(visitor, None, 0).get("messages"))[0]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_at_a_time_and_stop_leaves_nothing(training, temporary):
    assert training.look("me", None, 0) == {}
    assert training.start("me") == {"started": True}
    assert training.start("you") == {"started": False}
    first = told(training)
    assert first == told(training, "you"), "another visitor can watch"
    assert Path(first["folder"]).is_dir()
    training.stop("you")
    assert training.look("you", None, 0)["state"] == "running", "only who started it stops it"

    training.stop("me")
    until(lambda: not any(map(alive, first["pids"])))
    assert training.look("me", None, 0)["state"] == "stopped"
    assert training.start("you") == {"started": True}, "the next one follows at once"
    assert training.look("you", None, 0)["own"]
    assert not training.look("me", None, 0)["own"]
    training.close()
    assert list(temporary.iterdir()) == []
    assert training.start("me") == {"started": False}


@pytest.mark.parametrize(("limit", "state"), [("limit_s", "late"), ("leave_s", "left")])
def test_it_ends_at_its_limit_and_when_its_visitor_leaves(training, limit, state, temporary):
    training.start("me")
    seen = told(training)
    setattr(training, limit, 0.5)
    until(lambda: training.look("you", None, 0)["state"] == state)  # who only watches does not keep it going
    until(lambda: not any(map(alive, seen["pids"])) and not list(temporary.iterdir()))


@pytest.mark.parametrize("end", ["1 / 0", "print('no JSON', flush=True); time.sleep(60)", "print('x' * 10**7)"])
def test_what_goes_wrong_is_a_polite_end(end, temporary):
    training = LiveTraining(fake(end))
    training.start("me")
    until(lambda: training.look("me", None, 0)["state"] == "failed")
    assert "ZeroDivision" not in json.dumps(training.look("me", None, 0))
    assert training.start("me") == {"started": True}
    training.close()
    assert list(temporary.iterdir()) == []


def test_a_full_disk_is_a_polite_end_too(training, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", os.devnull)
    training.start("me")
    until(lambda: training.look("me", None, 0)["state"] == "failed")


@pytest.mark.parametrize("since", [-1, True, "x", None, 10**9, [], {}])
def test_looking_takes_anything(training, since):
    training.start("me")
    told(training)
    assert training.look("me", 1, since)["run"] == 1
    assert training.start({"x": 1}) == training.start("") == {"started": False}
    training.stop(None)
    assert training.look(7, 1, since)["state"] == "running"


@pytest.mark.slow
def test_a_killed_server_takes_its_training_along(temporary):
    """The real child: it notices while it loads its libraries."""
    script = """
import sys, time
import psutil
from ddpm.ui.server.live import LiveTraining
training = LiveTraining([sys.executable, "-m", "ddpm.training.watched", "train"])
training.start("me")
while not training.look("me", None, 0)["messages"]:
    time.sleep(0.02)
(child,) = psutil.Process().children()
print(child.pid, flush=True)
time.sleep(60)
"""
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    server = subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True)
    too_late = threading.Timer(200, server.kill)
    too_late.start()
    try:
        child = int(server.stdout.readline())
        assert len(list(temporary.glob("ddpm-live-*"))) == 1
        assert psutil.Process(child).nice() > psutil.Process(server.pid).nice()
    finally:
        too_late.cancel()
        server.kill()
        server.wait()
    until(lambda: not alive(child), 60)
    assert list(temporary.glob("ddpm-live-*")) == []


def test_the_next_start_clears_up_what_nobody_owns(temporary, training):
    training.start("me")
    owned = Path(told(training)["folder"])
    orphan = temporary / "ddpm-live-orphan"
    (orphan / "run").mkdir(parents=True)
    (temporary / "ddpm-live-link").symlink_to(ROOT)
    sweep()
    assert not orphan.exists()
    assert owned.is_dir()
    assert (ROOT / "train.py").is_file()


def test_the_configuration_is_the_preset_made_short():
    for steps in (1, 40, live.STEPS):
        config = live_config(steps)
        config.validate()
        assert (config.preset, config.max_train_steps, config.train_batch_size) == ("digits", steps, 64)
    noise = Image.open(io.BytesIO(base64.b64decode(LiveTraining(fake()).noise)))
    assert noise.size == (266, 266)
