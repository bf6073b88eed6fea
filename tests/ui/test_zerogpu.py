"""A GPU by the call: what a ZeroGPU Space asks of the code, with a stand-in for its package."""

import contextvars
import importlib
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch

from ddpm.checkpoint import EMBEDDED, load
from ddpm.ui.server import zerogpu
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.requests import PictureRequest
from ddpm.ui.server.service import Service

REQUEST = contextvars.ContextVar("request", default=None)  # as the one in which Gradio keeps whose request this is


@pytest.fixture
def space(monkeypatch):
    """The module as it is on such a Space; leases are counted."""
    leases, wrapped = [], []

    def gpu(duration):
        def decorate(function):
            wrapped.append(function.__name__)

            def lease(*args):
                leases.append((REQUEST.get(), *args))
                return function(*args)

            return lease

        return decorate

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=gpu))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    module = importlib.reload(zerogpu)
    monkeypatch.setattr(module, "DEVICE", "cpu")
    yield module, wrapped, leases
    monkeypatch.undo()
    importlib.reload(zerogpu)


def ask():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, 28, 28, generator=draw), torch.tensor([0, 500, 999])


def test_small_networks_stay_on_the_cpu(space):
    module, wrapped, leases = space
    assert wrapped == ["compute"]
    module.engine(load(EMBEDDED))(*ask())
    assert not leases


def test_large_networks_are_computed_by_one_function_of_arrays(space, monkeypatch):
    module, _, leases = space
    monkeypatch.setattr(module, "SMALL", 0)
    checkpoint = load(EMBEDDED)
    eps_hat = module.engine(checkpoint)(*ask())
    assert torch.equal(eps_hat, checkpoint.engine()(*ask()))
    ((_, xt, t),) = leases
    assert type(xt) is type(t) is np.ndarray
    assert (xt.dtype, t.dtype, xt.shape) == (np.float32, np.int64, (3, 1, 28, 28))


def test_a_visitors_leases_are_the_visitors_and_few(space, monkeypatch):
    """A lease takes about a second and is counted against somebody: one for each step, however many pictures."""
    module, _, leases = space
    monkeypatch.setattr(module, "SMALL", 0)
    slow = module.compute
    monkeypatch.setattr(module, "compute", lambda *args: (time.sleep(0.3), slow(*args))[1])
    service = Service(load(EMBEDDED))
    try:
        service.draw_example(budget_s=1e9)
        leases.clear()
        REQUEST.set("a visitor")
        request = {"sampler": "ddim", "num_inference_steps": 4, "num_images": 8, "seed": 1, "visitor": "v", "run": 1}
        assert list(service.samplings.sample(request))[-1]["kind"] == "done"
        assert [(visitor, len(xt)) for visitor, xt, _ in leases] == [("a visitor", 8)] * 4
        leases.clear()
        picture = PictureRequest("predict", bytes(28 * 28), 1)
        assert list(service.readings.predict(picture))
        assert [visitor for visitor, *_ in leases] == ["a visitor"]
    finally:
        service.close()


def test_a_refused_lease_is_asked_for_again(space, monkeypatch, caplog):
    module, _, _ = space
    monkeypatch.setattr(module, "SMALL", 0)
    refusals, drawn, lease = [], threading.Event(), module.compute

    def compute(*args):
        if len(refusals) < 2:
            refusals.append(1)
            raise RuntimeError("Space app has reached its GPU limit")
        drawn.set()
        return lease(*args)

    monkeypatch.setattr(module, "compute", compute)
    service = Service(load(EMBEDDED), limits=Limits(retry_s=0.01))
    try:
        service.start_example()
        assert drawn.wait(60)
        assert [m.split(": ")[1] for m in caplog.messages] == ["Space app has reached its GPU limit"] * 2
    finally:
        service.close()


def test_elsewhere_nothing_happens(monkeypatch):
    assert "spaces" not in sys.modules
    monkeypatch.setattr(zerogpu, "SMALL", 0)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    checkpoint = load(EMBEDDED)
    assert torch.equal(zerogpu.engine(checkpoint)(*ask()), checkpoint.engine()(*ask()))
