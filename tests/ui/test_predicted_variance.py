"""Every tab of the page with a network that predicts the variance, too."""

import base64

import numpy as np
import pytest
import torch
from untrained import make_model

from ddpm.checkpoint import Checkpoint, load
from ddpm.elbo import class_posterior, elbo_terms
from ddpm.sampling import sample
from ddpm.ui.server.guided_rows import SCALES
from ddpm.ui.server.service import Service

STEPS = 60
PIXELS = np.random.default_rng(0).integers(0, 256, 64).astype(np.uint8)
PICTURE = {"x0": base64.b64encode(PIXELS).decode(), "noise_seed": 9}
X0 = torch.tensor(PIXELS / 127.5 - 1).float().reshape(1, 8, 8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model") / "m"
    return load(make_model(folder, 8, 1, STEPS, names=("ant", "bee"), lowest_log_variance=-12.5))


@pytest.fixture(scope="module")
def service(checkpoint) -> Service:
    return Service(checkpoint)


def finished(service: Service, messages: list[dict]) -> list[np.ndarray]:
    """The finished pictures of each row, (n, pixels)."""
    assert messages[-1]["kind"] == "done", messages[-1]
    found = [service.finished(key) for key in messages[-1]["keys"]]
    return [np.frombuffer(base64.b64decode(row["data"]), np.uint8).reshape(row["n"], 64) for row in found]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddpm", "ddpm_fixed_small", "ddim"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_sampling_draws_what_reverse_process_does(service, checkpoint, sampler, scale):
    service.samplings.images_per_call = 2  # several calls of the network for a step
    asked = {"sampler": sampler, "num_inference_steps": 20, "num_images": 3, "seed": 1, "eta": 0}
    label = {"label": 1, "guidance_scale": scale} if scale else {}
    (drawn,) = finished(service, list(service.samplings.sample(asked | label)))
    options = {"labels": torch.tensor([1, 1, 1]), "guidance_scale": scale} if scale else {}
    alone = sample(
        checkpoint.engine(),
        checkpoint.scheduler,
        (3, 1, 8, 8),
        sampler=sampler,
        num_inference_steps=20,
        seed=1,
        **options,
    )
    np.testing.assert_allclose(drawn, ((alone + 1) * 127.5).clamp(0, 255).flatten(1).numpy(), atol=0.55)


@pytest.mark.slow
def test_rows_pictures_of_ones_own_and_guided_rows_are_drawn(service):
    rows = [{"sampler": sampler, "num_inference_steps": 5, "eta": 0} for sampler in ("ddpm", "dpm_solver++")]
    assert len(finished(service, list(service.samplings.sample_rows({"rows": rows, "num_images": 2, "seed": 3})))) == 2
    asked = {**PICTURE, "t0": 30, "sampler": "ddpm", "num_inference_steps": 5, "num_images": 1, "seed": 3, "eta": 0}
    assert len(finished(service, list(service.samplings.denoise(asked)))) == 1
    guided = list(service.samplings.sample_guided({"label": 1, "num_images": 2, "seed": 5}))
    assert len({message["key"] for message in guided if message["kind"] == "row"}) == len(SCALES)


def test_the_readings_are_those_of_the_learned_variance(service, checkpoint):
    *_, done = service.readings.read("bound", PICTURE)
    found = service.readings.get(done["key"])
    generator, engine = torch.Generator().manual_seed(9), checkpoint.engine()
    truth = elbo_terms(engine, checkpoint.schedule, X0[None], generator=generator)
    assert found["total"] == pytest.approx(truth.total.item(), abs=1e-4)
    assert found["bits"][0] == pytest.approx(truth.reconstruction.item(), abs=1e-4)
    *_, done = service.readings.read("classify", PICTURE)
    found = service.readings.get(done["key"])
    posterior = class_posterior(engine, checkpoint.schedule, X0, 2, draw=np.random.default_rng(9))
    np.testing.assert_allclose(found["probabilities"], posterior.probabilities, atol=1e-3)
    *_, done = service.readings.read("predict", PICTURE)
    found = service.readings.get(done["key"])
    assert len(base64.b64decode(found["data"])) == 2 * 64 * len(found["t"]), "eps_hat alone"
    xt, t = torch.randn(2, 1, 8, 8), torch.tensor([0, 59])
    torch.testing.assert_close(service.readings.eps_hat(xt, t), engine(xt, t), rtol=0, atol=1e-5)
