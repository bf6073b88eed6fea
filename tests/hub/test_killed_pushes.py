"""A training that is killed by -9 while it pushes: the same command brings the same model to the Hub."""

import contextlib
import shutil
import subprocess
import sys
import time

import psutil
import pytest
from hub_tools import COMMIT, ROOT, commits, sent, up
from tiny import TINY, assert_same_run, command


@pytest.mark.long
@pytest.mark.parametrize("path", ["/api/models/.*/preupload", "/_storage/", COMMIT])
def test_a_training_that_is_killed_while_it_pushes(lfs, hub, run, tmp_path, name, path):
    folder = tmp_path / "model"
    shutil.copytree(run, folder)
    options = {"plots": True, "push_to_hub": True, "hub_model_id": name}
    first = 1 if "preupload" in path else 0  # the one that asks for permission at the start
    fault = hub.fail("delay", path=path, seconds=4, skip=first)
    process = subprocess.Popen([sys.executable, *command(folder, **options)], cwd=ROOT, env=lfs.env)
    try:
        deadline = time.monotonic() + 150
        while fault.times:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
                victim.kill()
        process.wait()
    answer = lfs.ask("train", **TINY | {"output_dir": str(folder)} | options)
    assert answer["value"] == 0, answer
    assert answer["said"].strip().splitlines()[-1].startswith("Pushed to the Hub, downloaded again and compared: ")
    assert up(hub, name) == sent(folder)
    assert commits(hub, name) <= 2
    assert_same_run(folder, run)
    assert not list(folder.rglob(".push*"))
