"""What a visitor or a program asks of a model with labels: pictures with a label, and the label of a picture."""

import base64
import dataclasses
import math

import numpy as np
import pytest
import torch
from untrained import make_model, watched

from ddpm.checkpoint import Checkpoint, load
from ddpm.elbo import class_posterior
from ddpm.sampling import sample
from ddpm.ui.api import descriptions
from ddpm.ui.server.answers import Endpoints
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.requests import DenoiseRequest, InputError, SampleRequest, check_rows, label_named
from ddpm.ui.server.service import Service
from ddpm.ui.server.visitors import StoppedError

NAMES = ("0", "cat", "Dog, a: big one")
GOOD = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 3, "seed": 1}
ROWS = {"num_images": 2, "seed": 4}
PICTURE = np.random.default_rng(3).integers(0, 256, (8, 8))
CODE = base64.b64encode(PICTURE.astype(np.uint8).tobytes()).decode()


def waited() -> bool:
    return False


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return load(make_model(tmp_path_factory.mktemp("model") / "labelled", 8, 1, 200, names=NAMES))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Checkpoint:
    return load(make_model(tmp_path_factory.mktemp("model") / "plain", 8, 1, 200))


@pytest.fixture(scope="module")
def service(checkpoint) -> Service:
    return Service(checkpoint)


@pytest.fixture(scope="module")
def endpoints(service) -> Endpoints:
    return Endpoints(service)


def drawn(endpoints: Endpoints, **asked) -> torch.Tensor:
    return torch.tensor(
        endpoints.sample(in_vain=waited, **{**GOOD, "label": "", "guidance_scale": 1.0, **asked})["images"]
    )


# ------------------------------------------------------------------------------------------------- drawn with a label


@pytest.mark.parametrize(
    ("name", "number", "scale"), [("cat", 1, 1), ("CAT", 1, 3), (0, 0, 2.5), (NAMES[2], 2, 20), ("cat", 1, 0)]
)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_endpoint_draws_what_the_library_draws(endpoints, checkpoint, sampler, name, number, scale):
    labels = torch.full((3,), number)
    engine, scheduler, shape = checkpoint.engine(), checkpoint.scheduler, (3, 1, 8, 8)
    options = {"sampler": sampler, "num_inference_steps": 5, "seed": 1}
    expected = sample(engine, scheduler, shape, labels=labels, guidance_scale=float(scale), **options)
    found = drawn(endpoints, sampler=sampler, label=name, guidance_scale=scale)
    assert (found - ((expected + 1) * 127.5).round().clamp(0, 255)[:, 0]).abs().max() <= 1
    without = drawn(endpoints, sampler=sampler)
    assert torch.equal(found, without) == (scale == 0)


def test_without_a_label_it_draws_as_a_plain_pipeline_does_whatever_the_scale(endpoints, checkpoint):
    scheduler, options = checkpoint.scheduler, {"sampler": "ddim", "num_inference_steps": 5, "seed": 1}
    expected = sample(lambda xt, t: checkpoint.unet(xt, t).sample, scheduler, (3, 1, 8, 8), **options)
    for label in ("", None, "none", " None "):
        found = drawn(endpoints, label=label, guidance_scale=7.0)
        assert (found - ((expected + 1) * 127.5).round().clamp(0, 255)[:, 0]).abs().max() <= 1


def test_label_and_scale_tell_what_is_kept_apart(checkpoint):
    def key(**asked) -> str:
        return SampleRequest.check({**GOOD, **asked}, 200, 16, checkpoint.classes).key

    def from_picture(**asked) -> str:
        raw = {**GOOD, **asked, "x0": CODE, "noise_seed": 1, "t0": 50}
        return DenoiseRequest.check(raw, 200, 16, (8, 8, 1), checkpoint.classes).key

    for of in (key, from_picture):
        asked = [{"label": label, "guidance_scale": s} for label in (0, 1) for s in (0, 1, 1.5)]
        assert len({of(), *(of(**each) for each in asked)}) == 7
        assert of() == of(label=-1, guidance_scale=8), "without a label the scale changes nothing"


def test_a_kept_trajectory_says_what_was_asked_for(service):
    messages = list(service.samplings.sample({**GOOD, "seed": 9, "label": 2, "guidance_scale": 2}))
    assert messages[0]["kind"] == "started"
    request = service.trajectory(messages[-1]["key"])["request"]
    assert (request["label"], request["guidance_scale"]) == (2, 2)


def test_rows_have_labels_of_their_own_and_guidance_counts_twice(service, endpoints):
    rows = [{"label": -1}, {"label": 1}, {"label": 1, "guidance_scale": 3}, {"label": 2, "guidance_scale": 0}]
    rows = [{"sampler": "ddim", "num_inference_steps": 5, **row} for row in rows]
    messages = list(service.samplings.sample_rows({**ROWS, "rows": rows}))
    keys = {message["row"]: message["key"] for message in messages if message["kind"] == "row"}
    found = [service.trajectory(keys[row]) for row in range(4)]
    assert [each["calls"] for each in found] == [5, 5, 10, 5]
    pictures = [np.frombuffer(base64.b64decode(service.finished(keys[row])["data"]), np.uint8) for row in range(4)]
    for shown, name, scale in zip(pictures, ("", "cat", "cat", NAMES[2]), (1, 1, 3, 0), strict=True):
        expected = drawn(endpoints, num_images=2, seed=4, label=name, guidance_scale=scale)
        assert (shown.reshape(2, 8, 8) == expected.numpy()).all()


def test_rows_with_guidance_may_ask_for_half_as_many_steps(checkpoint):
    row = {"sampler": "ddim", "num_inference_steps": 150, "label": 1}
    check_rows({**ROWS, "rows": [row, row]}, 200, 16, checkpoint.classes)
    with pytest.raises(InputError, match=r"600 .* 400"):
        check_rows({**ROWS, "rows": [{**row, "guidance_scale": 2}] * 2}, 200, 16, checkpoint.classes)


def test_a_picture_is_denoised_with_a_label(service):
    def result(**asked) -> bytes:
        raw = {**GOOD, "x0": CODE, "second": None, "noise_seed": 1, "t0": 120, **asked}
        *_, done = service.samplings.denoise(raw)
        return base64.b64decode(service.finished(done["key"])["data"])

    plain = result()
    assert plain == result(label=1, guidance_scale=0)
    assert len({plain, result(label=1), result(label=1, guidance_scale=3), result(label=0)}) == 4


# ---------------------------------------------------------------------------------------------------- what is refused


LISTED = "the model knows 0, cat, Dog, a: big one; leave it empty for no label"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"label": "bird"}, f"label = bird: {LISTED}"),
        ({"label": 3}, f"label = 3: {LISTED}"),
        ({"label": -1}, f"label = -1: {LISTED}"),
        ({"label": True}, f"label = True: {LISTED}"),
        ({"label": ["cat"]}, f"label = ['cat']: {LISTED}"),
        ({"label": "cat\ud800"}, f"label = cat?: {LISTED}"),
        ({"label": "x" * 5000}, f"label = {'x' * 37}...: {LISTED}"),
        ({"label": "cat", "guidance_scale": -0.5}, "guidance_scale = -0.5: a number from 0 to 20 is needed"),
        ({"label": "cat", "guidance_scale": 20.5}, "guidance_scale = 20.5: a number from 0 to 20 is needed"),
        ({"label": "cat", "guidance_scale": math.nan}, "guidance_scale = nan: a number from 0 to 20 is needed"),
        ({"guidance_scale": math.inf}, "guidance_scale = inf: a number from 0 to 20 is needed"),
        ({"guidance_scale": "2"}, "guidance_scale = 2: a number from 0 to 20 is needed"),
        ({"guidance_scale": None}, "guidance_scale = nothing: a number from 0 to 20 is needed"),
    ],
)
def test_what_the_model_cannot_draw_is_refused_in_one_line(endpoints, asked, told):
    with pytest.raises(InputError) as refused:
        drawn(endpoints, **asked)
    assert str(refused.value) == told


def test_a_model_without_labels_refuses_them(plain):
    endpoints = Endpoints(Service(plain, make_engine=lambda made: None))
    for label in ("3", 0, True, [], {}):
        with pytest.raises(InputError, match="the model was trained without labels, so it has none to ask for"):
            drawn(endpoints, label=label)
    with pytest.raises(InputError, match="The model was trained without labels"):
        endpoints.classify(PICTURE.tolist(), 0, waited)
    assert [label_named(name, None) for name in ("", None, "none", " NONE ")] == [-1] * 4


@pytest.mark.parametrize("label", [3, -2, 0.5, math.nan, "0", None, True, [], {}])
def test_the_page_is_refused_other_numbers_than_those_of_classes(service, label):
    (answer,) = service.samplings.sample({**GOOD, "label": label})
    assert (answer["kind"], answer["key"], answer["fields"]["name"]) == ("refused", "refused.label", "label")
    (answer,) = service.samplings.sample_rows({**ROWS, "rows": [GOOD, {**GOOD, "label": label}]})
    assert (answer["key"], answer["fields"]["row"]) == ("refused.label", 2)


def test_endpoints_say_which_labels_there_are(service, plain):
    known = descriptions(service.facts)["sample"].arguments["label"].meaning
    assert known == "name of what to draw, one of 0, cat, Dog, a: big one; empty: no label"
    there = descriptions(Service(plain, make_engine=lambda made: None).facts)
    assert "no labels" in there["sample"].arguments["label"].meaning
    assert "no labels" in there["classify"].what
    assert "eps = eps_0 + s (eps_c - eps_0)" in there["sample"].arguments["guidance_scale"].meaning


# ------------------------------------------------------------------------------------------------ the label of a picture


def test_the_label_of_a_picture_is_that_of_the_library(service, endpoints, checkpoint):
    answer = endpoints.classify(PICTURE.tolist(), 11, waited)
    x0 = torch.from_numpy(PICTURE / 127.5 - 1).float()[None]
    draw = np.random.default_rng(11)
    expected = class_posterior(checkpoint.engine(), checkpoint.schedule, x0, 3, draw=draw)
    assert list(answer["probabilities"]) == list(answer["bits"]) == list(NAMES)
    assert list(answer["probabilities"].values()) == pytest.approx(expected.probabilities.tolist(), abs=1e-4)
    saved = (expected.bits_without_label - expected.bits).tolist()
    assert list(answer["bits"].values()) == pytest.approx(saved, abs=1e-5)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert endpoints.classify(PICTURE.tolist(), 12, waited) != answer, "another seed is other noise"


def test_a_label_is_looked_for_once_in_short_calls_and_only_while_somebody_waits(checkpoint):
    sizes = []
    limits = Limits(classify_call_s=0)
    service = Service(checkpoint, make_engine=watched(lambda xt, t: sizes.append(len(xt))), limits=limits)
    endpoints = Endpoints(service)
    waiting = iter([False] * 6)
    with pytest.raises(StoppedError):
        endpoints.classify(PICTURE.tolist(), 1, lambda: next(waiting, True))
    assert len(sizes) == 6
    answer = endpoints.classify(PICTURE.tolist(), 1, waited)
    assert max(sizes[7:]) == 1
    sizes.clear()
    assert endpoints.classify(PICTURE.tolist(), 1, waited) == answer
    assert sizes == [], "from the store"


@pytest.mark.parametrize(("limit", "key"), [("wall_s", "refused.crowded"), ("own_s", "refused.slow")])
def test_a_label_that_takes_too_long_is_refused(checkpoint, limit, key):
    allowance = dataclasses.replace(Limits().classify, **{limit: -1})
    endpoints = Endpoints(Service(checkpoint, limits=Limits(classify=allowance)))
    with pytest.raises(InputError) as refused:
        endpoints.classify(PICTURE.tolist(), 1, waited)
    assert refused.value.key == key
