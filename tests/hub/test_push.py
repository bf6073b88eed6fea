"""Pushes with the real huggingface_hub client to a Hub on loopback, by LFS and by Xet, on good days and bad."""

import json
import re
import sys
import threading
import time

import pytest
from diffusers import DDPMScheduler
from hub_tools import COMMIT, commits, digest, sent, snapshot, up

from ddpm import checkpoint
from ddpm.unet import build_unet


@pytest.mark.slow
def test_a_push_is_one_commit_of_what_belongs_there_and_comes_back_bit_for_bit(client, hub, model, name, tmp_path):
    before = snapshot(model)
    pushed = client.value("push", directory=str(model), repo_id=name, private=True)
    assert commits(hub, name) == 1
    assert hub.store.repos["model", name].private
    files = up(hub, name)
    assert files == sent(model)
    changed = {path for path, content in snapshot(model).items() if before[path] != content}
    assert changed == {"README.md"}, "its commands now name the repository"
    assert f'from_pretrained("{name}")' in files["README.md"].decode()
    assert bool(hub.count("POST", "/_cas/")) == client.xet, "the transport that this is about"
    assert not any(r.authorization for r in hub.requests(path="/_storage")), "storage is another origin"

    hub.clear()
    assert client.value("push", directory=str(model), repo_id=name)["commit"] == pushed["commit"]
    assert hub.count("POST|PUT", "commit|_storage|_cas") == 0, "nothing changed, nothing sent"

    # With an empty cache, and once in a fresh process: through pull, and as a stranger does, also at the commit.
    local, at = digest(checkpoint.load(model).unet), pushed["commit"]
    if not client.xet:
        empty = {"cache": str(tmp_path / "empty")}
        for pulled in ({"id_or_dir": name}, {"id_or_dir": name, "revision": at}):
            got = client.value("pull", empty, **pulled)
            assert (got["weights"], got["revision"]) == (local, at)
        assert (
            client.value("plain", empty, model=name) == client.value("plain", empty, model=name, revision=at) == local
        )
        assert list((tmp_path / "empty").iterdir())
        return
    code = (
        "import sys; sys.path[:0] = ['tests/hub', 'tests']; from hub_client import *; n, c = sys.argv[1:]; "
        "print(weights(hub.pull(n).unet), plain(n), plain(n, c), weights(hub.pull(n, c).unet), hub.pull(n).revision)"
    )
    out = client.run(sys.executable, "-c", code, name, at, HF_HOME=str(tmp_path / "empty"))
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == [local] * 4 + [at]


@pytest.mark.slow
def test_old_samples_go_with_the_commit_and_what_others_put_there_stays(lfs, hub, model, name):
    hub.put(
        name, {"samples/step-000999.png": b"\0old", "demo.ipynb": b"{}", "thumbnail.png": b"\0", "notes.md": b"mine"}
    )
    lfs.value("push", directory=str(model), repo_id=name)
    files = up(hub, name)
    assert "samples/step-000999.png" not in files
    assert {"demo.ipynb", "thumbnail.png", "notes.md", "samples/step-000012.png"} <= set(files)
    assert commits(hub, name) == 1


BAD_DAYS = {
    "503": [{"path": p, "times": 2} for p in ("/api/models/[^/]+/[^/]+$", "repos/create", "/revision/", "preupload", COMMIT)],
    "429": [{"path": COMMIT, "status": 429, "headers": {"Retry-After": "1"}}],
    "409": [{"path": COMMIT, "status": 409}],
    "dropped": [{"kind": "drop", "path": COMMIT, "times": 2, "rst": True}],
    "answer lost": [{"kind": "drop_response", "path": COMMIT}],
    "answer lost, then 500": [{"kind": "drop_response", "path": COMMIT}, {"path": "/revision/main", "skip": 1, "status": 500}],
    "upload cut": [{"kind": "drop_upload", "method": "PUT|POST", "path": "/_storage/|/xorbs/", "after": 100, "times": 2, "rst": True}],
    "HTML": [{"path": "validate-yaml", "status": 200, "body": "<html>try later</html>"}],
    "raced": [{"path": COMMIT, "status": 412, "body": {"error": "A commit has happened since."}}],
    "damaged on the way back": [{"kind": "corrupt", "path": "/_storage/", "method": "GET", "after": 70}],
    "way back cut": [{"kind": "drop_download", "path": "/_storage/", "method": "GET", "after": 70, "times": 2, "rst": True}],
    "stalled": [{"kind": "stall", "path": "/revision/main", "seconds": 3}],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("day", BAD_DAYS)
def test_a_bad_day_costs_tries_and_makes_one_commit(client, hub, model, name, day):
    for fault in BAD_DAYS[day]:
        hub.fail(**fault)
    began = time.monotonic()
    client.value("push", {"request_s": 1}, directory=str(model), repo_id=name)
    assert commits(hub, name) == 1
    assert sent(model) == up(hub, name)
    if day == "429":
        assert time.monotonic() - began > 1, "Retry-After is obeyed"


REFUSALS = {
    "no token": ({"HF_TOKEN": None}, [], "there is no token: log in with `hf auth login` or set HF_TOKEN"),
    "wrong token": ({"HF_TOKEN": "hf_wrong"}, [], "does not accept the token"),
    "odd token": ({"HF_TOKEN": "hf_wr\x7fong\u00e9"}, [], "the token contains characters that no token has"),
    "read token": ({"HF_TOKEN": "hf_read"}, [], "may not write to alice/published-lfs: make one with write permission at"),
    "somebody else's": ({"HF_TOKEN": "hf_other"}, [], "may not write to alice/published-lfs"),
    "403": ({}, [{"path": "preupload", "status": 403, "times": -1}], "may not write to"),
    "404": ({}, [{"path": "preupload", "status": 404, "times": -1}], "the Hub has no alice/published-lfs, or this login may not see it"),
    "503": ({}, [{"times": -1}], r"the Hub answered with an error \(503\)"),
    "gone": ({}, [{"kind": "drop", "times": -1}], "the Hub cannot be reached"),
    "busy": ({}, [{"status": 429, "times": -1}], "asks for a pause"),
    "busy for long": ({}, [{"status": 429, "headers": {"Retry-After": "3600"}, "times": -1}], "asks for a pause of 3600 s"),
}  # fmt: skip


BY_TRANSPORT = {
    False: [("info/lfs/objects/batch", 403), ("info/lfs/objects/batch", 401)],
    True: [("xet-write-token", 403), ("xet-write-token", 401), ("/xorbs/", 403), ("/_cas/v1/shards", 401)],
}


@pytest.mark.slow
def test_refusals_of_the_transport_are_understood_and_not_repeated(client, hub, model, name):
    client.value("check", repo_id=name)
    for path, status in BY_TRANSPORT[client.xet]:
        hub.fail(path=path, status=status, times=-1)
        message = client.error("push", directory=str(model), repo_id=name, limit_s=20)
        assert {401: "does not accept the token", 403: "may not write to"}[status] in message, (path, message)
        assert hub.count(path=path) <= 3, "trying again is of no use"
        hub.clear()


@pytest.mark.slow
def test_a_folder_that_is_written_to_is_pushed_as_it_was(client, hub, model, name):
    before = sent(model)
    hub.fail("delay", path="preupload", seconds=0.5)

    def write():
        while not hub.count(path="preupload"):
            time.sleep(0.01)
        (model / "metrics.jsonl").open("a").write(json.dumps({"kind": "train", "step": 99}) + "\n")
        checkpoint.save(model, build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler().config))

    writer = threading.Thread(target=write)
    writer.start()
    client.value("push", directory=str(model), repo_id=name)
    writer.join()
    after = up(hub, name)
    assert {path for path in after if after[path] != before[path]} == {"README.md"}, "which names the repository"
    assert not list(model.rglob(".push*"))


def test_local_defects_are_no_trouble_with_the_hub(lfs, hub, model, name):
    (model / "README.md").write_bytes(b"caf\xe9")
    (model / "train_config.json").write_text("{")
    (model / "metrics.jsonl").write_bytes(b'{"kind": "train"}\n\xff')
    answer = lfs.ask("push", directory=str(model), repo_id=name)
    assert "README.md stays as it is" in answer["said"]
    assert "metrics.jsonl: line 2 is not JSON and skipped" in answer["said"]
    assert "README.md is not pushed because it is not UTF-8" in answer["said"]
    here = {path: content for path, content in snapshot(model).items() if not path.startswith("checkpoints/")}
    assert up(hub, name) == {path: content for path, content in here.items() if path != "README.md"}


def test_paths_of_this_machine_stay_here(lfs, hub, model, name):
    settings = json.loads((model / "train_config.json").read_text())
    settings["options"] |= {"dataset_name": "/home/somebody/my faces", "output_dir": "~/runs/faces"}
    settings["data"] |= {
        "source": "folder",
        "fingerprint": 64 * "0",
        "notes": ["skipped 1 of 9: /home/somebody/my.png: broken"],
    }
    (model / "train_config.json").write_text(json.dumps(settings))
    said = "python -m ddpm.evaluate /home/somebody/runs --dataset_name '/home/somebody/my faces' --seed 3"
    row = {
        "kind": "evaluation",
        "step": 12,
        "bits_per_dim": 1.0,
        "command": said,
        "dataset": "/home/somebody/my faces",
    }
    (model / "metrics.jsonl").open("a").write(json.dumps(row) + "\n")
    local = (model / "train_config.json").read_bytes()
    lfs.value("push", directory=str(model), repo_id=name)
    files = up(hub, name)
    assert not [path for path, content in files.items() if b"/home/" in content or b"somebody" in content]
    assert json.loads(files["train_config.json"])["options"]["dataset_name"] == "my faces"
    assert f"python -m ddpm.evaluate {name} --dataset_name FOLDER --seed 3" in files["README.md"].decode()
    assert (model / "train_config.json").read_bytes() == local


@pytest.mark.parametrize("why", REFUSALS)
def test_what_is_refused_says_what_to_do_before_training_and_at_a_push(lfs, hub, model, published, why):
    env, faults, words = REFUSALS[why]
    for fault in faults:
        hub.fail(**fault)
    settings = {"env": env}
    before = commits(hub, "alice/published-lfs")
    answer = lfs.value("check", settings, repo_id="alice/published-lfs")
    assert re.search(words, answer["message"]), answer
    assert answer["transient"] == (why in ("503", "gone", "busy", "busy for long"))
    message = lfs.error("push", settings, directory=str(model), repo_id="alice/published-lfs", limit_s=1)
    assert re.search(words, message)
    assert commits(hub, "alice/published-lfs") == before
    assert checkpoint.load(model).num_parameters, "what is on disk is whole"


def test_a_public_repository_is_not_taken_for_a_private_one(lfs, hub, model, published):
    message = lfs.error("push", directory=str(model), repo_id="alice/published-lfs", private=True)
    assert "exists and is public" in message


def test_damage_that_stays_is_said(client, hub, model, name):
    hub.fail("corrupt", method="GET", path="/_storage/", after=70, times=-1)
    message = client.error("push", directory=str(model), repo_id=name)
    assert "came back from the Hub damaged, twice" in message
