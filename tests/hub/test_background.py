"""Pushes while a model is being trained: milestones, the end, and a Hub that misbehaves."""

import hashlib
import json
import re
import shlex
import sys
import time

import pytest
from hub_tools import COMMIT, TOKEN, commits, sent, snapshot, up
from tiny import TINY, TORCHRUN, command

from ddpm import checkpoint
from ddpm.config import parse
from ddpm.hub.limits import limits


@pytest.mark.slow
def test_training_pushes_milestones_and_ends_on_the_hub(clients, hub, tmp_path):
    """With a milestone at every saved state instead of every ten minutes, each waited for: all of them arrive."""
    client, out = clients(True), tmp_path / "run"
    options = TINY | {"output_dir": str(out), "checkpointing_steps": 6}
    options |= {"push_to_hub": True, "hub_model_id": "while-training", "hub_private_repo": True}
    answer = client.ask("train", {"milestone_interval_s": 0}, wait_for_milestones=True, **options)
    assert answer["value"] == 0, answer
    name = "alice/while-training"
    assert commits(hub, name) == 2, "a milestone, and the end"
    files = up(hub, name)
    assert files == sent(out)
    last = answer["said"].strip().splitlines()[-1]
    head = hub.store.repos["model", name].branches["main"]
    assert last == f"Pushed to the Hub, downloaded again and compared: {hub.endpoint}/{name}/tree/{head}"
    assert hub.store.repos["model", name].private
    assert not list((out / "checkpoints").glob(".push-*"))
    assert not any(TOKEN.encode() in content for content in snapshot(out).values())


# Each strikes the second commit and what belongs to it: a milestone is up.
MIDDLE = {
    "401": ({"path": COMMIT, "status": 401}, "does not accept the token"),
    "403": ({"path": COMMIT, "status": 403}, "may not write to"),
    "404": ({"path": COMMIT, "status": 404}, "the Hub has no alice/"),
    "409": ({"path": COMMIT, "status": 409}, r"the Hub answered with an error \(409\)"),
    "503": ({"path": COMMIT, "status": 503}, r"the Hub answered with an error \(503\)"),
    "429": ({"path": COMMIT, "status": 429, "headers": {"Retry-After": "3600"}}, "asks for a pause"),
    "stalled": ({"kind": "stall", "path": COMMIT, "seconds": 20}, "the Hub "),
    "damaged": ({"kind": "corrupt", "path": "/_storage/", "method": "GET", "after": 70, "skip": 0}, "came back from the Hub damaged"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("why", MIDDLE)
def test_what_is_up_there_and_what_is_not_is_said_at_the_end(lfs, hub, model, name, why):
    fault, words = MIDDLE[why]
    hub.fail(**({"skip": 1, "times": -1} | fault))
    # Some are tried until the limit; the others have to be found before it, on a slow machine too.
    settings = {"push_s": 8 if why in ("409", "503", "stalled") else 100, "grace_s": 50}
    answer = lfs.ask("milestone", settings, directory=str(model), repo_id=name)
    seen, last = answer["value"], answer["said"].strip().splitlines()[-1]
    assert seen["first"]
    assert not seen["done"]
    if why == "damaged":
        assert re.search(
            f"^The Hub has the model of step 12, {seen['up']}, but \\S+ {words}.* To push it again: python -m ddpm",
            last,
        ), last
        assert commits(hub, name) == 2
    else:
        assert re.search(f"^Not pushed: .*{words}.* The Hub has the model of step 6, {seen['first']}", last), last
        assert commits(hub, name) == 1 or why == "stalled", "the answer to a commit was lost"
    hub.clear()
    later = lfs.run(sys.executable, *shlex.split(re.search(r"python (-m ddpm.hub push .*)", last)[1]))
    assert later.returncode == 0, later.stderr
    assert up(hub, name) == sent(model)


def test_a_training_that_does_not_finish_says_what_is_up_there(lfs, hub, model, name):
    answer = lfs.ask("milestone", directory=str(model), repo_id=name, whole=False)
    last = answer["said"].strip().splitlines()[-1]
    assert (
        f"(the training did not finish). The Hub has the model of step 6, {answer['value']['up']}. To push later: python"
        in last
    )
    assert not list(model.rglob(".push*"))


def test_what_a_push_says_is_understood(lfs, hub, model, name):
    """That of a Hub below a path, and with other lines after the one that matters."""
    url = "https://corp.example/hf/alice/digits/tree/" + 40 * "a"
    code = f"import sys; print('{url}'); print('ddpm.hub: error: because', file=sys.stderr); sys.exit('noise')"
    args = {"directory": str(model), "repo_id": name, "step": 3, "command": [sys.executable, "-c", code]}
    answer = lfs.ask("finish", **args)
    assert answer["value"] is False
    said = f"The Hub has the model of step 3, {url}, but because. To push it again: python -m ddpm.hub push"
    assert said in answer["said"]
    assert "--repo_id alice/digits" in answer["said"]
    # A full or missing folder for temporary files is no crash either.
    answer = lfs.ask("finish", temporary_folder=str(model / "missing"), **args)
    assert answer["value"] is False
    assert "No such file or directory" in answer["said"]
    answer = lfs.ask("finish", full_disk=True, **args)
    assert answer["value"] is False
    assert "No space left on device" in answer["said"]


@pytest.mark.long
def test_processes_push_once(clients, hub, tmp_path):
    client, out = clients(False), tmp_path / "run"
    options = {"push_to_hub": True, "hub_model_id": "two-processes", "train_batch_size": 8}
    done = client.run(*TORCHRUN, *command(out, **options))
    assert done.returncode == 0, done.stderr
    assert hub.count("POST", "repos/create") == 1
    assert done.stderr.count("Pushed to the Hub, downloaded again and compared: ") == 1
    assert up(hub, "alice/two-processes") == sent(out)
    assert "torchrun --nproc_per_node 2 train.py" in (out / "README.md").read_text()


STAGES = {
    "refused at the start": (False, [{"kind": "drop", "times": -1}]),
    "stalled at the start": (False, [{"kind": "delay", "path": "/api/models/", "seconds": 20}]),
    "dropped in the middle": (True, [{"kind": "drop_upload", "method": "PUT|POST", "path": "/xorbs/", "after": 10, "times": -1}]),
    "403 of Xet": (True, [{"path": "/xorbs/", "status": 403, "times": -1}]),
    "stalled upload": (True, [{"kind": "delay", "path": "/xorbs/", "method": "PUT|POST", "seconds": 20, "times": -1}]),
    "stalled upload by LFS": (False, [{"kind": "delay", "path": "/_storage/", "method": "PUT", "seconds": 20, "times": -1}]),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_a_hub_that_misbehaves_costs_a_training_nothing(clients, hub, tmp_path, name, stage):
    xet, faults = STAGES[stage]
    client = clients(xet)
    for fault in faults:
        hub.fail(**fault)
    out = tmp_path / "run"
    settings = {"push_s": 3, "grace_s": 1, "lookup_s": 3, "milestone_interval_s": 0.1}
    if stage in ("stalled at the start", "403 of Xet"):  # which end by themselves, on a slow machine later
        settings |= {"push_s": 100, "grace_s": 50}
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)  # weights that no other test has uploaded before
    options = TINY | {"output_dir": str(out), "push_to_hub": True, "hub_model_id": name, "seed": seed}
    answer = client.ask("train", settings, **options)
    assert answer["value"] == 0, answer
    assert checkpoint.load(out).metrics[-1]["step"] == 12
    lines = [line for line in answer["said"].splitlines() if line.strip()]
    if stage == "stalled at the start":  # and in a better mood later
        assert "Pushing is currently impossible: the Hub " in answer["said"]
        assert lines[-1].startswith("Pushed to the Hub, downloaded again and compared: ")
        return
    found = re.search(
        r"Not pushed: .* \((.*)\)\. The Hub has (.*)\. To push later: python (-m ddpm.hub push .*)", lines[-1]
    )
    assert found, lines[-3:]
    assert found[2] == "no model of this run"
    if stage == "403 of Xet":
        assert "the token may not write to" in found[1]
    hub.clear()
    later = client.run(sys.executable, *shlex.split(found[3]))
    assert later.returncode == 0, later.stderr
    assert up(hub, name) == sent(out)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [{"status": 503}, {"kind": "drop"}, {"kind": "delay", "seconds": 60}])
def test_a_hub_that_is_down_is_waited_for_no_longer_than_was_asked_for(lfs, hub, model, name, fault):
    hub.fail(**({"path": "/api/", "times": -1} | fault))
    began = time.monotonic()
    answer = lfs.ask("wait", {"lookup_s": 1}, directory=str(model), repo_id=name, wait_s=4)
    assert answer["value"]["done"] is False
    assert 1 < answer["value"]["seconds"] < 4 + limits.grace_s, answer
    assert time.monotonic() - began < limits.push_s / 10
    said = answer["said"].strip().splitlines()
    assert "waits for at most 0.07 minutes (--hub_wait_minutes); Ctrl-C ends it" in said[-2]
    assert re.search(r"Not pushed: .* \(the Hub .* To push later: python -m ddpm.hub push ", said[-1])
    answer = lfs.ask("wait", {"lookup_s": 1}, directory=str(model), repo_id=name, wait_s=600, stop_after_s=2)
    assert answer["value"]["seconds"] < 10, "Ctrl-C ends the wait"
    assert re.search(r"Not pushed: .* \(interrupted\)\. .* To push later: python -m ddpm.hub push ", answer["said"])


@pytest.mark.slow
def test_a_push_that_makes_progress_takes_longer_than_the_wait(lfs, hub, model, name):
    """The wait is for a Hub that is down, and each answer begins it anew."""
    hub.fail("delay", path="/_storage/", method="PUT", seconds=5)
    answer = lfs.ask("wait", directory=str(model), repo_id=name, wait_s=4)
    assert answer["value"]["done"], answer
    assert answer["value"]["seconds"] > 5


def test_the_wait_is_three_minutes_and_the_flag_sets_it():
    assert limits.wait_s == 60 * parse([]).hub_wait_minutes == 180
    assert parse(["--hub_wait_minutes", "20"]).hub_wait_minutes == 20


def test_without_the_right_to_write_no_training_is_begun(lfs, hub, tmp_path, published):
    settings = {"env": {"HF_TOKEN": "hf_read"}}
    options = TINY | {"output_dir": str(tmp_path / "run"), "push_to_hub": True, "hub_model_id": "alice/published-lfs"}
    answer = lfs.ask("train", settings, **options)
    assert answer["value"] == 1
    assert answer["said"].startswith("train.py: error: --push_to_hub: the token may not write to")
    assert len(answer["said"].strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_pushing_does_not_hold_training_up_and_only_the_newest_counts(client, hub, model, name):
    hub.fail("delay", path=COMMIT, seconds=0.7, times=-1)
    settings = {"milestone_interval_s": 0.01}
    seen = client.value("pusher", settings, directory=str(model), repo_id=name, steps=12, pause_s=0.2)
    assert seen["done"]
    assert seen["meanwhile"] >= 2, "steps were submitted while a push was under way"
    assert 2 <= commits(hub, name) <= seen["steps"] / 2, "one at a time, and those overtaken are dropped"
    assert json.loads(up(hub, name)["metrics.jsonl"])["step"] == seen["steps"] - 1
