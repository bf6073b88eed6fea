"""A GPU by the call: what a ZeroGPU Space asks of the code, with a stand-in for its package."""

import importlib
import sys
import types

import numpy as np
import pytest
import torch

from ddpm.checkpoint import EMBEDDED, load
from ddpm.ui import zerogpu


@pytest.fixture
def space(monkeypatch):
    """The module as it is on such a Space; leases are counted."""
    leases, wrapped = [], []

    def gpu(duration):
        def decorate(function):
            wrapped.append(function.__name__)

            def lease(*args):
                leases.append(args)
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
    ((xt, t),) = leases
    assert type(xt) is type(t) is np.ndarray
    assert (xt.dtype, t.dtype, xt.shape) == (np.float32, np.int64, (3, 1, 28, 28))


def test_elsewhere_nothing_happens(monkeypatch):
    assert "spaces" not in sys.modules
    monkeypatch.setattr(zerogpu, "SMALL", 0)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    checkpoint = load(EMBEDDED)
    assert torch.equal(zerogpu.engine(checkpoint)(*ask()), checkpoint.engine()(*ask()))
