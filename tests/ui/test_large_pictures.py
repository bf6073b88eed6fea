"""Large models: what the server keeps of their pictures, and answers that are not finite."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from untrained import make_model

from ddpm.checkpoint import load
from ddpm.sampling import reverse_process
from ddpm.ui.server.answers import Endpoints
from ddpm.ui.server.limits import Allowance, Limits
from ddpm.ui.server.requests import InputError, PictureRequest
from ddpm.ui.server.service import Service

SIZE, STEPS, N = 256, 50, 4
ASKED = {"sampler": "ddpm", "num_inference_steps": STEPS, "num_images": N, "seed": 3, "eta": 0, "run": 1}
PICTURE = base64.b64encode(bytes(3 * SIZE**2)).decode()


class Stand:
    """An engine that answers at once, and as a network of this size would: with something that depends on x_t."""

    device = "cpu"

    def __init__(self, answer=lambda xt, t: 0.7 * xt.roll(1, -1)):
        self.answer, self.asked = answer, []

    def __call__(self, xt, t):
        self.asked += t.tolist()
        return self.answer(xt, t)

    def prepare(self, *sizes, wait=False):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return load(make_model(tmp_path_factory.mktemp("large") / "m", SIZE, 3, 1000))


@pytest.fixture(scope="module")
def service(checkpoint):
    return Service(checkpoint, make_engine=lambda _: Stand())


@pytest.fixture(scope="module")
def drawn(service):
    """The messages of a sampling, and the trajectory."""
    messages = list(service.samplings.sample(ASKED))
    return messages, service.trajectory(messages[-1]["key"])


def frames_of(found):
    """(frame, plane, picture, row, column, channel)."""
    shape = (-1, 3, found["n"], found["side"], found["side"], 3)
    return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(shape)


def in_bytes(images, low=-1.0, high=1.0):
    """(B, C, H, W) as the browser gets it."""
    scaled = np.round((images.permute(0, 2, 3, 1).numpy() - low) * (255 / (high - low)))
    return scaled.clip(0, 255).astype(np.uint8)


def test_a_trajectory_of_a_large_model_has_enough_frames_in_bounded_room(drawn):
    _, found = drawn
    data = base64.b64decode(found["data"])
    assert len(found["t"]) >= 26, "a strip of eleven pictures shows none twice"
    assert len(data) <= 8 * 2**20
    assert len({frame.tobytes() for frame in frames_of(found)}) == len(found["t"])
    assert SIZE / 4 <= found["side"] < SIZE, "about as many pixels as the page has room for"


def test_its_frames_are_the_steps_with_fewer_pixels(service, checkpoint, drawn):
    """x_t and eps_hat keep pixels as they are, since a mean would have less noise; x0_hat is a mean."""
    _, found = drawn
    factor = math.ceil(SIZE / found["side"])
    steps = {
        step.t + 1: step
        for step in reverse_process(
            Stand(), checkpoint.scheduler, (N, 3, SIZE, SIZE), num_inference_steps=STEPS, seed=ASKED["seed"]
        )
    }
    for t, (xt, x0_hat, eps_hat) in zip(found["t"][:-1], frames_of(found), strict=False):
        step = steps[t]
        assert np.array_equal(xt, in_bytes(step.xt)[:, ::factor, ::factor])
        assert np.array_equal(eps_hat, in_bytes(step.eps_hat, -3, 3)[:, ::factor, ::factor])
        corner = step.x0_hat[:, :, :factor, :factor].mean((2, 3)).numpy()
        assert abs(x0_hat[:, 0, 0] - (corner + 1) * 127.5).max() <= 0.51
    last = min(steps)
    whole = np.frombuffer(base64.b64decode(found["whole"]), np.uint8).reshape(N, SIZE, SIZE, 3)
    assert np.array_equal(whole, in_bytes(steps[last].x_prev)), "the finished pictures are whole"
    finished = service.finished(drawn[0][-1]["key"])
    assert base64.b64decode(finished["data"]) == whole.tobytes()


def test_frames_are_sent_once_and_in_any_part(service, drawn):
    messages, found = drawn
    length = 3 * N * found["side"] ** 2 * 3
    data = base64.b64decode(found["data"])
    whole = {t: data[i * length : (i + 1) * length] for i, t in enumerate(found["t"])}
    streamed = [message for message in messages if message["kind"] == "frame"]
    assert streamed
    assert all(base64.b64decode(message["data"]) == whole[message["t"]] for message in streamed)
    key, last = messages[-1]["key"], len(found["t"]) - 1
    head = service.trajectory({"key": key, "frames": []})
    assert (head["data"], head["whole"], head["t"]) == ("", "", found["t"])
    part = service.trajectory({"key": key, "frames": [last, 2]})
    assert base64.b64decode(part["data"]) == whole[0] + whole[found["t"][2]]
    assert part["whole"] == found["whole"]
    for nonsense in ([10**9, -1, "0", None, [0], 1.0, True], {"0": 1}, "0", 7, [[]] * 10_000):
        assert service.trajectory({"key": key, "frames": nonsense})["data"] == ""
    for nonsense in ({"key": [key]}, {"frames": [0]}, [key], None, {"key": None, "frames": []}):
        assert service.trajectory(nonsense) is None


def test_live_frames_leave_room_on_a_slow_line(service):
    """They come no faster than about 300 kB/s, however fast the network is."""
    messages = list(service.samplings.sample({**ASKED, "seed": 4}))
    key = messages[-1]["key"]
    seconds = service.trajectory(key)["seconds"]
    sent = sum(len(message["data"]) * 3 / 4 for message in messages if message["kind"] == "frame")
    frame = 3 * N * service.trajectory(key)["side"] ** 2 * 3
    assert sent <= 3e5 * (seconds + 30) + frame
    assert sent < len(base64.b64decode(service.trajectory(key)["data"])) or seconds > 20


def test_a_large_picture_is_read_at_two_dozen_timesteps(service, checkpoint):
    *_, done = service.readings.read("predict", {"x0": PICTURE, "noise_seed": 5, "run": 1})
    found = service.readings.get(done["key"])
    factor = service.readings.factor
    side = math.ceil(SIZE / factor)
    data = np.frombuffer(base64.b64decode(found["data"]), "<f2").reshape(len(found["t"]), side, side, 3)
    assert 24 <= len(found["t"]) <= 64
    assert found["t"] == sorted(found["t"])
    assert {1, 1000} < set(found["t"])
    assert data.nbytes <= 2.5 * 2**20
    x0 = torch.full((1, 3, SIZE, SIZE), -1.0)
    eps = service.readings.noised(bytes(3 * SIZE**2), 5, 999) - checkpoint.schedule.alpha_bar[-1].sqrt() * x0
    eps = (eps / (1 - checkpoint.schedule.alpha_bar[-1]).sqrt()).float()
    for i in (0, len(found["t"]) // 2, -1):
        t = torch.tensor([found["t"][i] - 1])
        expected = Stand()(checkpoint.schedule.q_sample(x0, eps, t), t)
        torch.testing.assert_close(
            torch.from_numpy(data[i].astype(np.float32)),
            expected[0, :, ::factor, ::factor].permute(1, 2, 0),
            rtol=2e-3,
            atol=2e-3,
        )
        assert found["mse"][i] == pytest.approx(((expected - eps) ** 2).mean().item(), rel=1e-3), "of all pixels"


def test_a_slow_network_is_asked_for_as_many_timesteps_as_it_has_time_for(checkpoint):
    """Spread over all t, however few: nobody waits for a refusal."""
    hurried = Limits(predict=Allowance(0.0, 1e9, "refused.slow"))
    engine = Stand()
    service = Service(checkpoint, make_engine=lambda _: engine, limits=hurried)
    request = PictureRequest("predict", bytes(3 * SIZE**2), 5)
    for _ in service.readings.predict(request):
        pass
    found = service.readings.get(request.key)
    assert len(found["t"]) == 8
    assert found["t"] == sorted(found["t"])
    assert {1, 1000} < set(found["t"])
    assert max(np.diff(found["t"])) < 500


# ------------------------------------------------------------------------------------------------------- not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_an_answer_that_is_not_finite_is_refused_everywhere(tmp_path, bad):
    checkpoint = load(make_model(tmp_path / "m", 8, 1, 40))

    def answer(xt, t):
        eps_hat = torch.zeros_like(xt)
        eps_hat[..., 0, 0] = torch.where(t < 20, bad, 0.0)[:, None]  # only near the clean end
        return eps_hat

    service = Service(checkpoint, make_engine=lambda _: Stand(answer))
    endpoints = Endpoints(service)
    asked = {"sampler": "ddim", "num_inference_steps": 8, "num_images": 2, "seed": 1, "eta": 0.0}
    picture = {"x0": base64.b64encode(bytes(64)).decode(), "noise_seed": 1, "run": 1}
    messages = [
        *service.samplings.sample({**asked, "run": 1}),
        *service.samplings.sample_rows({"rows": [asked, asked], "num_images": 1, "seed": 1, "run": 2}),
        *service.readings.read("predict", picture),
        *service.readings.read("bound", picture),
    ]
    refused = [message for message in messages if message["kind"] == "refused"]
    assert [message["key"] for message in refused] == ["refused.not_finite"] * 4
    json.dumps(messages, allow_nan=False)
    for call in (
        lambda: endpoints.sample(**asked, in_vain=lambda: False),
        lambda: endpoints.predict_noise(xt=[[0.0] * 8] * 8, t=1, in_vain=lambda: False),
        lambda: endpoints.elbo_terms(x0=[[0] * 8] * 8, seed=0, in_vain=lambda: False),
    ):
        with pytest.raises(InputError, match="not finite"):
            call()
    fine = endpoints.predict_noise(xt=[[0.0] * 8] * 8, t=40, in_vain=lambda: False)
    json.dumps(fine, allow_nan=False)
