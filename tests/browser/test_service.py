"""What the server does for the page, without a browser."""

import base64
import math
import threading
import time

import numpy as np
import pytest
from fastapi import HTTPException
from harness import make_model

from ddpm.checkpoint import load
from ddpm.ui.server.readings import browser_normal
from ddpm.ui.server.requests import (
    DenoiseRequest,
    InputError,
    PictureRequest,
    SampleRequest,
    check_real,
    check_rows,
    check_whole,
)
from ddpm.ui.server.rows import COMPARED, FAULTS, FIRST_FAULT, ROW_IMAGES, scaled
from ddpm.ui.server.samplings import MAX_FRAMES
from ddpm.ui.server.service import Service
from ddpm.ui.server.store import Store, Trajectory
from ddpm.ui.tabs.parts import looked_up

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


def test_a_value_that_is_no_text_is_refused_in_text():
    with pytest.raises(InputError) as refused:
        SampleRequest.check({**GOOD, "sampler": "\ud800"}, 200, 16)  # as JSON can bring it; Gradio's stream ends at it
    refused.value.fields["value"].encode()


def test_a_long_value_is_quoted_in_short():
    with pytest.raises(InputError) as refused:
        check_whole("seed", "9" * 10_000, 0, 5)
    assert len(str(refused.value)) < 200


def test_a_run_ends_with_a_trajectory_down_to_0(service):
    messages = list(service.runs.sample({**GOOD, "run": 4}))
    assert [message["kind"] for message in messages][-1] == "done"
    assert {message["run"] for message in messages} == {4}
    found = service.trajectory(messages[-1]["key"])
    assert found["t"] == [200, 160, 120, 80, 40, 0]
    assert found["n"] == 2


def test_a_long_run_keeps_a_spread_of_frames(service):
    *_, done = service.runs.sample({**GOOD, "sampler": "ddpm", "num_inference_steps": 200, "num_images": 1})
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
        *_, done = drawing.runs.sample({**request, "seed": seed})
        pictures.append(drawing.trajectory(done["key"])["data"])
    assert pictures[0] == pictures[1] != pictures[2]


def test_the_same_request_is_answered_from_the_store(service):
    request = {**GOOD, "seed": 77}
    assert len(list(service.runs.sample(request))) > 1
    assert [message["kind"] for message in service.runs.sample(request)] == ["row", "done"]


def test_a_closed_generator_calls_the_model_no_more(service, monkeypatch):
    calls = []
    engine = service._engine
    monkeypatch.setattr(service, "_engine", lambda xt, t: calls.append(1) or engine(xt, t))
    run = service.runs.sample({**GOOD, "num_inference_steps": 200, "seed": 5})
    assert [next(run)["kind"], next(run)["kind"]] == ["started", "frame"]
    run.close()
    made = len(calls)
    assert made < 20
    assert service.trajectory(SampleRequest("ddim", 200, 2, 5).key) is None
    assert len(calls) == made


def test_a_stopped_run_ends_within_a_step_and_other_visitors_run_on(service, monkeypatch):
    """Of a slow model a step of many pictures is many calls, and nobody waits for more than one of them."""
    sizes = []
    engine = service._engine

    def slow(xt, t):
        sizes.append(len(xt))
        if len(sizes) == 3:
            service.readings.expect("sample", {"visitor": "a", "run": 2})  # Stop
            service.readings.expect("sample", {"visitor": "b", "run": 2})
        return engine(xt, t)

    monkeypatch.setattr(service, "_engine", slow)
    monkeypatch.setattr(service.runs, "piece", 2)
    first = {**GOOD, "num_images": 9, "seed": 51, "visitor": "a", "run": 1}
    assert [message["kind"] for message in service.runs.sample(first)] == ["started"]
    assert sizes == [2, 2, 2]
    assert list(service.runs.sample({**first, "visitor": "c"}))[-1]["kind"] == "done"
    assert sizes[3:] == [2, 2, 2, 2, 1] * 5


def test_a_run_past_its_deadline_is_refused(service, monkeypatch):
    monkeypatch.setattr("ddpm.ui.server.samplings.RUN_LIMIT_S", 0)
    *_, last = service.runs.sample({**GOOD, "num_inference_steps": 100, "seed": 6})
    assert last["kind"] == "refused"
    assert last["key"] == "refused.deadline"


@pytest.mark.parametrize(("own", "wall", "key"), [(1000, 600, "refused.deadline"), (0, 0, "refused.crowded")])
def test_a_run_is_limited_by_its_own_seconds_and_the_clock_only_at_last(service, monkeypatch, own, wall, key):
    timed = service.runs._timed
    monkeypatch.setattr(service.runs, "_timed", lambda xt, t: (timed(xt, t)[0], own))
    monkeypatch.setattr("ddpm.ui.server.samplings.WALL_LIMIT_S", wall)
    *_, last = service.runs.sample({**GOOD, "seed": 61})
    assert (last["kind"], last["key"]) == ("refused", key)


def test_a_fault_of_ours_in_a_look_up_is_logged_and_not_told(caplog):
    broken = looked_up(lambda asked: {}[asked])
    with pytest.raises(HTTPException) as answer:
        broken("/etc/passwd")
    assert (answer.value.status_code, answer.value.detail) == (500, "the server could not answer")
    assert "KeyError: '/etc/passwd'" in caplog.text


ONE, OTHER = (np.random.default_rng(i).integers(0, 256, 64).astype(np.uint8) for i in range(2))


def denoised(service: Service, first: np.ndarray, second=None, t0=120, sampler="ddpm", images=1, steps=6) -> np.ndarray:
    """The finished pictures, (n, 64), float."""
    picture = PictureRequest("denoise", first.tobytes(), 7)
    second = None if second is None else second.tobytes()
    request = DenoiseRequest(picture, second, t0, SampleRequest(sampler, steps, images, seed=4))
    return np.frombuffer(service.runs.whole(request).finished, np.uint8).reshape(images, 64).astype(float)


def test_a_picture_is_denoised_from_the_x_t_that_the_browser_shows(service):
    pictures = {"x0": base64.b64encode(ONE).decode(), "second": base64.b64encode(OTHER).decode()}
    raw = {**GOOD, **pictures, "noise_seed": 7, "t0": 120, "num_images": 3}
    _, first, *_, done = service.runs.denoise({**raw, "run": 9})
    assert (done["kind"], done["run"], first["t"]) == ("done", 9, 120)
    alpha_bar = service.checkpoint.schedule.alpha_bar[119].item()
    planes = np.frombuffer(base64.b64decode(first["data"]), np.uint8).reshape(3, 3, 64)
    for shown, share in zip(planes[0], (0, 0.5, 1), strict=True):
        clean = ((1 - share) * ONE + share * OTHER) / 127.5 - 1
        xt = alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * browser_normal(7, 64)
        np.testing.assert_allclose(shown, ((xt + 1) * 127.5).clip(0, 255), atol=0.51)
    found = service.finished(done["key"])
    assert {name: found["request"][name] for name in raw} == raw
    assert len(base64.b64decode(found["data"])) == 3 * 64


def test_the_first_timestep_gives_the_picture_back(service):
    assert np.abs(denoised(service, ONE, t0=1, steps=1, images=2) - ONE).max() <= 8


def test_only_noise_of_later_steps_tells_results_apart(service):
    several = denoised(service, ONE, images=3)
    assert np.abs(several[0] - several[1]).mean() > 1 < np.abs(several[1] - several[2]).mean()
    same = denoised(service, ONE, images=3, sampler="ddim")
    assert np.abs(same - same[0]).max() <= 1


def test_a_line_between_pictures_ends_at_what_each_alone_gives(service):
    line = denoised(service, ONE, OTHER, images=5)
    for end, picture in ((line[0], ONE), (line[-1], OTHER)):
        assert np.abs(end - denoised(service, picture)[0]).max() <= 1
    steps = np.abs(np.diff(line, axis=0)).mean(1)
    assert 0 < steps.max() < 3 * steps.min(), "it goes from one to the other step by step"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": "AAAA"}, "second: a picture of 64 bytes"),
        ({"x0": None}, "x0: a picture of 64 bytes"),
        ({"t0": 0}, "t0 = 0: a whole number from 1 to 200"),
        ({"t0": 201}, "t0 = 201: a whole number from 1 to 200"),
        ({"t0": 4}, "num_inference_steps = 5: a whole number from 1 to 4"),
        ({"num_images": 1, "second": base64.b64encode(OTHER).decode()}, "num_images = 1: a whole number from 2 to 16"),
        ({"num_images": 17}, "from 1 to 16"),
        ({"noise_seed": -1}, "noise_seed = -1"),
        ({"sampler": "euler"}, "sampler = euler"),
    ],
)
def test_what_cannot_be_denoised_is_named(change, message):
    good = {**GOOD, "x0": base64.b64encode(ONE).decode(), "second": None, "noise_seed": 7, "t0": 120}
    DenoiseRequest.check(good, 200, 16, (8, 8, 1))
    with pytest.raises(InputError, match=message):
        DenoiseRequest.check({**good, **change}, 200, 16, (8, 8, 1))


ROWS = {
    "rows": [
        {"sampler": "ddpm", "num_inference_steps": 20},
        {"sampler": "dpm_solver++", "num_inference_steps": 4},
        {"sampler": "ddim", "num_inference_steps": 10, "eta": 0.5},
    ],
    "num_images": 2,
    "seed": 12,
}


def frames(found: dict) -> np.ndarray:
    """(frame, plane, picture, pixel) of a trajectory as the browser gets it."""
    data = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
    return data.reshape(len(found["t"]), 3, found["n"], -1)


def test_rows_begin_with_the_same_noise_and_count_their_calls(service, monkeypatch):
    calls = []
    engine = service._engine
    monkeypatch.setattr(service, "_engine", lambda xt, t: calls.append(int(t[0])) or engine(xt, t))
    messages = list(service.runs.rows({**ROWS, "run": 3}))
    assert {message["run"] for message in messages} == {3}
    assert messages[-1]["kind"] == "done"
    keys = {message["row"]: message["key"] for message in messages if message["kind"] == "row"}
    found = [service.trajectory(keys[row]) for row in range(3)]
    assert [f["calls"] for f in found] == [20, 4, 10]
    assert len(calls) == 34
    assert calls == sorted(calls, reverse=True), "all rows pass t together"
    assert all(f["seconds"] > 0 for f in found)
    first = [frames(f)[0, 0] for f in found]
    assert (first[0] == first[1]).all()
    assert (first[0] == first[2]).all()
    assert (frames(found[0])[-1, 0] != frames(found[1])[-1, 0]).any()
    *_, alone = service.runs.sample({**ROWS["rows"][2], "num_images": 2, "seed": 12})
    assert alone["key"] == keys[2], "a row is the trajectory that Reverse draws"


def test_only_the_row_that_changed_is_run_and_equal_rows_run_once(service):
    first = {**ROWS, "seed": 13}
    list(service.runs.rows(first))
    changed = [*first["rows"][:2], {"sampler": "ddpm", "num_inference_steps": 5}]
    messages = list(service.runs.rows({**first, "rows": [*changed, changed[2]]}))
    assert {message["row"] for message in messages if message["kind"] == "frame"} == {2}
    assert [message["row"] for message in messages if message["kind"] == "row"] == [0, 1, 2, 3]


def test_a_row_counts_its_own_seconds_and_not_the_wait_for_others(service, monkeypatch):
    engine, own = service._engine, []

    def timed(xt, t):
        started = time.perf_counter()
        eps_hat = engine(xt, t)
        own.append(time.perf_counter() - started)
        return eps_hat

    monkeypatch.setattr(service, "_engine", timed)
    busy = threading.Event()

    def other() -> None:  # another visitor, whose calls take longer
        while not busy.is_set():
            service._model_thread.submit(time.sleep, 0.1).result()

    visitor = threading.Thread(target=other)
    visitor.start()
    started = time.monotonic()
    try:
        *_, row, _ = service.runs.rows(
            {**ROWS, "rows": [{"sampler": "ddim", "num_inference_steps": 8}] * 2, "seed": 14}
        )
    finally:
        busy.set()
        visitor.join()
    taken = time.monotonic() - started
    seconds = service.trajectory(row["key"])["seconds"]
    assert sum(own) <= seconds + 0.001
    assert seconds - sum(own) < 0.5 * (taken - sum(own)), "what is not the network's is mostly waiting"


@pytest.mark.parametrize(
    ("change", "message", "row"),
    [
        ({"rows": ROWS["rows"][:1]}, "1: a whole number from 2 to 4", None),
        ({"rows": ROWS["rows"] * 2}, "6: a whole number from 2 to 4", None),
        ({"rows": "all"}, "2 to 4", None),
        ({"rows": [{"sampler": "ddim", "num_inference_steps": 5}, {"sampler": "euler"}]}, "euler", 2),
        ({"rows": [{"sampler": "ddim", "num_inference_steps": 201}, ROWS["rows"][0]]}, "201: .* 1 to 200", 1),
        ({"rows": [ROWS["rows"][0], {**ROWS["rows"][0], "start_t": 10}]}, "20: .* 1 to 10", 2),
        ({"rows": [ROWS["rows"][0], {**ROWS["rows"][0], "start_t": 0}]}, "0: .* 1 to 200", 2),
        ({"rows": [ROWS["rows"][0], {**ROWS["rows"][2], "fresh_noise": "never"}]}, "never", 2),
        ({"rows": [ROWS["rows"][0], {**ROWS["rows"][2], "clip": 1}]}, "1: one of true, false", 2),
        ({"rows": [ROWS["rows"][0], None]}, "sampler", 2),
        ({"rows": [{"sampler": "ddim", "num_inference_steps": 150}] * 3}, "450 .* 400", None),
        ({"num_images": 9}, "9: .* 1 to 8", None),
        ({"seed": -1}, "-1", None),
    ],
)
def test_rows_out_of_range_are_refused_before_any_work(service, monkeypatch, change, message, row):
    monkeypatch.setattr(service, "_engine", None)
    with pytest.raises(InputError, match=message) as refused:
        check_rows({**ROWS, **change}, 200, 16)
    assert refused.value.fields.get("row") == row
    (answer,) = service.runs.rows({**ROWS, **change})
    assert (answer["kind"], answer["fields"]) == ("refused", refused.value.fields)


def test_closed_rows_call_the_model_no_more_and_keep_what_is_complete(service, monkeypatch):
    calls = []
    engine = service._engine
    monkeypatch.setattr(service, "_engine", lambda xt, t: calls.append(1) or engine(xt, t))
    rows = [{"sampler": "ddim", "num_inference_steps": n} for n in (200, 2)]
    run = service.runs.rows({**ROWS, "rows": rows, "seed": 15})
    complete = next(message for message in run if message["kind"] == "row")
    run.close()
    assert complete["row"] == 1, "half way through the other"
    assert 100 < len(calls) < 110
    assert service.trajectory(complete["key"])["t"] == [200, 100, 0]
    assert service.trajectory(SampleRequest("ddim", 200, 2, 15).key) is None


def test_the_examples_of_the_rows_are_those_that_a_first_click_asks_for(service):
    service.draw_example()
    for name, rows in (("compare", COMPARED), ("wrong", FAULTS[FIRST_FAULT].rows(200))):
        rows = [scaled(row, 200) for row in rows]
        assert service.example_rows(name) is None
        service.draw_rows(name, rows)
        messages = list(service.runs.rows({"rows": rows, "num_images": ROW_IMAGES, "seed": 1}))
        assert [m["kind"] for m in messages] == ["row"] * len(rows) + ["done"]
        assert [m["key"] for m in messages[:-1]] == service.example_rows(name)
    service.draw_rows("compare", [{"sampler": "ddpm", "num_inference_steps": 100}], budget_s=0)
    (key,) = service.example_rows("compare")
    assert (service.trajectory(key)["n"], service.trajectory(key)["calls"]) == (1, 5), "smaller for a slow model"


def test_a_slow_model_denoises_a_smaller_example_of_both_kinds(service):
    service.draw_example(budget_s=0)
    service.denoise_example()
    several, between = (service.finished(kind) for kind in ("several", "between"))
    assert (several["n"], several["calls"]) == (1, 10)
    assert (between["n"], between["calls"]) == (2, 5), "a line has two ends; as much work as the other"


def test_every_fault_can_be_asked_for_with_any_schedule():
    for fault in FAULTS.values():
        for num_steps in (20, 40, 1000):
            right, wrong = check_rows({"rows": fault.rows(num_steps), "num_images": 1, "seed": 1}, num_steps, 4)
            assert right != wrong


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
