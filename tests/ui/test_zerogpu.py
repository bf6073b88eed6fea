"""A GPU by the call: what a ZeroGPU Space asks of the code, with a stand-in for its package."""

import contextlib
import contextvars
import importlib
import sys
import threading
import time

import numpy as np
import pytest
import torch
from untrained import make_model

from ddpm.checkpoint import EMBEDDED, load
from ddpm.ui.server import zerogpu
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.requests import PictureRequest
from ddpm.ui.server.service import Service

REQUEST = contextvars.ContextVar("request", default=None)  # as the one in which Gradio keeps whose request this is


class Spaces:
    """Stands in for the Space's package `spaces`.

    Attributes:
        wrapped: names of the functions that asked for a GPU.
        leases: the visitor and the arguments of every lease.
        grant: called at every lease; it may take its time, or refuse by an exception.
    """

    def __init__(self):
        self.wrapped, self.leases, self.grant = [], [], lambda: None

    def GPU(self, duration):  # noqa: N802 - the package's name
        def decorate(function):
            self.wrapped.append(function.__name__)

            def lease(*args):
                self.grant()
                self.leases.append((REQUEST.get(), *args))
                return function(*args)

            return lease

        return decorate


@pytest.fixture
def spaces(monkeypatch):
    """`zerogpu` is what it is on such a Space. It looks for the package when it is imported, so it is imported again."""
    package = Spaces()
    monkeypatch.setitem(sys.modules, "spaces", package)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    importlib.reload(zerogpu)
    yield package
    monkeypatch.undo()
    importlib.reload(zerogpu)


def every_network():
    """Even the embedded one, and on the CPU, since this machine has no GPU to lend."""
    return zerogpu.Terms(smallest=0, device="cpu")


@contextlib.contextmanager
def serving(limits=None):
    service = Service(load(EMBEDDED), limits=limits, terms=every_network())
    try:
        yield service
    finally:
        service.close()


def ask():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, 28, 28, generator=draw), torch.tensor([0, 500, 999])


def test_small_networks_stay_on_the_cpu(spaces):
    assert spaces.wrapped == ["compute"]
    zerogpu.engine(load(EMBEDDED), zerogpu.Terms())(*ask())
    assert not spaces.leases


def test_large_networks_are_computed_by_one_function_of_arrays(spaces):
    checkpoint = load(EMBEDDED)
    eps_hat = zerogpu.engine(checkpoint, every_network())(*ask())
    assert torch.equal(eps_hat, checkpoint.engine()(*ask()))
    ((_, _, xt, t),) = spaces.leases
    assert type(xt) is type(t) is np.ndarray
    assert (xt.dtype, t.dtype, xt.shape) == (np.float32, np.int64, (3, 1, 28, 28))


def test_the_vectors_of_labels_go_along(spaces, tmp_path):
    checkpoint = load(make_model(tmp_path / "labelled", 8, 1, 200, names=("cat", "dog")))
    asked = torch.randn(3, 1, 8, 8), torch.tensor([0, 100, 199]), torch.tensor([1, -1, 0])
    eps_hat = zerogpu.engine(checkpoint, every_network())(*asked)
    assert torch.equal(eps_hat, checkpoint.engine()(*asked))
    ((_, _, *arrays),) = spaces.leases
    assert [array.shape for array in arrays] == [(3, 1, 8, 8), (3,), (3, 32)]
    assert (arrays[2][0] == checkpoint.classes.vectors[1].numpy()).all()
    assert not arrays[2][1].any(), "no label"


def test_both_halves_of_guidance_are_one_lease(spaces, tmp_path):
    checkpoint = load(make_model(tmp_path / "labelled", 8, 1, 200, names=("cat", "dog")))
    service = Service(checkpoint, terms=every_network())
    request = {"sampler": "ddim", "num_inference_steps": 3, "num_images": 16, "seed": 1, "label": 1}
    for scale, images in ((1, 16), (3, 32)):
        spaces.leases.clear()
        assert list(service.samplings.sample({**request, "guidance_scale": scale}))[-1]["kind"] == "done"
        assert [len(xt) for _, _, xt, *_ in spaces.leases] == [images] * 3
    service.close()


@pytest.mark.long
def test_a_visitors_leases_are_the_visitors_and_few(spaces):
    """A lease takes about a second and is counted against somebody: one for each step, however many pictures."""
    spaces.grant = lambda: time.sleep(0.3)
    with serving() as service:
        service.examples.draw_example(budget_s=1e9)
        spaces.leases.clear()
        REQUEST.set("a visitor")
        request = {"sampler": "ddim", "num_inference_steps": 4, "num_images": 8, "seed": 1, "visitor": "v", "run": 1}
        assert list(service.samplings.sample(request))[-1]["kind"] == "done"
        assert [(visitor, len(xt)) for visitor, _, xt, _ in spaces.leases] == [("a visitor", 8)] * 4
        spaces.leases.clear()
        picture = PictureRequest("predict", bytes(28 * 28), 1)
        assert list(service.readings.predict(picture))
        assert [visitor for visitor, *_ in spaces.leases] == ["a visitor"]


def test_a_refused_lease_is_asked_for_again(spaces, caplog):
    refusals, drawn = [], threading.Event()

    def grant():
        if len(refusals) < 2:
            refusals.append(1)
            raise RuntimeError("Space app has reached its GPU limit")
        drawn.set()

    spaces.grant = grant
    with serving(Limits(retry_s=0.01)) as service:
        service.start_example()
        assert drawn.wait(60)
        assert [m.split(": ")[1] for m in caplog.messages] == ["Space app has reached its GPU limit"] * 2


def test_elsewhere_nothing_happens(monkeypatch):
    assert "spaces" not in sys.modules
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    checkpoint = load(EMBEDDED)
    assert torch.equal(zerogpu.engine(checkpoint, every_network())(*ask()), checkpoint.engine()(*ask()))
