"""A Hub on loopback, clients that talk to it, and models to push and pull."""

import json
import re
import shutil
import time

import pytest
import torch
from hub_standin import HubStandIn, User
from hub_tools import TOKEN, Client
from tiny import in_process

from ddpm import checkpoint
from ddpm.unet import build_unet


@pytest.fixture(scope="session")
def server():
    tokens = {TOKEN: User("alice"), "hf_read": User("alice", "read"), "hf_other": User("bob")}
    with HubStandIn(tokens) as hub:
        yield hub


@pytest.fixture(scope="session")
def clients(server, tmp_path_factory):
    started: dict[bool, Client] = {}

    def start(xet: bool) -> Client:
        if xet not in started:
            started[xet] = Client(server, tmp_path_factory.mktemp("home"), xet)
        return started[xet]

    yield start
    for client in started.values():
        client.process.stdin.close()
        client.process.wait(60)
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def published(clients, run, server):
    """The model as pushed by each transport: its name, and what a pull gives."""
    server.clear()
    done = {}
    for xet in (False, True):
        repo = f"alice/published-{'xet' if xet else 'lfs'}"
        done[xet] = clients(xet).value("push", directory=str(run), repo_id=repo)
    return done
