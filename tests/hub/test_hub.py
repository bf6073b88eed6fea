"""Push and pull with the real huggingface_hub client against a Hub on loopback, by LFS and by Xet, in good days and bad."""

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from hub_standin import HubStandIn, User
from PIL import Image
from tiny import TINY, TORCHRUN, command, in_process

from ddpm import checkpoint
from ddpm.hub import background as pusher
from ddpm.unet import build_unet

ROOT = Path(__file__).parents[2]
TOKEN = "hf_write_0123456789"


class Client:
    """The real client in a process of its own, see hub_client.py, and all that it ever said."""

    def __init__(self, hub: HubStandIn, home: Path, xet: bool) -> None:
        self.hub, self.home, self.xet, self.said = hub, home, xet, []
        env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        env |= hub.env(token=TOKEN, home=home, xet=xet) | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
        self.env = env | {"HF_XET_CLIENT_RETRY_BASE_DELAY": "20ms"}
        words = [sys.executable, str(ROOT / "tests/hub/hub_client.py")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(words, cwd=ROOT, env=self.env, text=True, **pipes)

    def ask(self, call: str, settings: dict | None = None, **args) -> dict:
        """`settings`: constants of ddpm.hub, `env`, `cache`."""
        request = {"call": call, "args": args, "settings": settings or {}}
        too_late = threading.Timer(150, self.process.kill)
        too_late.start()
        if not self.said:
            self.process.stdout.readline()  # it is there
        self.process.stdin.write(json.dumps(request, default=str) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        too_late.cancel()
        assert line, "the client's process is dead, or was killed after 150 s"
        answer = json.loads(line)
        self.said.append(json.dumps(answer))
        return answer

    def value(self, call: str, settings: dict | None = None, **args):
        answer = self.ask(call, settings, **args)
        assert "value" in answer, answer
        return answer["value"]

    def error(self, call: str, settings: dict | None = None, **args) -> str:
        """The message, which is one line for people."""
        answer = self.ask(call, settings, **args)
        assert answer.get("error") in ("ValueError", "HubError"), answer
        assert "\n" not in answer["message"]
        return answer["message"]

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess:
        """A command as a user gives it."""
        done = subprocess.run(words, cwd=ROOT, env=self.env | env, capture_output=True, text=True, timeout=120)
        self.said.append(done.stdout + done.stderr)
        return done


@pytest.fixture(scope="module")
def server():
    tokens = {TOKEN: User("alice"), "hf_read": User("alice", "read"), "hf_other": User("bob")}
    with HubStandIn(tokens) as hub:
        yield hub


@pytest.fixture(scope="module")
def clients(server, tmp_path_factory):
    started: dict[bool, Client] = {}

    def start(xet: bool) -> Client:
        if xet not in started:
            started[xet] = Client(server, tmp_path_factory.mktemp("home"), xet)
        return started[xet]

    yield start
    for client in started.values():
        client.process.stdin.close()
        client.process.wait(20)
        assert TOKEN not in "".join(client.said), "the token was said"


@pytest.fixture
def hub(server):
    """The Hub in a good mood; faults that a test plans must strike."""
    server.clear()
    yield server
    unused = [fault for fault in server.faults if fault.times > 0]
    server.clear()
    assert not unused


@pytest.fixture(params=[False, True], ids=["lfs", "xet"])
def client(request, clients, hub):
    return clients(request.param)


@pytest.fixture
def lfs(clients, hub):
    return clients(False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished training."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert in_process(folder, plots=True).stopped == "finished"
    return folder


@pytest.fixture
def model(run, tmp_path):
    """A copy of that folder whose weights are like no other's: every test has something to upload."""
    folder = tmp_path / "model"
    shutil.copytree(run, folder)
    torch.manual_seed(int(time.monotonic() * 1e6) % 2**31)
    checkpoint.save(
        folder,
        build_unet(8, 1, (8, 16), norm_num_groups=4),
        json.loads((run / "scheduler/scheduler_config.json").read_text()),
    )
    return folder


@pytest.fixture
def name(request):
    return "alice/" + re.sub(r"[^\w]+", "-", request.node.name)[:80].strip("-")


@pytest.fixture(scope="module")
def published(clients, run, server):
    """The model as pushed by each transport: its name, and what a pull gives."""
    server.clear()
    done = {}
    for xet in (False, True):
        repo = f"alice/published-{'xet' if xet else 'lfs'}"
        done[xet] = clients(xet).value("push", directory=str(run), repo_id=repo)
    return done


def digest(unet) -> str:
    """Every bit of every weight, in short, as hub_client.py has it."""
    found = hashlib.sha256()
    for name, tensor in sorted(unet.state_dict().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def commits(hub, name: str) -> int:
    """Beside the one that creates the repository."""
    return len(hub.store.repos["model", name].commits) - 1


def up(hub, name: str) -> dict[str, bytes]:
    repo = hub.store.repos["model", name]
    files = repo.commits[repo.branches["main"]].files
    return {path: hub.store.blob(file.sha256).read_bytes() for path, file in files.items() if path != ".gitattributes"}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sent(folder: Path) -> dict[str, bytes]:
    """What a push sends of it: no training state, and of paths on this machine their last part."""
    files = {path: content for path, content in snapshot(folder).items() if not path.startswith("checkpoints/")}
    settings = json.loads(files["train_config.json"])
    settings["options"]["output_dir"] = Path(settings["options"]["output_dir"]).name
    return files | {"train_config.json": json.dumps(settings, indent=1).encode() + b"\n"}


# ---------------------------------------------------------------------------------------------------------------- push


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


def test_old_samples_go_with_the_commit_and_what_others_put_there_stays(lfs, hub, model, name):
    hub.put(
        name, {"samples/step-000999.png": b"\0old", "demo.ipynb": b"{}", "thumbnail.png": b"\0", "notes.md": b"mine"}
    )
    lfs.value("push", directory=str(model), repo_id=name)
    files = up(hub, name)
    assert "samples/step-000999.png" not in files
    assert {"demo.ipynb", "thumbnail.png", "notes.md", "samples/step-000012.png"} <= set(files)
    assert commits(hub, name) == 1


COMMIT = "/commit/"
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


@pytest.mark.parametrize("day", BAD_DAYS)
def test_a_bad_day_costs_tries_and_makes_one_commit(client, hub, model, name, day):
    for fault in BAD_DAYS[day]:
        hub.fail(**fault)
    began = time.monotonic()
    client.value("push", {"REQUEST_TIMEOUT_S": 1}, directory=str(model), repo_id=name)
    assert commits(hub, name) == 1
    assert sent(model) == up(hub, name)
    if day == "429":
        assert time.monotonic() - began > 1, "Retry-After is obeyed"


REFUSALS = {
    "no token": ({"HF_TOKEN": None}, [], "no token: log in with `hf auth login` or set HF_TOKEN"),
    "wrong token": ({"HF_TOKEN": "hf_wrong"}, [], "does not accept the token"),
    "odd token": ({"HF_TOKEN": "hf_wr\x7fong\u00e9"}, [], "the token holds characters that no token has"),
    "read token": ({"HF_TOKEN": "hf_read"}, [], "may not write to alice/published-lfs: make one with write permission at"),
    "somebody else's": ({"HF_TOKEN": "hf_other"}, [], "may not write to alice/published-lfs"),
    "403": ({}, [{"path": "preupload", "status": 403, "times": -1}], "may not write to"),
    "404": ({}, [{"path": "preupload", "status": 404, "times": -1}], "the Hub has no alice/published-lfs, or not for this login"),
    "503": ({}, [{"times": -1}], r"the Hub is in trouble \(503\)"),
    "gone": ({}, [{"kind": "drop", "times": -1}], "the Hub cannot be reached"),
    "busy": ({}, [{"status": 429, "times": -1}], "asks for a pause"),
    "busy for long": ({}, [{"status": 429, "headers": {"Retry-After": "3600"}, "times": -1}], "asks for a pause of 3600 s"),
}  # fmt: skip


BY_TRANSPORT = {
    False: [("info/lfs/objects/batch", 403), ("info/lfs/objects/batch", 401)],
    True: [("xet-write-token", 403), ("xet-write-token", 401), ("/xorbs/", 403), ("/_cas/v1/shards", 401)],
}


def test_refusals_of_the_transport_are_understood_and_not_repeated(client, hub, model, name):
    client.value("check", repo_id=name)
    for path, status in BY_TRANSPORT[client.xet]:
        hub.fail(path=path, status=status, times=-1)
        message = client.error("push", directory=str(model), repo_id=name, limit_s=20)
        assert {401: "does not accept the token", 403: "may not write to"}[status] in message, (path, message)
        assert hub.count(path=path) <= 3, "trying again is of no use"
        hub.clear()


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
    assert "metrics.jsonl is pushed as it is" in answer["said"]
    assert "README.md is not pushed: it is no UTF-8" in answer["said"]
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


def test_by_hand(lfs, hub, model, name):
    push = [sys.executable, "-m", "ddpm.hub", "push"]
    done = lfs.run(*push, str(model), "--repo_id", name, "--private")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"{hub.endpoint}/{name}/tree/{hub.store.repos['model', name].branches['main']}"
    nothing = lfs.run(*push, str(model / "samples"), "--repo_id", name)
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (1, 1)
    assert "no model_index.json" in nothing.stderr
    assert lfs.run(*push, str(model), "--repo_id", "a/b/c").returncode == 2
    assert lfs.run(*push, str(model), "--repo_id", name, HF_TOKEN="hf_read", HF_HUB_OFFLINE="1").returncode == 1
    # hf_xet is not needed: without it, the client takes LFS.
    hidden = (
        "import sys, huggingface_hub.utils._runtime as r; r._package_versions['hf_xet'] = 'N/A'; "
        "sys.modules['hf_xet'] = None; from ddpm.hub.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    (model / "samples/step-000001.png").write_bytes(b"\x89PNG\0")
    done = lfs.run(sys.executable, "-c", hidden, "push", str(model), "--repo_id", name, HF_HUB_DISABLE_XET="0")
    assert done.returncode == 0, done.stderr
    assert "samples/step-000001.png" in up(hub, name)


# ------------------------------------------------------------------------------------------------------ while training


def test_training_pushes_milestones_and_ends_on_the_hub(clients, hub, tmp_path):
    """With a milestone at every saved state instead of every ten minutes, each waited for: all of them arrive."""
    client, out = clients(True), tmp_path / "run"
    options = TINY | {"output_dir": str(out), "checkpointing_steps": 6}
    options |= {"push_to_hub": True, "hub_model_id": "while-training", "hub_private_repo": True}
    answer = client.ask("train", {"MILESTONE_INTERVAL_S": 0}, wait_for_milestones=True, **options)
    assert answer["value"] == 0, answer
    name = "alice/while-training"
    assert commits(hub, name) == 2, "a milestone, and the end"
    files = up(hub, name)
    assert files == sent(out)
    last = answer["said"].strip().splitlines()[-1]
    head = hub.store.repos["model", name].branches["main"]
    assert last == f"On the Hub, pulled back and compared: {hub.endpoint}/{name}/tree/{head}"
    assert hub.store.repos["model", name].private
    assert not list((out / "checkpoints").glob(".push-*"))
    assert not any(TOKEN.encode() in content for content in snapshot(out).values())


# Each strikes the second commit and what belongs to it: a milestone is up.
MIDDLE = {
    "401": ({"path": COMMIT, "status": 401}, "does not accept the token"),
    "403": ({"path": COMMIT, "status": 403}, "may not write to"),
    "404": ({"path": COMMIT, "status": 404}, "the Hub has no alice/"),
    "409": ({"path": COMMIT, "status": 409}, r"the Hub is in trouble \(409\)"),
    "503": ({"path": COMMIT, "status": 503}, r"the Hub is in trouble \(503\)"),
    "429": ({"path": COMMIT, "status": 429, "headers": {"Retry-After": "3600"}}, "asks for a pause"),
    "stalled": ({"kind": "stall", "path": COMMIT, "seconds": 20}, "the Hub "),
    "damaged": ({"kind": "corrupt", "path": "/_storage/", "method": "GET", "after": 70, "skip": 0}, "came back from the Hub damaged"),
}  # fmt: skip


@pytest.mark.parametrize("why", MIDDLE)
def test_what_is_up_there_and_what_is_not_is_said_at_the_end(lfs, hub, model, name, why):
    fault, words = MIDDLE[why]
    hub.fail(**({"skip": 1, "times": -1} | fault))
    # Some are tried until the limit; the others have to be found before it, on a slow machine too.
    settings = {"PUSH_LIMIT_S": 8 if why in ("409", "503", "stalled") else 100, "GRACE_S": 50}
    answer = lfs.ask("milestone", settings, directory=str(model), repo_id=name)
    seen, last = answer["value"], answer["said"].strip().splitlines()[-1]
    assert seen["first"]
    assert not seen["done"]
    if why == "damaged":
        assert re.search(
            f"^On the Hub: the model of step 12, {seen['up']}, but \\S+ {words}.* Again: python -m ddpm", last
        ), last
        assert commits(hub, name) == 2
    else:
        assert re.search(f"^Not pushed: .*{words}.* On the Hub: the model of step 6, {seen['first']}", last), last
        assert commits(hub, name) == 1 or why == "stalled", "the answer to a commit was lost"
    hub.clear()
    later = lfs.run(sys.executable, *shlex.split(re.search(r"python (-m ddpm.hub push .*)", last)[1]))
    assert later.returncode == 0, later.stderr
    assert up(hub, name) == sent(model)


def test_a_training_that_does_not_finish_says_what_is_up_there(lfs, hub, model, name):
    answer = lfs.ask("milestone", directory=str(model), repo_id=name, whole=False)
    last = answer["said"].strip().splitlines()[-1]
    assert f"(training did not finish). On the Hub: the model of step 6, {answer['value']['up']}. Later: python" in last
    assert not list(model.rglob(".push*"))


def test_what_a_push_says_is_understood(monkeypatch, tmp_path, caplog):
    """Of a Hub below a path, and with other lines after the one that matters; and not even a full /tmp is a crash."""
    url = "https://corp.example/hf/alice/digits/tree/" + 40 * "a"
    code = f"import sys; print('{url}'); print('ddpm.hub: error: because', file=sys.stderr); sys.exit('noise')"
    real = subprocess.Popen
    monkeypatch.setattr(pusher, "check_access", lambda *_: "alice/digits")
    monkeypatch.setattr(pusher.subprocess, "Popen", lambda words, **k: real([sys.executable, "-c", code], **k))
    pushes = pusher.Pusher(tmp_path)
    assert not pushes.finish(3)
    assert f"the model of step 3, {url}, but because. Again: python -m ddpm.hub push" in caplog.text
    assert "--repo_id alice/digits" in caplog.text

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pusher.tempfile, "TemporaryFile", full)
    assert not pushes.finish(4)
    assert "No space left on device" in caplog.text


def test_processes_push_once(clients, hub, tmp_path):
    client, out = clients(False), tmp_path / "run"
    options = {"push_to_hub": True, "hub_model_id": "two-processes", "train_batch_size": 8}
    done = client.run(*TORCHRUN, *command(out, **options))
    assert done.returncode == 0, done.stderr
    assert hub.count("POST", "repos/create") == 1
    assert done.stderr.count("On the Hub, pulled back and compared: ") == 1
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


@pytest.mark.parametrize("stage", STAGES)
def test_a_hub_that_misbehaves_costs_a_training_nothing(clients, hub, tmp_path, name, stage):
    xet, faults = STAGES[stage]
    client = clients(xet)
    for fault in faults:
        hub.fail(**fault)
    out = tmp_path / "run"
    settings = {"PUSH_LIMIT_S": 3, "GRACE_S": 1, "LOOKUP_LIMIT_S": 3, "MILESTONE_INTERVAL_S": 0.1}
    if stage in ("stalled at the start", "403 of Xet"):  # which end by themselves, on a slow machine later
        settings |= {"PUSH_LIMIT_S": 100, "GRACE_S": 50}
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)  # weights that no other test has uploaded before
    options = TINY | {"output_dir": str(out), "push_to_hub": True, "hub_model_id": name, "seed": seed}
    answer = client.ask("train", settings, **options)
    assert answer["value"] == 0, answer
    assert checkpoint.load(out).metrics[-1]["step"] == 12
    lines = [line for line in answer["said"].splitlines() if line.strip()]
    if stage == "stalled at the start":  # and in a better mood later
        assert "Not pushed for now: the Hub " in answer["said"]
        assert lines[-1].startswith("On the Hub, pulled back and compared: ")
        return
    found = re.search(r"Not pushed: .* \((.*)\)\. On the Hub: (.*)\. Later: python (-m ddpm.hub push .*)", lines[-1])
    assert found, lines[-3:]
    assert found[2] == "nothing of this run"
    if stage == "403 of Xet":
        assert "the token may not write to" in found[1]
    hub.clear()
    later = client.run(sys.executable, *shlex.split(found[3]))
    assert later.returncode == 0, later.stderr
    assert up(hub, name) == sent(out)


def test_without_the_right_to_write_no_training_is_begun(lfs, hub, tmp_path, published):
    settings = {"env": {"HF_TOKEN": "hf_read"}}
    options = TINY | {"output_dir": str(tmp_path / "run"), "push_to_hub": True, "hub_model_id": "alice/published-lfs"}
    answer = lfs.ask("train", settings, **options)
    assert answer["value"] == 1
    assert answer["said"].startswith("train.py: error: --push_to_hub: the token may not write to")
    assert len(answer["said"].strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_pushing_does_not_hold_training_up_and_only_the_newest_counts(client, hub, model, name):
    hub.fail("delay", path=COMMIT, seconds=0.7, times=-1)
    settings = {"MILESTONE_INTERVAL_S": 0.01}
    seen = client.value("pusher", settings, directory=str(model), repo_id=name, steps=12, pause_s=0.2)
    assert seen["done"]
    assert seen["meanwhile"] >= 2, "steps were submitted while a push was under way"
    assert 2 <= commits(hub, name) <= seen["steps"] / 2, "one at a time, and those overtaken are dropped"
    assert json.loads(up(hub, name)["metrics.jsonl"])["step"] == seen["steps"] - 1


# ---------------------------------------------------------------------------------------------------------------- pull


def test_pull_and_its_revisions(client, hub, model, name, tmp_path):
    first = client.value("push", directory=str(model), repo_id=name)["commit"]
    old = client.value("pull", id_or_dir=name)
    assert (old["revision"], old["offline"]) == (first, False)
    checkpoint.save(model, build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler().config))
    second = client.value("push", directory=str(model), repo_id=name)["commit"]
    assert client.value("pull", id_or_dir=name)["revision"] == second
    assert client.value("pull", id_or_dir=name, revision=first) == old
    assert client.value("pull", id_or_dir=str(model))["revision"] is None
    assert "knows no such revision" in client.error("pull", id_or_dir=name, revision="nothing")
    assert "no revision 'main'" in client.error("pull", id_or_dir=str(model), revision="main")
    hub.clear()
    client.value("pull", id_or_dir=name)
    assert hub.count(path="resolve|_storage|_cas") == 0, "it was in the cache"


BAD_ROADS = {
    "503": [{"path": "/api/models/", "times": 2}, {"method": "GET", "path": "config.json", "times": 2}],
    "429": [{"path": "/api/models/", "status": 429, "headers": {"Retry-After": "0"}}],
    "dropped": [{"kind": "drop", "path": "config.json", "times": 2, "rst": True}],
    "cut": [{"kind": "drop_download", "method": "GET", "path": "/_storage/", "after": 3000, "times": 1, "rst": True}],
    "truncated": [{"kind": "truncate", "method": "GET", "path": "/_storage/", "after": 3000}],
    "damaged": [{"kind": "corrupt", "method": "GET", "path": "/_storage/", "after": 9000}],
    "damaged configuration": [{"kind": "corrupt", "method": "GET", "path": "unet/config.json", "after": 9}],
}  # fmt: skip


@pytest.mark.parametrize("road", BAD_ROADS)
def test_a_bad_road_is_travelled_again(client, hub, published, run, tmp_path, road):
    for fault in BAD_ROADS[road]:
        hub.fail(**fault)
    answer = client.ask("pull", {"cache": str(tmp_path)}, id_or_dir=published[client.xet]["repo_id"])
    assert answer["value"]["weights"] == digest(checkpoint.load(run).unet), answer
    if road.startswith("damaged"):
        assert "is damaged; downloading it again" in answer["said"]


def test_damage_that_stays_is_a_clear_error_and_leaves_nothing_in_the_cache(client, hub, published, tmp_path):
    settings, name = {"cache": str(tmp_path)}, published[client.xet]["repo_id"]
    hub.fail("corrupt", method="GET", path="/_storage/", after=9000, times=-1)
    message = client.error("pull", settings, id_or_dir=name)
    assert "unet/diffusion_pytorch_model.safetensors is damaged, downloaded twice" in message
    hub.clear()
    assert not list(tmp_path.rglob("*.safetensors"))
    good = client.value("pull", settings, id_or_dir=name)
    # Damage that came later, by a disk for one: noticed and mended, and without the Hub at least noticed.
    weights = next(tmp_path.rglob("*.safetensors"))
    for hub_is_there in (True, False):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 0xFF
        weights.resolve().chmod(0o644)
        weights.resolve().write_bytes(content)
        if hub_is_there:
            assert client.value("pull", settings, id_or_dir=name) == good
        else:
            hub.fail("drop", times=-1)
            assert "in the cache is damaged" in client.error("pull", settings, id_or_dir=name)


@pytest.mark.parametrize("why", ["gone", "503", "wrong token", "offline"])
def test_what_is_in_the_cache_works_without_the_hub_and_says_so(client, hub, published, tmp_path, why):
    settings, name = {"cache": str(tmp_path / "cache")}, published[client.xet]["repo_id"]
    good = client.value("pull", settings, id_or_dir=name)
    empty = {"cache": str(tmp_path / "empty")}
    if why == "wrong token":
        settings |= {"env": {"HF_TOKEN": "hf_wrong"}}
        empty |= {"env": {"HF_TOKEN": "hf_wrong"}}
    elif why == "offline":
        settings |= {"offline": True}
        empty |= {"offline": True}
    else:
        hub.fail("drop" if why == "gone" else "status", times=-1)
    answer = client.ask("pull", settings, id_or_dir=name)
    assert answer["value"] == good | {"offline": True}
    assert "using the copy in the cache, commit " + good["revision"] in answer["said"]
    assert "cannot be pulled: " in client.error("pull", empty, id_or_dir=name)


def test_a_newer_commit_that_cannot_be_had_leaves_the_older_one(client, hub, model, name, tmp_path):
    settings = {"cache": str(tmp_path / "cache"), "LOOKUP_LIMIT_S": 20}
    client.value("push", directory=str(model), repo_id=name)
    good = client.value("pull", settings, id_or_dir=name)
    checkpoint.save(model, build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler().config))
    newer = client.value("push", directory=str(model), repo_id=name)["commit"]
    hub.fail("status", method="GET", path="/_storage/", times=-1)
    answer = client.ask("pull", settings, id_or_dir=name)
    assert answer["value"] == good | {"offline": True}
    assert "using the copy in the cache, commit " + good["revision"] in answer["said"]
    assert "cannot be pulled" in client.error("pull", settings, id_or_dir=name, revision=newer), "this and no other"
    hub.fail("drop", times=-1)
    assert client.value("pull", settings, id_or_dir=name) == good | {"offline": True}
    hub.clear()
    assert client.value("pull", settings, id_or_dir=name)["revision"] == newer


@pytest.mark.parametrize("path", ["unet/config.json", "/_storage/|safetensors"])
def test_a_pull_has_an_end(lfs, hub, published, tmp_path, path):
    hub.fail("delay", path=path, seconds=200, times=-1)
    began, settings = time.monotonic(), {"cache": str(tmp_path), "LOOKUP_LIMIT_S": 3, "SLOWEST_BYTES_PER_S": 2**20}
    assert "cannot be pulled: the Hub " in lfs.error("pull", settings, id_or_dir="alice/published-lfs")
    assert time.monotonic() - began < 100, "a single answer takes 200 s"


def test_strangers_extras_cost_nothing(lfs, hub, run, tmp_path, name):
    extras = {"metrics.jsonl": b"[" * 200_000, "train_config.json": b"\xff" + b" " * 9_000_000}
    hub.put(name, files_of(run) | extras)
    answer = lfs.ask("pull", {"cache": str(tmp_path)}, id_or_dir=name)
    assert "value" in answer, answer
    assert "without its train_config.json: more than 8 MiB" in answer["said"]
    assert "without what was measured: " in answer["said"]


def test_a_pull_brings_some_sample_grids_of_the_whole_training(lfs, hub, run, tmp_path, name):
    grids = {f"samples/step-{step:06d}.png": b"\x89PNG" + bytes([step]) for step in range(1, 41)}
    grids |= {"samples/step-1 2.png": b"\x89PNG", "samples/step-000040.png": bytes(2 * 2**20)}
    files = {path: content for path, content in files_of(run).items() if not path.startswith("samples/")}
    hub.put(name, files | grids)
    answer = lfs.ask("pull", {"cache": str(tmp_path)}, id_or_dir=name)
    assert "value" in answer, answer
    assert "without its samples/step-000040.png: more than 1 MiB" in answer["said"]
    pulled = sorted(path.name for path in tmp_path.glob("**/snapshots/*/samples/*"))
    assert (len(pulled), pulled[0], pulled[-1]) == (11, "step-000001.png", "step-000036.png")


# -------------------------------------------------------------------------------------------------- other people's models


def files_of(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in snapshot(folder).items() if not path.startswith("checkpoints/")}


def changed(files: dict[str, bytes], path: str, **changes) -> dict[str, bytes]:
    return files | {path: json.dumps(json.loads(files[path]) | changes).encode()}


def test_checkpoints_that_others_made_load(lfs, hub, tmp_path, name):
    """As diffusers' train_unconditional.py leaves them, and the flat layout of older ones."""
    torch.manual_seed(3)
    channels = (32, 32, 64)
    unet = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon")
    scheduler.set_timesteps(50)
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "theirs")
    files, same = files_of(tmp_path / "theirs"), digest(unet)
    flat_files = {path.split("/")[-1]: content for path, content in files.items()}
    without = {
        path: content
        for path, content in flat_files.items()
        if path not in ("model_index.json", "scheduler_config.json")
    }
    for layout, content in {"theirs": files, "flat": flat_files, "bare": without}.items():
        hub.put(f"{name}-{layout}", content)
        answer = lfs.ask("pull", id_or_dir=f"{name}-{layout}")
        assert answer["value"]["weights"] == same, answer
        assert answer["value"]["t"] == 1000
        assert answer["value"]["betas"] == pytest.approx([1e-4, 0.02])
        assert ("the paper's betas are assumed" in answer["said"]) == (layout == "bare")
        folder = tmp_path / layout
        for path, data in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        assert torch.equal(checkpoint.load(folder).unet.conv_in.weight, unet.conv_in.weight)


UNET, INDEX, SCHEDULER = "unet/config.json", "model_index.json", "scheduler/scheduler_config.json"
STRANGERS = {
    "pickled": (
        lambda f: {p.replace(".safetensors", ".bin"): b for p, b in f.items()},
        "pickled weights can run code",
    ),
    "own pipeline": (
        lambda f: changed(f, INDEX, _class_name=["pipeline", "Mine"]) | {"pipeline.py": b"open('ran', 'w')"},
        "code of its own, which is never run",
    ),
    "own unet": (
        lambda f: changed(f, INDEX, unet=["mine", "Mine"]) | {"unet/mine.py": b"open('ran', 'w')"},
        "only a unet and a scheduler of diffusers are read",
    ),
    "latent": (lambda f: changed(f, INDEX, _class_name="LDMPipeline"), "a LDMPipeline; a DDPMPipeline is needed"),
    "conditional": (lambda f: changed(f, UNET, _class_name="UNet2DConditionModel"), "a UNet2DModel is needed"),
    "other scheduler": (lambda f: changed(f, SCHEDULER, _class_name="PNDMScheduler"), "a DDPMScheduler is needed"),
    "endless": (lambda f: changed(f, UNET, layers_per_block=10**9), "layers_per_block 1000000000: 1 to 32"),
    "huge network": (lambda f: changed(f, UNET, block_out_channels=[4096, 4096]), "do not belong together"),
    "no network": (lambda f: changed(f, UNET, down_block_types=["Nonsense", "Nonsense"]), "makes no network"),
    "too large": (lambda f: f, "more than 0"),
    "no model": (lambda f: {"README.md": b"hello"}, "no model_index.json"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_models_are_refused_before_their_weights_are_fetched(lfs, hub, run, tmp_path, name, kind):
    spoil, words = STRANGERS[kind]
    hub.put(name, spoil(files_of(run)))
    settings = {"cache": str(tmp_path)} | ({"MAX_WEIGHTS_BYTES": 5000} if kind == "too large" else {})
    assert words in lfs.error("pull", settings, id_or_dir=name)
    assert hub.count(path="/_storage/|safetensors|bin") == 0
    assert not (ROOT / "ran").exists()


def test_what_is_not_there_or_not_for_this_login(lfs, hub, run):
    hub.put("bob/secret", files_of(run), private=True)
    for missing in ("bob/secret", "alice/nothing"):
        message = lfs.error("pull", id_or_dir=missing)
        assert f"the Hub has no {missing}, or not for this login" in message


# ------------------------------------------------------------------------------------------------------------- datasets


def test_training_from_a_dataset_of_the_hub(lfs, hub, tmp_path):
    import datasets
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    rows = datasets.Dataset.from_dict({"image": [Image.fromarray(image) for image in pixels]})
    buffer = io.BytesIO()
    rows.cast_column("image", datasets.Image()).to_parquet(buffer)
    for owner, private in (("alice/pictures", False), ("alice/private-pictures", True)):
        hub.put(owner, {"data/train-00000-of-00001.parquet": buffer.getvalue()}, type="dataset", private=private)
        options = TINY | {"output_dir": str(tmp_path / owner), "dataset_name": owner, "max_train_steps": 2}
        settings = {"env": {"DDPM_CACHE": str(tmp_path / "prepared")}}
        if private:
            stranger = lfs.ask("train", {"env": settings["env"] | {"HF_TOKEN": None}}, **options)
            assert stranger["value"] == 1
            assert "not on the Hub, or not for this login" in stranger["said"]
        answer = lfs.ask("train", settings, **options)
        assert answer["value"] == 0, answer
        card = (tmp_path / owner / "README.md").read_text()
        assert f"datasets:\n- {owner}" in card


# ------------------------------------------------------------------------------------------------------------ the Space


def test_the_readmes_commands_deploy_the_space(lfs, hub, tmp_path):
    """Word for word, with another name, from a copy: the address of the Hub is the stand-in's."""
    skipped = shutil.ignore_patterns("__pycache__", ".git", "runs", ".*_cache", ".hypothesis", ".venv")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=skipped)
    (tmp_path / "copy/runs").mkdir()
    (tmp_path / "copy/runs/large.bin").write_bytes(b"state")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Deploy the Space")[1].split("\n## ")[0]
    lines = "".join(re.findall(r"```\n(.*?)```", section, re.DOTALL)).splitlines()
    assert len(lines) == 4
    programs = {"hf": str(Path(sys.executable).parent / "hf"), "python": sys.executable}
    env = lfs.env | {"PYTHONPATH": ""}
    for line in lines:
        words = shlex.split(line.replace("you/", "alice/"), comments=True)
        done = subprocess.run(
            [programs[words[0]], *words[1:]], cwd=tmp_path / "copy", env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert hub.variables["alice/ddpm"] == {"DDPM_MODEL": "alice/ddpm-digits", "DDPM_REVISION": "main"}
    assert set(checkpoint.Layout.of(up(hub, "alice/ddpm-mnist")).__dict__.values()) <= set(up(hub, "alice/ddpm-mnist"))
    repo = hub.store.repos["space", "alice/ddpm"]
    files = repo.commits[repo.branches["main"]].files
    assert {"app.py", "README.md", "requirements.txt", "ddpm/hub.py", "ddpm/ui/page.py"} <= set(files)
    assert files["ddpm/assets/mnist/unet/diffusion_pytorch_model.safetensors"].lfs
    assert not [path for path in files if path.startswith(("runs/", "tests/", ".git/", ".ci/"))]
