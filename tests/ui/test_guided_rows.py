"""What the server does for the tab "Labels": rows of one noise by guidance scale, and the label that a picture has."""

import base64

import numpy as np
import pytest
import torch
from untrained import make_model, watched

from ddpm.checkpoint import Checkpoint, load
from ddpm.class_names import ClassNames
from ddpm.elbo import class_posterior
from ddpm.sampling import sample
from ddpm.ui.server.guided_rows import IMAGES, SCALES, STEPS, first_class, most_images
from ddpm.ui.server.limits import Allowance, Limits
from ddpm.ui.server.readings import browser_normal
from ddpm.ui.server.requests import SampleRequest
from ddpm.ui.server.service import Service

NAMES = ("cat", "Dog", "a label with a long name", "3", "4")
GOOD = {"label": 1, "num_images": 2, "seed": 5}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return load(make_model(tmp_path_factory.mktemp("model") / "m", 8, 1, 200, names=NAMES))


@pytest.fixture(scope="module")
def service(checkpoint) -> Service:
    return Service(checkpoint)


def drawn(service: Service, **changed: object) -> list[dict]:
    """The rows as the browser fetches them."""
    messages = list(service.samplings.sample_guided({**GOOD, **changed}))
    assert messages[-1]["kind"] == "done", messages[-1]
    keys = {message["row"]: message["key"] for message in messages if message["kind"] == "row"}
    return [{"key": keys[row], **service.trajectory(keys[row])} for row in range(len(SCALES))]


def planes(row: dict) -> np.ndarray:
    """(frames, plane, n, pixels) uint8: x_t, x0_hat and eps_hat."""
    return np.frombuffer(base64.b64decode(row["data"]), np.uint8).reshape(len(row["t"]), 3, row["n"], -1)


def halves(service: Service, row: dict, picture: int) -> np.ndarray:
    """(frames, half, pixels) of one picture: x_t, eps_0 and eps_c."""
    found = service.samplings.halves({"key": row["key"], "picture": picture})
    assert found["t"] == row["t"][:-1]
    numbers = np.frombuffer(base64.b64decode(found["data"]), "<f2").astype(np.float32)
    return numbers.reshape(len(found["t"]), 3, found["side"] ** 2)


def test_each_row_is_what_reverse_process_draws_with_its_scale(service, checkpoint):
    rows = drawn(service)
    assert [row["request"]["guidance_scale"] for row in rows] == list(SCALES)
    noise = [planes(row)[0, 0] for row in rows]
    assert all((each == noise[0]).all() for each in noise), "all begin with the same noise"
    for s, row in zip(SCALES, rows, strict=True):
        options = {"sampler": "ddim", "num_inference_steps": STEPS, "seed": 5, "labels": torch.tensor([1, 1])}
        alone = sample(checkpoint.engine(), checkpoint.scheduler, (2, 1, 8, 8), guidance_scale=s, **options)
        expected = ((alone + 1) * 127.5).clamp(0, 255).flatten(1).numpy()
        np.testing.assert_allclose(planes(row)[-1, 0], expected, atol=0.51 + 0.01)
    finished = [planes(row)[-1, 0].tobytes() for row in rows]
    assert len(set(finished)) == len(SCALES), "and end apart"


def test_the_row_without_the_label_is_the_unconditional_sample(service):
    rows = drawn(service)
    *_, done = service.samplings.sample(
        {"sampler": "ddim", "num_inference_steps": STEPS, "num_images": 2, "seed": 5, "eta": 0}
    )
    alone = planes(service.trajectory(done["key"]))[-1, 0].astype(int)
    assert np.abs(planes(rows[0])[-1, 0] - alone).max() <= 1


def test_the_halves_are_the_two_answers_and_add_up_to_each_rows_noise(service, checkpoint):
    engine, rows = checkpoint.engine(), drawn(service)
    for s, row in zip(SCALES, rows, strict=True):
        for picture in (0, 1):
            xt, eps_0, eps_c = halves(service, row, picture).transpose(1, 0, 2)
            t = torch.tensor(row["t"][:-1]) - 1
            for label, kept in ((-1, eps_0), (1, eps_c)):
                answer = engine(torch.tensor(xt).reshape(-1, 1, 8, 8), t, torch.full_like(t, label))
                np.testing.assert_allclose(kept, answer.flatten(1).numpy(), atol=0.02)  # x_t in half precision
            eps_hat = ((eps_0 + s * (eps_c - eps_0)) / 6 + 0.5) * 255
            shown = planes(row)[:-1, 2, picture]
            np.testing.assert_allclose(shown, eps_hat.clip(0, 255), atol=0.51 + (1 + 2 * s) * 0.05)


def test_a_step_of_all_rows_is_one_call_of_the_network(checkpoint):
    sizes = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: sizes.append(len(xt))))
    service.samplings.images_per_call = 100
    messages = list(service.samplings.sample_guided(GOOD))
    assert sizes == [2 * len(SCALES) * 2] * STEPS
    frame = next(message for message in messages if message["kind"] == "frame")
    assert [part["row"] for part in frame["parts"]] == list(range(len(SCALES)))
    assert (frame["t"], frame["n"], frame["steps"]) == (200, 2, STEPS)
    sizes.clear()
    assert [message["kind"] for message in service.samplings.sample_guided(GOOD)] == ["row"] * 5 + ["done"]
    assert sizes == [], "from the store"


def test_without_a_label_all_rows_are_one(checkpoint):
    sizes = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: sizes.append(len(xt))))
    rows = drawn(service, label=-1)
    assert len({row["key"] for row in rows}) == 1
    assert sizes == [2 * 2] * STEPS
    _, eps_0, eps_c = halves(service, rows[0], 0).transpose(1, 0, 2)
    assert (eps_0 == eps_c).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 5}, "label = 5: the model knows cat, Dog, "),
        ({"label": "cat"}, "label = cat: the model knows"),
        ({"label": None}, "label = nothing: the model knows"),
        ({"label": True}, "label = True"),
        ({"num_images": 7}, "num_images = 7: a whole number from 1 to 6"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_what_is_out_of_range_is_refused_and_named(service, change, message):
    from ddpm.ui.text import say

    (refused,) = service.samplings.sample_guided({**GOOD, **change})
    assert refused["kind"] == "refused"
    said = say(
        refused["key"], **{name: say("refused.nothing") if v is None else v for name, v in refused["fields"].items()}
    )
    assert said.startswith(message)


@pytest.mark.parametrize("nonsense", [None, [], "x", 5, {"label": {}}, {"label": float("nan")}])
def test_nonsense_is_refused(service, nonsense):
    assert [message["kind"] for message in service.samplings.sample_guided(nonsense)] == ["refused"]


def test_a_model_without_labels_refuses(tmp_path):
    service = Service(load(make_model(tmp_path / "m", 8, 1, 50)))
    for asked in (GOOD, {**GOOD, "label": -1}):
        (refused,) = service.samplings.sample_guided(asked)
        assert (refused["kind"], refused["key"]) == ("refused", "refused.no_labels")
    x0 = base64.b64encode(bytes(64)).decode()
    (refused,) = service.readings.read("classify", {"x0": x0, "noise_seed": 1})
    assert (refused["kind"], refused["key"]) == ("refused", "refused.no_classes")
    service.examples.draw_example()
    service.examples.draw_labels()
    assert service.example_rows("labels") is None


def test_a_stopped_run_ends_within_a_call_and_keeps_nothing(checkpoint):
    sizes = []

    def watch(xt, t):
        sizes.append(len(xt))
        if len(sizes) == 3:
            service.visitors.expect("labels", {"visitor": "a", "run": 2})

    service = Service(checkpoint, make_engine=watched(watch))
    service.samplings.images_per_call = 8
    messages = list(service.samplings.sample_guided({**GOOD, "visitor": "a", "run": 1}))
    assert [message["kind"] for message in messages] == ["started", "frame"]
    assert sizes == [8, 8, 4], "a step is several calls here, and no further one begins"


def test_a_run_past_its_deadline_is_refused(checkpoint):
    service = Service(checkpoint, limits=Limits(sampling=Allowance(0, 600, "refused.deadline")))
    *_, last = service.samplings.sample_guided(GOOD)
    assert (last["kind"], last["key"]) == ("refused", "refused.deadline")


@pytest.mark.parametrize("asked", [None, 5, {}, {"key": "x"}, {"key": 5, "picture": 0}, {"picture": 0}])
def test_halves_that_are_not_there_are_nothing(service, asked):
    assert service.samplings.halves(asked) is None
    row = drawn(service)[2]
    for picture in (2, -1, True, "0", None, 0.0):
        assert service.samplings.halves({"key": row["key"], "picture": picture}) is None
    request = SampleRequest("ddim", 5, 1, 3)
    service.samplings.get_or_draw(request)
    assert service.samplings.halves({"key": request.key, "picture": 0}) is None, "another tab's sampling has none"


@pytest.mark.long
def test_large_pictures_keep_fewer_pixels_of_their_halves(tmp_path):
    service = Service(load(make_model(tmp_path / "m", 128, 3, 50, (8, 8, 8, 8, 16), names=NAMES)))
    rows = drawn(service, num_images=1)
    found = service.samplings.halves({"key": rows[2]["key"], "picture": 0})
    assert 32 <= found["side"] < 128
    data = base64.b64decode(found["data"])
    assert len(data) == len(found["t"]) * 3 * found["side"] ** 2 * 3 * 2 < 3 * 2**20


@pytest.mark.slow
def test_the_example_asks_for_the_fourth_class(service, checkpoint):
    service.examples.draw_example()
    service.examples.draw_labels()
    rows = [service.trajectory(key) for key in service.example_rows("labels")]
    assert [row["request"]["guidance_scale"] for row in rows] == list(SCALES)
    assert {row["request"]["label"] for row in rows} == {3}
    assert {row["n"] for row in rows} == {IMAGES}
    assert most_images(4) == 2, "a large model's rows are short"


# ------------------------------------------------------------------------------------------------------- which one is it


@pytest.mark.parametrize(
    ("shares", "first"),
    [
        ({"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.1, "e": 0.6}, 4),
        ({"a": 0.3, "b": 0.1, "c": 0.2, "d": 0.2, "e": 0.2}, 3),  # no class stands out
        ({"x": 0.9, "a": 0.1}, 3),  # of other images
        ("many", 3),  # in other people's files
        (None, 3),
    ],
)
def test_the_first_class_is_one_that_the_model_draws_well(shares, first):
    earlier = {"kind": "evaluation", "step": 1, "sample_class_shares": {"a": 1.0}}
    rows = [earlier, {"kind": "train", "step": 2}, {"kind": "evaluation", "step": 2, "sample_class_shares": shares}]
    assert first_class(ClassNames(tuple("abcde")), rows) == first
    assert first_class(ClassNames(("a", "b")), []) == 1


def test_the_reading_is_the_posterior_of_the_bound(service, checkpoint):
    pixels = np.random.default_rng(0).integers(0, 256, 64).astype(np.uint8)
    request = {"x0": base64.b64encode(pixels).decode(), "noise_seed": 9, "run": 3}
    *parts, done = service.readings.read("classify", request)
    assert {message["run"] for message in (*parts, done)} == {3}
    assert [part["done"] for part in parts] == sorted({part["done"] for part in parts})
    assert parts[-1]["done"] == parts[-1]["total"] == parts[0]["total"]
    found = service.readings.get(done["key"])
    x0 = torch.tensor(pixels / 127.5 - 1).float().reshape(1, 8, 8)
    truth = class_posterior(checkpoint.engine(), checkpoint.schedule, x0, 5, draw=np.random.default_rng(9))
    np.testing.assert_allclose(found["probabilities"], truth.probabilities, atol=1e-3)
    np.testing.assert_allclose(found["bits"], truth.bits_without_label - truth.bits, atol=1e-4)
    assert sum(found["probabilities"]) == pytest.approx(1)
    assert [message["kind"] for message in service.readings.read("classify", request)] == ["done"], "from the store"


def test_a_new_picture_ends_the_reading_of_the_one_before(checkpoint):
    calls = []
    service = Service(checkpoint, make_engine=watched(lambda xt, t: calls.append(1)))
    picture = {"x0": base64.b64encode(browser_normal(1, 64).astype(np.uint8)).decode(), "noise_seed": 1}
    reading = service.readings.read("classify", {**picture, "visitor": "a", "run": 1})
    assert next(reading)["kind"] == "part"
    made = len(calls)
    service.visitors.expect("classify", {"visitor": "a", "run": 2})
    assert list(reading) == []
    assert len(calls) == made
