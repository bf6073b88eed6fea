"""What visitors do with a picture of theirs: fill in what they erased, turn it into noise and back, walk to another."""

import base64
import time

import numpy as np
import pytest
import torch
from untrained import make_model

from ddpm import plots
from ddpm.checkpoint import Checkpoint, load
from ddpm.inversion import encode
from ddpm.sampling import sample
from ddpm.ui.server.answers import Endpoints
from ddpm.ui.server.examples import inverted_steps
from ddpm.ui.server.from_picture import InvertRequest, check_from_picture
from ddpm.ui.server.requests import InputError
from ddpm.ui.server.service import Service

ONE, OTHER = (np.random.default_rng(i).integers(0, 256, (8, 8, 1)).astype(np.uint8) for i in range(2))
MASK = np.zeros((8, 8), np.uint8)
MASK[2:6, 3:] = 1
SAMPLING = {"sampler": "ddpm", "num_inference_steps": 6, "num_images": 3, "seed": 2}


def code(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


FILL = {**SAMPLING, "kind": "fill", "x0": code(ONE), "mask": code(MASK)}
WALK = {
    **SAMPLING,
    "kind": "walk",
    "x0": code(ONE),
    "second": code(OTHER),
    "noise_seed": 7,
    "t0": 120,
    "walk_steps": 12,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return load(make_model(tmp_path_factory.mktemp("model") / "m", 8, 1, 200, names=("cat", "dog")))


@pytest.fixture(scope="module")
def service(checkpoint) -> Service:
    return Service(checkpoint)


def rows(service: Service, raw: dict) -> tuple[list[dict], list[dict]]:
    """The messages, and the finished rows."""
    messages = list(service.samplings.denoise(raw))
    assert messages[-1]["kind"] == "done", messages[-1]
    return messages, [service.finished(key) for key in messages[-1]["keys"]]


def pictures(found: dict, name: str = "data") -> np.ndarray:
    return np.frombuffer(base64.b64decode(found[name]), np.uint8).reshape(-1, 8, 8, 1)


def tensor(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images) / 127.5 - 1).permute(0, 3, 1, 2)


def test_known_pixels_stay_with_and_without_jumps(service, checkpoint):
    messages, found = rows(service, {**FILL, "label": 1, "guidance_scale": 2.5})
    assert [row["request"]["jumps"] for row in found] == [0, 10]
    frames = [message for message in messages if message["kind"] == "frame"]
    assert {message["n"] for message in frames} == {3}
    assert {message["row"]: message["steps"] for message in frames} == {0: 6, 1: 6 + 10 * 5}
    known, asked = tensor(ONE)[0], {"num_inference_steps": 6, "seed": 2, "labels": torch.tensor([1] * 3)}
    for row, jumps in zip(found, (0, 10), strict=True):
        drawn = pictures(row)
        assert (drawn[:, MASK == 0] == ONE[MASK == 0]).all()
        assert len({each.tobytes() for each in drawn}) == 3
        asked |= {"known": known, "mask": torch.from_numpy(MASK), "jumps": jumps, "guidance_scale": 2.5}
        expected = plots.to_pixels(sample(checkpoint.engine(), checkpoint.scheduler, (3, 1, 8, 8), **asked))
        assert np.abs(drawn.astype(int) - expected).max() <= 1
    again, _ = rows(service, {**FILL, "label": 1, "guidance_scale": 2.5})
    assert [message["kind"] for message in again] == ["row", "row", "done"], "it is stored"
    other = ONE.copy()
    other[3, 4] ^= 255
    same, _ = rows(service, {**FILL, "x0": code(other), "label": 1, "guidance_scale": 2.5})
    assert [message["kind"] for message in same] == ["row", "row", "done"], "erased pixels do not matter"


@pytest.mark.slow
def test_a_picture_becomes_noise_and_comes_back(service, checkpoint):
    _, found = rows(service, {"kind": "invert", "x0": code(ONE)})
    assert [row["request"]["num_inference_steps"] for row in found] == [10, 25, 50, 100], "no more than T = 200"
    engine, scheduler = checkpoint.engine(), checkpoint.scheduler
    for row, steps in zip(found, (10, 25, 50, 100), strict=True):
        noise = encode(engine, scheduler, tensor(ONE), num_inference_steps=steps)
        options = {"sampler": "ddim", "clip": False, "num_inference_steps": steps, "x_start": noise}
        back = sample(engine, scheduler, (1, 1, 8, 8), **options)
        assert np.abs(pictures(row).astype(int) - plots.to_pixels(back)).max() <= 1
        shown = pictures(row, "noise")[0, ..., 0] / 42.5 - 3
        assert np.abs(shown - noise[0, 0].clamp(-3, 3).numpy()).max() < 0.02


def test_a_walk_ends_where_its_pictures_come_back(service):
    messages, (denoised, walk) = rows(service, {**WALK, "num_images": 5, "label": 0})
    assert {message["n"] for message in messages if message["kind"] == "frame"} == {5}
    assert (denoised["request"]["t0"], denoised["n"]) == (120, 5)
    drawn = pictures(walk)
    alone = {"kind": "invert", "label": 0}
    ends, classes = [], service.checkpoint.classes
    for picture in (ONE, OTHER):
        requests = [
            InvertRequest.check({**alone, "x0": code(picture), "num_inference_steps": 12}, 200, 8, (8, 8, 1), classes)
        ]
        ends.append(service.samplings.get_or_draw(requests[0]))
    for end, shown in zip(ends, (drawn[0], drawn[-1]), strict=True):
        assert np.abs(pictures(end.finished_as_json())[0].astype(int) - shown).max() <= 1
    steps = np.abs(np.diff(drawn.astype(int), axis=0)).mean((1, 2, 3))
    assert 0 < steps.max() < 4 * steps.min(), "step by step"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "paint"}, "kind = paint: one of denoise, walk, fill, invert is needed"),
        ({"mask": None}, "mask: a picture of 64 bytes in base64"),
        ({"mask": code(0 * MASK)}, "mask: 1 where the picture is to be filled in"),
        ({"mask": code(2 * MASK)}, "mask: 1 where the picture is to be filled in"),
        ({"x0": "AAAA"}, "x0: a picture of 64 bytes in base64"),
        ({"sampler": "dpm_solver[+][+]"}, "sampler = dpm_solver"),
        ({"num_inference_steps": 1}, "num_inference_steps = 1: a whole number from 2 to 200"),
        ({"num_images": 17}, "num_images = 17: a whole number from 1 to 16"),
        ({"label": 2}, "label = 2: the model knows cat, dog"),
        ({"kind": "invert", "x0": None}, "x0: a picture of 64 bytes"),
        ({**WALK, "second": None}, "second: a picture of 64 bytes"),
        ({**WALK, "num_images": 1}, "num_images = 1: a whole number from 2 to 16"),
    ],
)
def test_what_cannot_be_done_with_a_picture_is_named(checkpoint, change, message):
    with pytest.raises(InputError, match=message):
        check_from_picture({**FILL, **change}, 200, 16, (8, 8, 1), checkpoint.classes)


def test_the_endpoint_fills_in_and_names_what_it_needs(service):
    endpoints = Endpoints(service)
    asked = {**SAMPLING, "x0": ONE[..., 0].tolist(), "mask": MASK.tolist(), "jumps": 10, "label": "dog"}
    found = np.array(endpoints.inpaint(in_vain=lambda: False, **asked, guidance_scale=2.5)["images"])
    _, (_, jumping) = rows(service, {**FILL, "label": 1, "guidance_scale": 2.5})
    assert (found == pictures(jumping)[..., 0]).all()
    for change, message in (
        ({"mask": [[0] * 8] * 8}, "mask: 1 where the picture is to be filled in"),
        ({"mask": [[0] * 8] * 7}, "mask: nested lists of 8 x 8 numbers from 0 to 1"),
        ({"jumps": 21}, "jumps = 21: a whole number from 0 to 20"),
        ({"sampler": "dpm_solver++"}, "sampler = dpm_solver"),
        ({"label": "cow"}, "label = cow: the model knows cat, dog"),
    ):
        with pytest.raises(InputError, match=message):
            endpoints.inpaint(in_vain=lambda: False, **{**asked, **change})


def test_a_model_of_few_timesteps_has_two_numbers_of_steps_to_compare():
    assert inverted_steps(1000) == [10, 25, 50, 100, 250]
    assert inverted_steps(30) == [10, 25]
    assert inverted_steps(20) == [10, 20]
    assert inverted_steps(7) == [3, 7]
    assert inverted_steps(1) == [1]


@pytest.mark.slow
def test_a_slow_model_prepares_smaller_examples(checkpoint):
    service = Service(checkpoint)
    service.examples.draw_example()
    service.examples.denoise_example()
    for kind in ("between", "fill", "invert"):
        service.examples.draw_from_picture(kind, budget_s=0)
    plain, jumping = (service.finished(key) for key in service.example_rows("fill"))
    assert (plain["n"], plain["calls"], jumping["calls"]) == (1, 4, 4 + 10 * 3)
    (inverted,) = (service.finished(key) for key in service.example_rows("invert"))
    assert inverted["calls"] == 2 * 10
    assert len(service.example_rows("between")) == 2


@pytest.mark.slow
def test_what_takes_longest_is_drawn_once_somebody_asks(checkpoint):
    service = Service(checkpoint)
    service.start_example()
    until = time.monotonic() + 60
    while service.example_rows("labels" if checkpoint.classes else "wrong") is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)
    assert "fill" not in service.examples.row_keys
    while service.example_rows("fill") is None and time.monotonic() < until:
        time.sleep(0.05)
    assert service.example_rows("fill") is not None
    assert "invert" not in service.examples.row_keys
    service.close()
    assert not service.examples.drawing
