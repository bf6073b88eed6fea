"""What the server says about a picture: one answer of the network, or every term of the bound, as long as one waits."""

import base64
import dataclasses

import numpy as np
import pytest
import torch
from untrained import make_model, watched

from ddpm.checkpoint import Checkpoint, load
from ddpm.elbo import elbo_terms
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.readings import spread
from ddpm.ui.server.service import Service
from ddpm.ui.server.visitors import MAX_VISITORS

ONE_CALL = Limits(predict_call_s=1000)  # the model is small, however slow this machine may be
MANY_CALLS = Limits(predict_call_s=0, bound_call_s=0)  # one timestep in each


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return load(make_model(tmp_path_factory.mktemp("model") / "m", 28, 1, 1000))


@pytest.fixture(scope="module")
def service(checkpoint) -> Service:
    return Service(checkpoint)


def raw(seed: int = 1, **more) -> dict:
    pixels = np.random.default_rng(seed).integers(0, 256, 784, np.uint8)
    return {"x0": base64.b64encode(pixels.tobytes()).decode(), "noise_seed": seed, **more}


# ---------------------------------------------------------------------------------------------- the noise at many t


def test_a_small_model_is_called_once(checkpoint):
    sizes = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: sizes.append(len(xt))), limits=ONE_CALL)
    list(service.readings.read("predict", raw()))  # now it is known how fast the network is
    sizes.clear()
    *_, done = service.readings.read("predict", raw(2, run=3))
    assert (done["kind"], done["run"]) == ("done", 3)
    assert sizes == [len(service.readings.timesteps)]
    found = service.readings.get(done["key"])
    assert found["t"][0] == 1
    assert found["t"][-1] == 1000
    assert len(base64.b64decode(found["data"])) == 2 * 784 * len(found["t"])
    sizes.clear()
    assert [message["kind"] for message in service.readings.read("predict", raw(2))] == ["done"]
    assert sizes == [], "from the store"


def test_the_next_picture_of_a_visitor_ends_the_one_before(checkpoint):
    service = Service(checkpoint, limits=MANY_CALLS)
    first = service.readings.read("predict", raw(3, visitor="a", run=1))
    next(first)
    other = service.readings.read("predict", raw(4, visitor="b", run=1))
    next(other)
    service.visitors.expect("predict", {"visitor": "a", "run": 2})
    assert list(first) == []
    assert next(other)["kind"] == "part", "another visitor's goes on"
    late = service.readings.read("predict", raw(5, visitor="a", run=1))
    assert list(late) == [], "one that had waited in the queue is not begun"
    assert next(service.readings.read("predict", raw(5, visitor="a", run=2)))["kind"] == "part"


@pytest.mark.parametrize(
    "nonsense", [None, [], "x", {}, {"visitor": 5, "run": "x"}, {"visitor": "a" * 10**5, "run": 1}]
)
def test_nonsense_about_visitors_does_no_harm(service, nonsense):
    service.visitors.expect("predict", nonsense)
    for i in range(MAX_VISITORS + 5):
        service.visitors.expect("predict", {"visitor": f"v{i}", "run": 1})
    assert len(service.visitors) == MAX_VISITORS


@pytest.mark.parametrize(("limit", "key"), [("wall_s", "refused.crowded"), ("own_s", "refused.slow")])
def test_a_reading_that_takes_too_long_is_refused(checkpoint, limit, key):
    allowance = dataclasses.replace(Limits().predict, **{limit: -1})
    service = Service(checkpoint, limits=Limits(predict=allowance))
    *_, last = service.readings.read("predict", raw(6))
    assert (last["kind"], last["key"]) == ("refused", key)


def test_timesteps_reach_from_end_to_end():
    for num_steps in (2, 40, 1000, 4000):
        t = spread(num_steps, 64)
        assert t == sorted(set(t))
        assert (t[0], t[-1]) == (0, num_steps - 1)
        assert len(t) <= 64


# -------------------------------------------------------------------------------------------------------- the bound


@pytest.mark.slow
def test_the_terms_add_up_to_elbo_terms(service, checkpoint):
    request = raw(5)
    *parts, done = service.readings.read("bound", request)
    found = service.readings.get(done["key"])
    pixels = torch.tensor(list(base64.b64decode(request["x0"])), dtype=torch.float64).reshape(1, 1, 28, 28)
    generator = torch.Generator().manual_seed(5)
    x0 = (pixels / 127.5 - 1).float()
    truth = elbo_terms(checkpoint.engine(), checkpoint.schedule, x0, generator=generator, batch_size=64)
    assert found["total"] == pytest.approx(truth.total.item(), abs=1e-5)
    assert found["prior"] + sum(found["bits"]) == pytest.approx(truth.total.item(), abs=1e-5)
    assert np.abs(np.array(found["bits"][1:]) - truth.kl[0].numpy()).max() < 1e-5
    assert np.abs(np.array(found["mse"]) - truth.eps_mse[0].numpy()).max() < 1e-5
    streamed = [bit for part in parts for bit in part["bits"]]
    assert len(streamed) == 1000
    assert np.allclose(streamed, found["bits"], rtol=1e-3), "what streamed in is the same in short"
    assert parts[-1]["done"] == 1000


def test_a_closed_generator_and_a_new_picture_call_the_model_no_more(checkpoint):
    calls = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: calls.append(1)), limits=MANY_CALLS)
    closed = service.readings.read("bound", raw(6))
    next(closed)
    closed.close()
    assert len(calls) == 1
    superseded = service.readings.read("bound", raw(7, visitor="a", run=1))
    next(superseded)
    before = len(calls)
    service.visitors.expect("bound", {"visitor": "a", "run": 2})
    assert list(superseded) == []
    assert len(calls) == before


def test_a_fault_of_ours_is_said_and_logged(checkpoint, capsys):
    service = Service(checkpoint, make_engine=watched(lambda xt, t: 1 / 0))
    assert [message["kind"] for message in service.readings.read("bound", raw(9))] == ["failed"]
    assert "ZeroDivisionError" in capsys.readouterr().err
