"""The bound against golden numbers, brute force, and a case that has an analytic answer."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from formulas import linear_schedule
from scipy.stats import norm

from ddpm.elbo import (
    decoder_floor,
    discretized_gaussian_log_likelihood,
    elbo_terms,
    prior_bits,
    terms_at,
    terms_by_variance,
)
from ddpm.engine import Engine
from ddpm.schedule import NoiseSchedule
from ddpm.unet import build_unet

LN2 = math.log(2)


def zero(xt, t):
    return torch.zeros_like(xt)


def pixels(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape)).float() / 127.5 - 1


@pytest.mark.parametrize(
    ("second_moment", "bits"), [(0.25, 7.2787e-6), (0.36, 1.0481e-5), (0.5, 1.4557e-5), (0.93, 2.7075e-5)]
)
def test_prior_term_golden(second_moment, bits):
    x0 = torch.full((1, 1, 4, 4), second_moment**0.5, dtype=torch.float64)
    assert prior_bits(linear_schedule(), x0).item() == pytest.approx(bits, rel=1e-4)


@pytest.mark.parametrize(
    ("variance_type", "offset_bits", "total_bits"),
    [("fixed_small", 0.0, 14.6729196), ("fixed_large", 0.48641923, 13.505064)],
)
def test_sum_of_the_predictor_of_no_noise_golden(variance_type, offset_bits, total_bits):
    """With eps_hat = 0 and E eps^2 = 1 the KL terms sum to the sum of the weights, and the offset of fixed_large."""
    schedule = linear_schedule(variance_type=variance_type)
    x0 = pixels(1, 1, 8, 8)
    noise = torch.randn(1000, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise /= noise.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()
    terms = elbo_terms(zero, schedule, x0, noise, clip_denoised=False)
    assert terms.kl.sum().item() == pytest.approx(total_bits + offset_bits, rel=1e-5)
    assert terms.eps_mse[0].numpy() == pytest.approx(np.ones(1000), rel=1e-6)


def offsets(schedule):
    """Nats of KL_t that no network can remove: 0 for fixed_small."""
    ratio = (schedule.posterior_log_variance - schedule.model_log_variance).exp()
    return 0.5 * (ratio - 1 - ratio.log())


def test_weights_and_offsets_golden():
    small, large = (linear_schedule(variance_type=v) for v in ("fixed_small", "fixed_large"))
    at = [1, 2, 9, 99, 249, 499, 999]
    golden = [0.86514312, 0.45877032, 0.1247016, 0.01481208, 0.00775199, 0.00794665, 0.01472198]
    assert (small.kl_weight[at] / LN2).tolist() == pytest.approx(golden, rel=1e-6)
    golden = [0.27269208, 0.19440198, 0.07371702, 0.01008126, 0.00534318, 0.00550343, 0.01020449]
    assert large.kl_weight[at].tolist() == pytest.approx(golden, rel=1e-6)
    assert (small.kl_weight[1] / small.kl_weight[249]).item() == pytest.approx(111.6, abs=0.1)
    golden = [0.1751248, 0.07461951, 0.04323084, 0.02887589, 0.02093998]
    assert (offsets(large)[1:6] / LN2).tolist() == pytest.approx(golden, rel=1e-6)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_kl_is_weight_times_mse_plus_offset(variance_type):
    """Eq. 12: what L_simple drops is the weight alone. Clipping off, as it lowers the KL below it."""
    schedule = linear_schedule(variance_type=variance_type)
    torch.manual_seed(0)
    unet = build_unet(8, 1, (8, 16), norm_num_groups=4)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.2)
    scheduler = DDPMScheduler(variance_type=variance_type)
    terms = elbo_terms(Engine(unet.eval(), scheduler), schedule, pixels(2, 1, 8, 8), clip_denoised=False)
    expected = schedule.kl_weight[1:] * terms.eps_mse[:, 1:] + offsets(schedule)[1:]
    # x_t is float32 for the network's sake, which at t = 2 leaves the noise in it an error of 1e-5
    assert torch.allclose(terms.kl * LN2, expected, rtol=2e-4)
    assert offsets(schedule)[1:].sum().item() / LN2 == pytest.approx(
        {"fixed_small": 0, "fixed_large": 0.48641923}[variance_type], rel=1e-6, abs=1e-12
    )
    clipped = elbo_terms(
        zero, schedule, pixels(2, 1, 8, 8), clip_denoised=True, generator=torch.Generator().manual_seed(3)
    )
    free = elbo_terms(
        zero, schedule, pixels(2, 1, 8, 8), clip_denoised=False, generator=torch.Generator().manual_seed(3)
    )
    assert bool((clipped.kl <= free.kl + 1e-12).all())
    assert bool((clipped.kl.sum() < 0.9 * free.kl.sum()).all())


@pytest.mark.parametrize("t", [1, 7, 60, 199])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_kl_by_numerical_integration(t, variance_type):
    """The integral of q log(q / p) over x_{t-1}, with both Gaussians written down from Eqs. 2, 4 and 7 by themselves."""
    beta = np.linspace(1e-4, 0.05, 200)
    alpha_bar = np.cumprod(1 - beta)
    x0, eps, eps_hat = 0.2 * 127.5 // 1 / 127.5, 0.7, -0.4
    xt = np.sqrt(alpha_bar[t]) * x0 + np.sqrt(1 - alpha_bar[t]) * eps
    x0_hat = (xt - np.sqrt(1 - alpha_bar[t]) * eps_hat) / np.sqrt(alpha_bar[t])

    def posterior(x0):  # Bayes' rule: prior N(sqrt(ab_{t-1}) x0, 1 - ab_{t-1}), likelihood N(xt; sqrt(alpha) x, beta)
        precision = 1 / (1 - alpha_bar[t - 1]) + (1 - beta[t]) / beta[t]
        mean = np.sqrt(alpha_bar[t - 1]) * x0 / (1 - alpha_bar[t - 1]) + np.sqrt(1 - beta[t]) * xt / beta[t]
        return mean / precision, 1 / precision

    (mean_q, var_q), (mean_p, _) = posterior(x0), posterior(x0_hat)
    var_p = var_q if variance_type == "fixed_small" else beta[t]
    q, p = norm(mean_q, var_q**0.5), norm(mean_p, var_p**0.5)
    x = np.linspace(mean_q - 9 * var_q**0.5, mean_q + 9 * var_q**0.5, 20001)
    expected = np.trapezoid(q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), x) / LN2
    schedule = NoiseSchedule(torch.from_numpy(beta), variance_type)
    bits, mse = terms_at(
        lambda x, t: torch.full_like(x, eps_hat),
        schedule,
        torch.full((1, 1, 1, 1), x0),
        torch.full((1, 1, 1, 1), eps),
        torch.tensor([t]),
        clip_denoised=False,
    )
    assert bits.item() == pytest.approx(expected, rel=2e-3)
    assert mse.item() == pytest.approx((eps - eps_hat) ** 2, rel=1e-5)


@pytest.mark.parametrize("clip_denoised", [True, False])
def test_reconstruction_is_the_mass_of_the_pixels_bin(clip_denoised):
    """Against scipy's normal distribution; the authors' tanh is within 2e-4 of it."""
    schedule = linear_schedule()
    sigma = math.sqrt(5.4531877e-5)
    x0 = torch.tensor([0, 1, 100, 254, 255]).float().reshape(-1, 1, 1, 1) / 127.5 - 1
    eps = torch.tensor([0.3, -0.5, 0.2, 0.9, 0.4]).reshape(-1, 1, 1, 1)
    bits, _ = terms_at(zero, schedule, x0, eps, torch.zeros(5, dtype=torch.int64), clip_denoised)
    mean = (math.sqrt(0.9999) * x0 + 0.01 * eps) / math.sqrt(0.9999)
    mean = (mean.clamp(-1, 1) if clip_denoised else mean).flatten().double().numpy()
    x = x0.flatten().double().numpy()
    upper = np.where(x > 0.999, 1, norm.cdf((x + 1 / 255 - mean) / sigma))
    lower = np.where(x < -0.999, 0, norm.cdf((x - 1 / 255 - mean) / sigma))
    assert 2.0 ** -bits.numpy() == pytest.approx(upper - lower, abs=4e-4)


def test_reconstruction_masses_sum_to_one():
    every = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean in (-1.3, -0.2, 0.9):
        log_p = discretized_gaussian_log_likelihood(every, torch.full_like(every, mean), torch.tensor(-3.0))
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_unit_gaussian_data_have_an_analytic_bound(variance_type):
    """For x_0 from N(0, I) the best network is sqrt(1 - ab_t) x_t; then MSE_t = ab_t and KL_t = w_t ab_t + offset."""
    schedule = linear_schedule(variance_type=variance_type)
    draw = torch.Generator().manual_seed(0)
    n = 20_000
    for t in (1, 10, 100, 500, 999):
        x0, eps = (torch.randn(n, 1, 2, 2, generator=draw) for _ in range(2))
        sigma = (1 - schedule.alpha_bar[t]).sqrt().item()
        bits, mse = terms_at(
            lambda x, t, sigma=sigma: sigma * x, schedule, x0, eps, torch.full((n,), t), clip_denoised=False
        )
        mean, error = mse.mean().item(), mse.std().item() / n**0.5
        assert abs(mean - schedule.alpha_bar[t].item()) < 4 * error
        expected = (schedule.kl_weight[t] * schedule.alpha_bar[t] + offsets(schedule)[t]).item() / LN2
        # t = 2 is the timestep where x_t in float32 costs most: 2e-4
        assert abs(bits.mean().item() - expected) < 4 * bits.std().item() / n**0.5 + 2e-4 * expected


def test_batches_do_not_change_the_result():
    schedule = linear_schedule(40)
    x0 = pixels(3, 1, 4, 4)
    noise = torch.randn(40, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    calls = []

    def eps_theta(xt, t):
        calls.append(len(xt))
        return xt * 0.5

    one = elbo_terms(eps_theta, schedule, x0, noise, batch_size=2)
    assert max(calls) == 2
    other = elbo_terms(eps_theta, schedule, x0, noise, batch_size=256)
    alone = elbo_terms(eps_theta, schedule, x0[1:2], noise[:, 1:2])
    assert one.kl.shape == (3, 39)
    assert one.eps_mse.shape == (3, 40)
    for name in ("prior", "kl", "reconstruction", "total", "eps_mse"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert torch.allclose(getattr(one, name)[1:2], getattr(alone, name)), name
    drawn = [
        elbo_terms(eps_theta, schedule, x0, generator=torch.Generator().manual_seed(1), batch_size=b) for b in (2, 64)
    ]
    assert torch.equal(drawn[0].total, drawn[1].total)
    assert not torch.equal(drawn[0].total, one.total)


@pytest.mark.parametrize(
    ("x0", "noise", "message"),
    [
        (torch.zeros(1, 4, 4), None, r"shape \(1, 4, 4\)"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), None, "uint8"),
        (torch.full((1, 1, 4, 4), 127.5), None, "127.5"),
        (torch.full((1, 1, 4, 4), float("nan")), None, r"\[-1, 1\]"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(9, 1, 1, 4, 4), r"\(40, 1, 1, 4, 4\)"),
    ],
)
def test_bad_input_is_named(x0, noise, message):
    with pytest.raises(ValueError, match=message):
        elbo_terms(zero, linear_schedule(40), x0, noise)


def test_the_terms_under_several_variances_are_those_under_each():
    kinds = {name: linear_schedule(variance_type=name) for name in ("fixed_large", "fixed_small")}
    x0, t = pixels(3, 1, 4, 4), torch.tensor([0, 1, 700])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    bits, mse = terms_by_variance(zero, kinds, x0, eps, t)
    for name, schedule in kinds.items():
        alone, errors = terms_at(zero, schedule, x0, eps, t)
        torch.testing.assert_close(bits[name], alone, rtol=0, atol=0)
        torch.testing.assert_close(mse, errors, rtol=0, atol=0)
    assert abs(bits["fixed_large"][1] - bits["fixed_small"][1]) > 0.01


def test_the_decoders_floor_is_what_a_perfect_network_pays():
    """Golden, from the bin of Eq. 13 by scipy: black and white have half of the tails, gray has one bin."""
    schedule = linear_schedule()
    width = math.sqrt(float(schedule.posterior_variance[1]))
    gray = norm.cdf(1 / 255 / width) - norm.cdf(-1 / 255 / width)
    for value, share in ((0, norm.cdf(1 / 255 / width)), (255, norm.cdf(1 / 255 / width)), (128, gray)):
        x0 = torch.full((1, 1, 4, 4), value / 127.5 - 1)
        assert decoder_floor(schedule, x0).item() == pytest.approx(-math.log2(share), abs=1e-3)
    assert -math.log2(gray) == pytest.approx(1.31, abs=0.01)
    assert decoder_floor(linear_schedule(variance_type="learned"), pixels(2, 1, 4, 4)).tolist() == [0, 0]
    x0 = pixels(1, 1, 4, 4)
    exact = type("Exact", (), {"__call__": lambda self, xt, t: schedule.predict_eps(xt.double(), x0.double(), t)})()
    bits, _ = terms_at(exact, schedule, x0, torch.randn(x0.shape), torch.tensor([0]))
    assert decoder_floor(schedule, x0).item() == pytest.approx(bits.item(), rel=1e-5)
