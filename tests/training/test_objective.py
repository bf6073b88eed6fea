"""The losses that train for the bound: their values, and what learns from them."""

import math

import pytest
import torch
from torch.nn import functional as F

from ddpm.config import preset
from ddpm.elbo import discretized_gaussian_log_likelihood, terms_at
from ddpm.schedule import NoiseSchedule
from ddpm.training.objective import log_likelihood
from ddpm.training.recipe import Noising, make_objective, make_schedule, make_scheduler

T = 200
LOG_SNR = {"beta_schedule": "log_snr", "log_snr_max": 10.0, "num_train_timesteps": T, "sample_steps": 10}


def batch(count=32, seed=0):
    """x_0 of pixel values with many black and white ones, eps, and t of every part of the schedule, t = 0 among them."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(-200, 455, (count, 1, 8, 8), generator=draw).clamp(0, 255)
    x0, eps = pixels / 127.5 - 1, torch.randn(count, 1, 8, 8, generator=draw)
    t = torch.linspace(0, T - 1, count - 4).round().long()
    return x0, eps, torch.cat([t, torch.zeros(4, dtype=torch.int64)]), draw


def parts(**options):
    config = preset("digits", **(LOG_SNR | options))
    scheduler = make_scheduler(config)
    return make_schedule(scheduler), make_objective(config, scheduler, torch.device("cpu"))


class Answer:
    """A network with a given output."""

    def __init__(self, eps_hat, v):
        self.answer = eps_hat, v

    def __call__(self, xt, t):
        return self.answer[0]

    def with_variance(self, xt, t):
        return self.answer


@pytest.mark.parametrize("kind", ["learned_range", "fixed_small", "fixed_large"])
@pytest.mark.parametrize("shape", ["log_snr", "linear"])
@pytest.mark.parametrize("clip", [True, False])
def test_the_terms_that_training_learns_from_are_those_of_the_bound(kind, shape, clip):
    schedule, objective = parts(variance_type=kind, beta_schedule=shape)
    x0, eps, t, draw = batch()
    eps_hat = eps + 0.5 * torch.randn(eps.shape, generator=draw)
    v = 2 * torch.randn(eps.shape, generator=draw) if schedule.learned else None
    ours = objective.bits(eps_hat, v, x0, eps, t, clip)
    bound, _ = terms_at(Answer(eps_hat, v), schedule, x0, eps, t, clip_denoised=clip)
    later = t > 0 if not clip else t >= 0  # L_0 is always clipped in training
    torch.testing.assert_close(ours[later].double(), bound[later], rtol=2e-4, atol=2e-6)


def test_the_decoder_of_training_keeps_its_digits_and_gradient_in_the_tails():
    x0 = torch.tensor([-1.0, 0.1, 1.0, 0.1, -1.0]).double()
    pixel = ((x0 + 1) * 127.5).round() / 127.5 - 1
    mean, log_variance = (
        pixel + torch.tensor([0.02, 0.015, -0.001, 0.0, 0.9]).double(),
        torch.full((5,), -11.0).double(),
    )
    exact = discretized_gaussian_log_likelihood(pixel, mean, log_variance)
    torch.testing.assert_close(log_likelihood(pixel, mean, log_variance), exact, rtol=1e-6, atol=1e-12)
    single = log_likelihood(pixel.float(), mean.float(), log_variance.float())
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-6)
    for extreme in (-300.0, -30.0, 30.0, 300.0):  # whatever the network says: finite, and so is its gradient
        asked = torch.full((5,), extreme, requires_grad=True)
        log_likelihood(pixel.float(), mean.float(), asked).sum().backward()
        assert torch.isfinite(asked.grad).all()


@pytest.mark.parametrize("extreme", [-60.0, -3.0, 5.0, 60.0])
def test_the_loss_is_finite_at_the_first_step_whatever_the_network_says(extreme):
    _, objective = parts(variance_type="learned_range")
    x0, eps, _, _ = batch()
    v = torch.full_like(eps, extreme).requires_grad_()
    loss = objective.bits(torch.zeros_like(eps), v, x0, eps, torch.zeros(len(x0), dtype=torch.int64))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(v.grad).all()


def test_the_mean_learns_from_the_simple_loss_alone_and_the_variance_from_the_bound_alone():
    _, hybrid = parts(variance_type="learned_range", vlb_weight=0.0859)
    x0, eps, t, _ = batch()

    def gradient(loss_of):
        output = (0.3 * torch.randn(32, 2, 8, 8, generator=torch.Generator().manual_seed(9))).requires_grad_()
        eps_hat, v = hybrid.split(output)
        error = F.mse_loss(eps_hat, eps, reduction="none").mean(dim=(1, 2, 3))
        loss_of(error, eps_hat, v).mean().backward()
        return output.grad[:, :1], output.grad[:, 1:]

    of_both = gradient(lambda error, eps_hat, v: hybrid(error, eps_hat, v, x0, eps, t))
    of_simple = gradient(lambda error, eps_hat, v: error)
    of_bound = gradient(lambda error, eps_hat, v: 0.0859 * T * hybrid.bits(eps_hat, v, x0, eps, t))
    assert torch.equal(of_both[0], of_simple[0])
    assert not of_simple[1].any()
    torch.testing.assert_close(of_both[1], of_bound[1])
    assert of_bound[1].abs().amin(dim=(1, 2, 3)).min() > 0, "at every t"


def test_under_log_snr_the_whole_bound_has_the_gradient_of_the_simple_loss():
    _, pure = parts(loss_weighting="vlb")
    x0, eps, t, draw = batch()
    later = t > 0
    eps_hat = torch.randn(eps.shape, generator=draw).requires_grad_()
    error = F.mse_loss(eps_hat, eps, reduction="none").mean(dim=(1, 2, 3))
    (simple,) = torch.autograd.grad(error[later].sum(), eps_hat, retain_graph=True)
    (bound,) = torch.autograd.grad(pure(error, eps_hat, None, x0, eps, t)[later].sum(), eps_hat)
    torch.testing.assert_close(bound, simple, rtol=2e-4, atol=1e-7)


def test_under_log_snr_the_simple_loss_is_the_sum_of_the_kl_terms():
    schedule = NoiseSchedule.from_log_snr(1000, 10.0, -6.0)
    kl_weight = schedule.kl_weight[1:]
    assert float(kl_weight.max() / kl_weight.min() - 1) < 1e-9
    weight = math.expm1(16 / 999) / 2  # (SNR(t - 1) / SNR(t) - 1) / 2
    config = preset("mnist_bound")
    assert config.vlb_weight == pytest.approx(math.log(2) / (1000 * weight), rel=1e-3)
    draw = torch.Generator().manual_seed(3)
    x0 = torch.randint(0, 256, (999, 1, 4, 4), generator=draw) / 127.5 - 1
    eps, t = torch.randn(x0.shape, generator=draw), torch.arange(1, 1000)
    eps_hat = eps + torch.randn(x0.shape, generator=draw)
    bits, error = terms_at(lambda xt, t: eps_hat, schedule, x0, eps, t, clip_denoised=False)
    # x_t in float32 moves eps by up to 1e-5 where the noise is weak; the sums are exact for the eps that it has.
    xt = schedule.q_sample(x0, eps, t).double()
    error = (schedule.predict_eps(xt, x0.double(), t) - eps_hat.double()).square().flatten(1).mean(1)
    assert float(bits.sum() * math.log(2)) == pytest.approx(weight * float(error.sum()), rel=1e-9)


def test_training_noises_with_the_tables_of_the_bound():
    scheduler = make_scheduler(preset("mnist_bound"))
    schedule, noising = make_schedule(scheduler), Noising.of(scheduler, "cpu")
    draw = torch.Generator().manual_seed(3)
    x0, eps, t = torch.rand(50, 1, 4, 4, generator=draw), torch.randn(50, 1, 4, 4, generator=draw), torch.arange(50)
    torch.testing.assert_close(noising(x0, eps, t), schedule.q_sample(x0, eps, t), rtol=0, atol=0)
