"""Tables of the schedule against published constants, diffusers, and a brute-force Gaussian computation."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from formulas import linear_schedule, velocity

from ddpm.elbo import elbo_terms
from ddpm.schedule import NoiseSchedule

# Linear betas 1e-4 ... 0.02, T = 1000, computed in float64 independently of this package.
ALPHA_BAR = {
    0: 0.9999,
    1: 0.999780092,
    9: 0.998105205,
    99: 0.897018146,
    249: 0.524085374,
    499: 0.0785872429,
    749: 0.00335055044,
    999: 4.03582977e-5,
}
KL_WEIGHT = {
    "fixed_small": {1: 0.59967151, 2: 0.31799535, 9: 0.08643656, 99: 0.01026695, 249: 0.00537327, 499: 0.0055082, 999: 0.0102045},
    "fixed_large": {1: 0.27269208, 2: 0.19440198, 9: 0.07371702, 99: 0.01008126, 249: 0.00534318, 499: 0.00550343, 999: 0.01020449},
}  # fmt: skip
KL_WEIGHT_SUM = {"fixed_small": 10.1704929, "fixed_large": 9.360997}


def test_golden_tables():
    schedule = linear_schedule()
    assert schedule.alpha_bar.dtype == torch.float64
    for t, value in ALPHA_BAR.items():
        assert schedule.alpha_bar[t].item() == pytest.approx(value, rel=1e-8)
    assert schedule.beta[1].item() == pytest.approx(1.1991992e-4, rel=1e-7)
    assert schedule.posterior_variance[1].item() == pytest.approx(5.4531877e-5, rel=1e-7)
    assert math.exp(schedule.posterior_log_variance[0] / 2) == pytest.approx(0.0073846, rel=1e-4)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_golden_weights(variance_type):
    schedule = linear_schedule(variance_type=variance_type)
    for t, value in KL_WEIGHT[variance_type].items():
        assert schedule.kl_weight[t].item() == pytest.approx(value, rel=1e-6)
    assert schedule.kl_weight[1:].sum().item() == pytest.approx(KL_WEIGHT_SUM[variance_type], rel=1e-7)
    assert schedule.model_log_variance[0] == schedule.posterior_log_variance[1]


def test_tables_of_a_scheduler_are_those_of_its_betas():
    exact, read = linear_schedule(), NoiseSchedule.from_scheduler(DDPMScheduler())
    assert read.variance_type == "fixed_small"
    torch.testing.assert_close(read.alpha_bar, exact.alpha_bar, rtol=1e-5, atol=0)
    cosine = NoiseSchedule.from_scheduler(DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="fixed_large"))
    assert cosine.variance_type == "fixed_large"
    assert cosine.alpha_bar[-1] < 1e-6


def test_a_linear_log_snr_gives_every_timestep_the_same_weight():
    """So the simple loss is the sum of the KL terms up to a factor, for any network (Kingma et al. 2021, Eq. 14)."""
    schedule = NoiseSchedule.from_log_snr(1000, 13.3, -6.0)
    log_snr = torch.log(schedule.alpha_bar / (1 - schedule.alpha_bar))
    torch.testing.assert_close(log_snr, torch.linspace(13.3, -6, 1000, dtype=torch.float64), rtol=0, atol=1e-9)
    weight = math.expm1((13.3 + 6) / 999) / 2
    torch.testing.assert_close(
        schedule.kl_weight[1:], torch.full((999,), weight, dtype=torch.float64), rtol=1e-8, atol=0
    )

    short = NoiseSchedule.from_log_snr(40, 10.0, -6.0)
    x0 = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0)) / 127.5 - 1

    def eps_theta(xt, t):
        return 0.5 * xt.sin() + t[:, None, None, None] / 40

    terms = elbo_terms(eps_theta, short, x0, clip_denoised=False, generator=torch.Generator().manual_seed(1))
    simple = terms.eps_mse[:, 1:].mean(1)
    weight = 39 * math.expm1(16 / 39) / 2 / math.log(2)
    torch.testing.assert_close(terms.kl.sum(1), weight * simple, rtol=1e-6, atol=0)


def test_q_sample_is_add_noise():
    """To 1e-6 at every t against the scheduler's own formula over a float64 table. Its float32 table cannot represent
    1 - alpha_bar better than 3e-8, which is 1e-6 of noise in root mean square at the smallest t and less beyond."""
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(1000)
    x0 = torch.rand(1000, 3, 8, 8, generator=generator) * 2 - 1
    eps = torch.randn(x0.shape, generator=generator)
    stock, exact = DDPMScheduler(), DDPMScheduler()
    exact.alphas_cumprod = torch.cumprod(1 - exact.betas.double(), 0)
    xt = NoiseSchedule.from_scheduler(stock).q_sample(x0, eps, t)
    torch.testing.assert_close(xt.double(), exact.add_noise(x0.double(), eps.double(), t), rtol=0, atol=1e-6)
    difference = xt - stock.add_noise(x0, eps, t)
    assert difference.square().mean(dim=(1, 2, 3)).sqrt().max() < 1.5e-6
    assert difference[126:].abs().max() < 1e-6


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_ancestral_step_is_diffusers_step(variance_type):
    """x_{t-1} = posterior mean at the clipped x0_hat + sigma_t z, against DDPMScheduler.step with the same z: to 1e-5
    over a float64 table; its float32 table is off by up to 1e-4 at small t (see `test_q_sample_is_add_noise`)."""
    stock, exact = DDPMScheduler(variance_type=variance_type), DDPMScheduler(variance_type=variance_type)
    exact.alphas_cumprod = torch.cumprod(1 - exact.betas.double(), 0)
    schedule = NoiseSchedule.from_scheduler(stock)
    generator = torch.Generator().manual_seed(0)
    for t in (0, 1, 2, 10, 100, 500, 999):
        batch = torch.full((2,), t)
        x0 = torch.rand(2, 1, 8, 8, generator=generator) * 2 - 1
        eps, error = (torch.randn(2, 1, 8, 8, generator=generator) for _ in range(2))
        xt, eps_hat = schedule.q_sample(x0, eps, batch), eps + 0.2 * error
        z = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(t))
        x0_hat = schedule.predict_x0(xt, eps_hat, batch).clamp(-1, 1)
        sigma = math.exp(schedule.model_log_variance[t] / 2) if t else 0
        ours = schedule.posterior_mean(x0_hat, xt, batch) + sigma * z
        for scheduler, tolerance in ((exact, 1e-5), (stock, 1e-5 if t >= 100 else 2e-4)):
            theirs = scheduler.step(eps_hat, t, xt, generator=torch.Generator().manual_seed(t)).prev_sample
            torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=tolerance)


def test_posterior_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0): complete the square by hand."""
    schedule = linear_schedule()
    x0, xt = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64), torch.full((1, 1, 1, 1), -0.7, dtype=torch.float64)
    for t in (1, 50, 999):
        alpha, beta, previous = schedule.alpha[t], schedule.beta[t], schedule.alpha_bar[t - 1]
        precision = alpha / beta + 1 / (1 - previous)
        mean = (alpha.sqrt() * xt / beta + previous.sqrt() * x0 / (1 - previous)) / precision
        assert schedule.posterior_variance[t].item() == pytest.approx(1 / precision.item(), rel=1e-9)
        torch.testing.assert_close(schedule.posterior_mean(x0, xt, torch.tensor([t])), mean, rtol=1e-9, atol=1e-12)


def test_x0_eps_and_v_convert_into_each_other():
    schedule = linear_schedule()
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 10, 500, 999])
    xt = schedule.q_sample(x0, eps, t)
    torch.testing.assert_close(schedule.predict_x0(xt, eps, t), x0)
    torch.testing.assert_close(schedule.predict_eps(xt, x0, t), eps)
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    torch.testing.assert_close(
        velocity(schedule, x0, eps, t).float(), scheduler.get_velocity(x0.float(), eps.float(), t), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("beta", "variance_type", "message"),
    [
        ([0.1, 1.0], "fixed_small", "must lie in"),
        ([0.1], "fixed_small", "at least 2"),
        ([0.1, 0.2], "odd", "'odd'"),
    ],
)
def test_impossible_schedules_are_refused(beta, variance_type, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(torch.tensor(beta), variance_type)


@pytest.mark.parametrize("t", [-1, 1000])
def test_timesteps_out_of_range_are_refused(t):
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=rf"\[0, 999\].*\[{t}\]"):
        linear_schedule().q_sample(x, x, torch.tensor([t]))
