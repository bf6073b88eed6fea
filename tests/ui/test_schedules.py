"""The schedules that the tab "Forward" compares: diffusers' own and log-linear SNR, whatever T and model."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from ddpm.schedule import NoiseSchedule
from ddpm.ui.server.schedules import BETA_UNIT, compared
from ddpm.ui.text import TEXT

OPTIONS = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear"},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "laplace": {"beta_schedule": "laplace"},
    "zero_snr": {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
}


@pytest.mark.parametrize("num_steps", [1000, 40])
@pytest.mark.parametrize("own", ["linear", "squaredcos_cap_v2"])
def test_what_travels_gives_the_alpha_bar_of_diffusers(num_steps, own):
    model = DDPMScheduler(num_train_timesteps=num_steps, **OPTIONS[own])
    name, others = compared(NoiseSchedule.from_scheduler(model))
    assert name == own
    assert others.keys() == OPTIONS.keys() - {own} | {"log_snr"}
    log_snr = np.cumprod(1 - np.cumsum(np.cumsum(others.pop("log_snr"))) * BETA_UNIT)
    np.testing.assert_allclose(np.log(log_snr / (1 - log_snr)), np.linspace(13.3, -6, num_steps), atol=0.02)
    for other, packed in others.items():
        beta = np.cumsum(np.cumsum(packed)) * BETA_UNIT
        stock = DDPMScheduler(num_train_timesteps=num_steps, **OPTIONS[other])
        np.testing.assert_allclose(beta, stock.betas.numpy(), rtol=0, atol=BETA_UNIT)
        np.testing.assert_allclose(np.cumprod(1 - beta), stock.alphas_cumprod.numpy(), rtol=3e-5, atol=1e-9)
        assert (beta[-1] == 1) == (other == "zero_snr"), "nothing of x_0 is left: exactly, or not"


def test_a_schedule_that_diffusers_does_not_name_is_the_models_own():
    name, others = compared(NoiseSchedule(torch.linspace(1e-3, 0.1, 50, dtype=torch.float64)))
    assert name == "own"
    assert others.keys() == OPTIONS.keys() | {"log_snr"}
    assert {f"schedule.{name}" for name in (*others, "own")} <= TEXT["en"].keys()


def test_a_model_with_a_log_snr_that_falls_linearly_has_that_schedule_whatever_its_ends():
    name, others = compared(NoiseSchedule.from_log_snr(1000, 10, -6, "fixed_large"))
    assert (name, others.keys()) == ("log_snr", OPTIONS.keys())
