"""What the tests of the Hub share: a client in a process of its own, and what lies on the Hub and on the disk."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from hub_standin import HubStandIn

ROOT = Path(__file__).parents[2]
TOKEN = "hf_write_0123456789"
COMMIT = "/commit/"


class Client:
    """The real client in a process of its own, see hub_client.py, and all that it ever said."""

    def __init__(self, hub: HubStandIn, home: Path, xet: bool) -> None:
        self.hub, self.home, self.xet, self.said, self.is_there = hub, home, xet, [], False
        env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        env |= hub.env(token=TOKEN, home=home, xet=xet) | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
        self.env = env | {"HF_XET_CLIENT_RETRY_BASE_DELAY": "20ms"}
        words = [sys.executable, str(ROOT / "tests/hub/hub_client.py")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(words, cwd=ROOT, env=self.env, text=True, **pipes)

    def ask(self, call: str, settings: dict | None = None, **args) -> dict:
        """`settings`: those of ddpm.hub.limits, `env`, `cache`, `offline`."""
        request = {"call": call, "args": args, "settings": settings or {}}
        too_late = threading.Timer(150, self.process.kill)
        too_late.start()
        if not self.is_there:
            self.process.stdout.readline()  # its first line, before any answer
            self.is_there = True
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


def files_of(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in snapshot(folder).items() if not path.startswith("checkpoints/")}


def changed(files: dict[str, bytes], path: str, **changes) -> dict[str, bytes]:
    return files | {path: json.dumps(json.loads(files[path]) | changes).encode()}
