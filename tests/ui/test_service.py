"""What the server does for the page: it samples, streams, keeps and stops."""

import base64
import threading
import time

import numpy as np
import pytest
import torch
from untrained import WatchedEngine, make_model, watched

from ddpm.checkpoint import Checkpoint, load
from ddpm.ui.server.limits import Allowance, Limits
from ddpm.ui.server.readings import browser_normal
from ddpm.ui.server.requests import DenoiseRequest, InputError, PictureRequest, SampleRequest, check_rows
from ddpm.ui.server.rows import COMPARED, FAULTS, FIRST_FAULT, ROW_IMAGES, scaled
from ddpm.ui.server.samplings import MAX_FRAMES, Samplings
from ddpm.ui.server.service import Service
from ddpm.ui.server.store import Store, Trajectory

GOOD = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 2, "seed": 1, "eta": 0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return load(make_model(tmp_path_factory.mktemp("model") / "m", 8, 1, 200))


@pytest.fixture(scope="module")
def service(checkpoint) -> Service:
    return Service(checkpoint)


def test_a_sampling_ends_with_a_trajectory_down_to_0(service):
    messages = list(service.samplings.sample({**GOOD, "run": 4}))
    assert [message["kind"] for message in messages][-1] == "done"
    assert {message["run"] for message in messages} == {4}
    found = service.trajectory(messages[-1]["key"])
    assert found["t"] == [200, 160, 120, 80, 40, 0]
    assert found["n"] == 2


@pytest.mark.slow
def test_a_long_sampling_keeps_a_spread_of_frames(service):
    *_, done = service.samplings.sample({**GOOD, "sampler": "ddpm", "num_inference_steps": 200, "num_images": 1})
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
        *_, done = drawing.samplings.sample({**request, "seed": seed})
        pictures.append(drawing.trajectory(done["key"])["data"])
    assert pictures[0] == pictures[1] != pictures[2]


def test_the_same_request_is_answered_from_the_store(service):
    request = {**GOOD, "seed": 77}
    assert len(list(service.samplings.sample(request))) > 1
    assert [message["kind"] for message in service.samplings.sample(request)] == ["row", "done"]


def test_a_closed_generator_calls_the_model_no_more(checkpoint):
    calls = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: calls.append(1)))
    messages = service.samplings.sample({**GOOD, "num_inference_steps": 200, "seed": 5})
    assert [next(messages)["kind"], next(messages)["kind"]] == ["started", "frame"]
    messages.close()
    made = len(calls)
    assert made < 20
    assert service.trajectory(SampleRequest("ddim", 200, 2, 5).key) is None
    assert len(calls) == made


def test_a_stopped_sampling_ends_within_a_step_and_those_of_other_visitors_go_on(checkpoint):
    """A slow model takes many calls for a step of many pictures, and nobody waits for more than one of them."""
    sizes = []

    def watch(xt, t):
        sizes.append(len(xt))
        if len(sizes) == 3:
            service.visitors.expect("sample", {"visitor": "a", "run": 2})  # Stop
            service.visitors.expect("sample", {"visitor": "b", "run": 2})

    service = Service(checkpoint, make_engine=watched(watch))
    service.samplings.images_per_call = 2
    first = {**GOOD, "num_images": 9, "seed": 51, "visitor": "a", "run": 1}
    assert [message["kind"] for message in service.samplings.sample(first)] == ["started"]
    assert sizes == [2, 2, 2]
    assert list(service.samplings.sample({**first, "visitor": "c"}))[-1]["kind"] == "done"
    assert sizes[3:] == [2, 2, 2, 2, 1] * 5


def test_a_sampling_past_its_deadline_is_refused(checkpoint):
    service = Service(checkpoint, limits=Limits(sampling=Allowance(0, 600, "refused.deadline")))
    *_, last = service.samplings.sample({**GOOD, "num_inference_steps": 100, "seed": 6})
    assert last["kind"] == "refused"
    assert last["key"] == "refused.deadline"


@pytest.mark.parametrize(("own", "wall", "key"), [(1000, 600, "refused.deadline"), (0, 0, "refused.crowded")])
def test_a_sampling_is_limited_by_its_own_seconds_and_the_clock_only_at_last(service, own, wall, key):
    samplings = Samplings(
        service.checkpoint,
        lambda xt, t: (torch.zeros_like(xt), own),
        service.readings,
        Store(),
        service.visitors,
        service.max_images,
        Limits(sampling=Allowance(150, wall, "refused.deadline")),
    )
    *_, last = samplings.sample({**GOOD, "seed": 61})
    assert (last["kind"], last["key"]) == ("refused", key)


ONE, OTHER = (np.random.default_rng(i).integers(0, 256, 64).astype(np.uint8) for i in range(2))


def denoised(service: Service, first: np.ndarray, second=None, t0=120, sampler="ddpm", images=1, steps=6) -> np.ndarray:
    """The finished pictures, (n, 64), float."""
    picture = PictureRequest("denoise", first.tobytes(), 7)
    second = None if second is None else second.tobytes()
    request = DenoiseRequest(picture, second, t0, SampleRequest(sampler, steps, images, seed=4))
    return np.frombuffer(service.samplings.get_or_draw(request).finished, np.uint8).reshape(images, 64).astype(float)


def test_a_picture_is_denoised_from_the_x_t_that_the_browser_shows(service):
    pictures = {"x0": base64.b64encode(ONE).decode(), "second": base64.b64encode(OTHER).decode()}
    raw = {**GOOD, **pictures, "noise_seed": 7, "t0": 120, "num_images": 3}
    _, first, *_, done = service.samplings.denoise({**raw, "run": 9})
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


def test_rows_begin_with_the_same_noise_and_count_their_calls(checkpoint):
    calls = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: calls.append(int(t[0]))))
    messages = list(service.samplings.sample_rows({**ROWS, "run": 3}))
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
    *_, alone = service.samplings.sample({**ROWS["rows"][2], "num_images": 2, "seed": 12})
    assert alone["key"] == keys[2], "a row is the trajectory that Reverse draws"


def test_only_the_row_that_changed_is_drawn_and_equal_rows_are_drawn_once(service):
    first = {**ROWS, "seed": 13}
    list(service.samplings.sample_rows(first))
    changed = [*first["rows"][:2], {"sampler": "ddpm", "num_inference_steps": 5}]
    messages = list(service.samplings.sample_rows({**first, "rows": [*changed, changed[2]]}))
    assert {message["row"] for message in messages if message["kind"] == "frame"} == {2}
    assert [message["row"] for message in messages if message["kind"] == "row"] == [0, 1, 2, 3]


def test_a_row_counts_its_own_seconds_and_not_the_wait_for_others(checkpoint):
    own, one_picture = [], torch.zeros(1, 1, 8, 8)

    class Timed(WatchedEngine):
        def __call__(self, xt, t):
            started = time.perf_counter()
            eps_hat = super().__call__(xt, t)
            if len(xt) > 1:
                own.append(time.perf_counter() - started)
            return eps_hat

    service = Service(checkpoint, make_engine=lambda made: Timed(made, lambda xt, t: time.sleep(0.1 * (len(xt) == 1))))
    busy = threading.Event()

    def other() -> None:  # another visitor, whose calls are of one picture and take longer
        while not busy.is_set():
            service.readings.eps_hat(one_picture, torch.tensor([0]))

    visitor = threading.Thread(target=other)
    visitor.start()
    started = time.monotonic()
    try:
        *_, row, _ = service.samplings.sample_rows(
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
def test_rows_out_of_range_are_refused_before_any_work(checkpoint, change, message, row):
    service = Service(checkpoint, make_engine=lambda made: None)
    with pytest.raises(InputError, match=message) as refused:
        check_rows({**ROWS, **change}, 200, 16)
    assert refused.value.fields.get("row") == row
    (answer,) = service.samplings.sample_rows({**ROWS, **change})
    assert (answer["kind"], answer["fields"]) == ("refused", refused.value.fields)


def test_closed_rows_call_the_model_no_more_and_keep_what_is_complete(checkpoint):
    calls = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: calls.append(1)))
    rows = [{"sampler": "ddim", "num_inference_steps": n} for n in (200, 2)]
    messages = service.samplings.sample_rows({**ROWS, "rows": rows, "seed": 15})
    complete = next(message for message in messages if message["kind"] == "row")
    messages.close()
    assert complete["row"] == 1, "half way through the other"
    assert 100 < len(calls) < 110
    assert service.trajectory(complete["key"])["t"] == [200, 100, 0]
    assert service.trajectory(SampleRequest("ddim", 200, 2, 15).key) is None


@pytest.mark.long
def test_the_examples_of_the_rows_are_those_that_a_first_click_asks_for(service):
    service.examples.draw_example()
    for name, rows in (("compare", COMPARED), ("wrong", FAULTS[FIRST_FAULT].rows(200))):
        rows = [scaled(row, 200) for row in rows]
        assert service.example_rows(name) is None
        service.examples.draw_rows(name, rows)
        messages = list(service.samplings.sample_rows({"rows": rows, "num_images": ROW_IMAGES, "seed": 1}))
        assert [m["kind"] for m in messages] == ["row"] * len(rows) + ["done"]
        assert [m["key"] for m in messages[:-1]] == service.example_rows(name)
    service.examples.draw_rows("compare", [{"sampler": "ddpm", "num_inference_steps": 100}], budget_s=0)
    (key,) = service.example_rows("compare")
    assert (service.trajectory(key)["n"], service.trajectory(key)["calls"]) == (1, 5), "smaller for a slow model"


def test_a_slow_model_denoises_a_smaller_example_of_both_kinds(service):
    service.examples.draw_example(budget_s=0)
    service.examples.denoise_example()
    several, between = (service.finished(kind) for kind in ("several", "between"))
    assert (several["n"], several["calls"]) == (1, 10)
    assert (between["n"], between["calls"]) == (2, 5), "a line has two ends; as much work as the other"


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
