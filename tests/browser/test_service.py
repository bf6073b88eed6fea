"""What the server does for the page, without a browser."""

import math

import numpy as np
import pytest
from harness import make_model

from ddpm.checkpoint import load
from ddpm.ui.checks import InputError, SampleRequest, check_real, check_whole
from ddpm.ui.service import MAX_FRAMES, Service
from ddpm.ui.store import Store, Trajectory

GOOD = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 2, "seed": 1, "eta": 0}


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Service:
    return Service(load(make_model(tmp_path_factory.mktemp("model") / "m", 8, 1, 200)))


@pytest.mark.parametrize("value", [None, True, "5", math.nan, math.inf, -math.inf, 0, 17, 2.5, [], {}, 10**400])
def test_whole_numbers_out_of_range_are_refused(value):
    with pytest.raises(InputError, match="1 to 16"):
        check_whole("num_images", value, 1, 16)


def test_whole_numbers_in_range_pass():
    assert [check_whole("n", value, 1, 16) for value in (1, 16, 7.0)] == [1, 16, 7]
    assert check_real("eta", 1, 0, 1) == 1.0


@pytest.mark.parametrize("raw", [None, [], "x", {}, {**GOOD, "sampler": ["ddim"]}, {**GOOD, "sampler": "euler"}])
def test_nonsense_is_refused_and_named(raw):
    with pytest.raises(InputError, match="sampler"):
        SampleRequest.check(raw, 200, 16)


def test_a_long_value_is_quoted_in_short():
    with pytest.raises(InputError) as refused:
        check_whole("seed", "9" * 10_000, 0, 5)
    assert len(str(refused.value)) < 200


def test_a_run_ends_with_a_trajectory_down_to_0(service):
    messages = list(service.sample({**GOOD, "run": 4}))
    assert [message["kind"] for message in messages][-1] == "done"
    assert {message["run"] for message in messages} == {4}
    found = service.trajectory(messages[-1]["key"])
    assert found["t"] == [200, 160, 120, 80, 40, 0]
    assert found["n"] == 2


def test_a_long_run_keeps_a_spread_of_frames(service):
    *_, done = service.sample({**GOOD, "sampler": "ddpm", "num_inference_steps": 200, "num_images": 1})
    t = service.trajectory(done["key"])["t"]
    assert len(t) == MAX_FRAMES
    assert t[0] == 200
    assert t[-2:] == [1, 0]
    assert max(-np.diff(t)) <= 3


def test_a_seed_names_its_pictures(service):
    request = {**GOOD, "sampler": "ddpm"}
    again = Service(service.checkpoint)  # with an empty store
    pictures = []
    for drawing, seed in ((service, 8), (again, 8), (again, 9)):
        *_, done = drawing.sample({**request, "seed": seed})
        pictures.append(drawing.trajectory(done["key"])["data"])
    assert pictures[0] == pictures[1] != pictures[2]


def test_the_same_request_is_answered_from_the_store(service):
    request = {**GOOD, "seed": 77}
    assert len(list(service.sample(request))) > 1
    assert [message["kind"] for message in service.sample(request)] == ["done"]


def test_a_closed_generator_calls_the_model_no_more(service, monkeypatch):
    calls = []
    engine = service._engine
    monkeypatch.setattr(service, "_engine", lambda xt, t: calls.append(1) or engine(xt, t))
    run = service.sample({**GOOD, "num_inference_steps": 200, "seed": 5})
    next(run)
    run.close()
    made = len(calls)
    assert made < 20
    assert service.trajectory(SampleRequest("ddim", 200, 2, 5).key) is None
    assert len(calls) == made


def test_a_run_past_its_deadline_is_refused(service, monkeypatch):
    monkeypatch.setattr("ddpm.ui.service.RUN_LIMIT_S", 0)
    *_, last = service.sample({**GOOD, "num_inference_steps": 100, "seed": 6})
    assert last["kind"] == "refused"
    assert last["key"] == "refused.deadline"


def test_the_store_forgets_the_least_recently_used():
    store = Store(max_bytes=250)
    trajectories = [Trajectory(SampleRequest("ddim", 1, 1, seed), t=[0], frames=[bytes(100)]) for seed in range(3)]
    store.put(trajectories[0])
    store.put(trajectories[1])
    store.get(trajectories[0].request.key)
    store.put(trajectories[2])
    assert [store.get(t.request.key) is not None for t in trajectories] == [True, False, True]
    assert store.get(None) is None
    assert store.get(["x"]) is None
    assert store.get("nothing") is None
