"""The optimal variance of a network (Bao et al. 2022), on data for which everything has a closed form."""

import json
import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from untrained import make_model

from ddpm import checkpoint, variance
from ddpm.elbo import discretized_gaussian_log_likelihood, elbo_terms
from ddpm.optimal import Respaced, measure_errors
from ddpm.sampling import sample, timesteps_for
from ddpm.schedule import Errors, NoiseSchedule

MEAN, STD = 0.2, 0.3  # of Gaussian data whose pixels are independent
SCHEDULE = NoiseSchedule(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
SHAPE = (1, 32, 32)


def perfect(xt, t):
    """The noise that a perfect network predicts: E[eps | x_t]."""
    ab = SCHEDULE.alpha_bar[t.cpu()].float().reshape(-1, 1, 1, 1)
    return (1 - ab).sqrt() * (xt - ab.sqrt() * MEAN) / (ab * STD**2 + 1 - ab)


def posterior_variance_of_x0(alpha_bar):
    """Var(x_0 | x_t): a product of two normal densities."""
    return 1 / (1 / STD**2 + alpha_bar / (1 - alpha_bar))


def variance_between(alpha_bar, before):
    """Var(x_s | x_t) for s < t, from the joint normal distribution of the two."""
    var_s, var_t = before * STD**2 + 1 - before, alpha_bar * STD**2 + 1 - alpha_bar
    return var_s * (1 - (alpha_bar / before) * var_s / var_t)


def exact_errors(schedule):
    mse = posterior_variance_of_x0(schedule.alpha_bar)
    return Errors(mse, mse.log())


@pytest.mark.parametrize("steps", [1000, 50, 7])
def test_for_gaussian_data_it_is_the_variance_of_the_true_reverse_process(steps):
    timesteps = timesteps_for(steps, 999)[::-1]
    schedule = NoiseSchedule(SCHEDULE.beta, "optimal", errors=exact_errors(SCHEDULE))
    found = (schedule if steps == 1000 else schedule.respaced(timesteps)).model_log_variance.exp()
    alpha_bar = SCHEDULE.alpha_bar[timesteps]
    wanted = variance_between(alpha_bar[1:], alpha_bar[:-1])
    torch.testing.assert_close(found[1:], wanted, rtol=1e-9, atol=0)
    assert found[0] == pytest.approx(float(posterior_variance_of_x0(alpha_bar[0])), rel=1e-12)


@pytest.mark.parametrize("steps", [1000, 50])
def test_for_a_perfect_network_it_is_the_formula_of_the_paper(steps):
    """Eq. 8 of Bao et al. 2022, with E|eps_theta|^2 of the perfect network in closed form."""
    timesteps = timesteps_for(steps, 999)[::-1]
    schedule = NoiseSchedule(SCHEDULE.beta, "optimal", errors=exact_errors(SCHEDULE)).respaced(timesteps)
    ab, before, small = schedule.alpha_bar, schedule.alpha_bar_prev, schedule.posterior_variance
    eps_square = (1 - ab) / (ab * STD**2 + 1 - ab)
    gain = ((1 - ab) / schedule.alpha).sqrt() - (1 - before - small).clamp(min=0).sqrt()
    wanted = small + gain**2 * (1 - eps_square)
    torch.testing.assert_close(schedule.model_log_variance.exp(), wanted, rtol=1e-7, atol=0)


def measured(eps_theta, images, **options):
    return measure_errors(eps_theta, SCHEDULE, images, 1000, np.random.default_rng(0), **options)


def test_errors_are_measured_where_they_are_asked_for():
    """Within the error of a mean over 16 pictures of 1024 pixels: about 1.1 %."""
    draw = torch.Generator().manual_seed(1)
    sizes = []
    timesteps = [0, 10, 100, 500, 998]
    errors = measured(
        perfect,
        lambda numbers: MEAN + STD * torch.randn(len(numbers), *SHAPE, generator=draw),
        timesteps=timesteps,
        clip_denoised=False,
        batch_size=24,
        on_batch=sizes.append,
    )
    wanted = posterior_variance_of_x0(SCHEDULE.alpha_bar[timesteps])
    torch.testing.assert_close(errors.x0_mse[timesteps], wanted, rtol=0.06, atol=0)
    assert int(errors.x0_mse.isnan().sum()) == 995
    assert sum(sizes) == 16 * 5
    assert max(sizes) <= 24


def test_a_network_of_any_kind_has_its_smallest_bound_with_it():
    """A poor network, 8-bit pixels, x_0 clipped: no other variance, and none that is scaled, needs fewer bits."""
    draw = np.random.default_rng(3)
    pixels = torch.from_numpy(draw.choice([0, 0, 0, 30, 200, 255], (64, *SHAPE))).float() / 127.5 - 1

    def poor(xt, t):
        return 0.8 * perfect(xt, t) + 0.1

    processes = [timesteps_for(steps, 999)[::-1] for steps in (20, 5)]
    errors = measured(poor, lambda numbers: pixels[numbers % 64], timesteps=sorted({*processes[0], *processes[1]}))
    for timesteps in processes:
        bits = {}
        best = errors.x0_mse.log()
        widths = errors.decoder_log_variance
        for name, schedule in {
            "optimal": NoiseSchedule(SCHEDULE.beta, "optimal", errors=errors),
            "fixed_small": NoiseSchedule(SCHEDULE.beta),
            "fixed_large": NoiseSchedule(SCHEDULE.beta, "fixed_large"),
            "larger": NoiseSchedule(SCHEDULE.beta, "optimal", errors=Errors((best + 0.3).exp(), widths + 0.3)),
            "smaller": NoiseSchedule(SCHEDULE.beta, "optimal", errors=Errors((best - 0.3).exp(), widths - 0.3)),
        }.items():
            generator = torch.Generator().manual_seed(5)
            fewer = schedule.respaced(timesteps)
            terms = elbo_terms(Respaced(poor, timesteps), fewer, pixels[:16], generator=generator)
            bits[name] = float(terms.total.mean())
        assert min(bits, key=bits.get) == "optimal", bits


def test_the_decoder_is_as_wide_as_encodes_the_pixels_in_the_fewest_bits():
    """Against every width of a fine grid, at a t where pixel values can be told apart and at one where they cannot."""
    draw = np.random.default_rng(4)
    pixels = torch.from_numpy(draw.choice([0, 0, 0, 100, 255], (16, *SHAPE))).float() / 127.5 - 1
    for t in (0, 200):
        errors = measured(perfect, lambda numbers: pixels[numbers % 16], timesteps=[t])
        eps = torch.from_numpy(draw.standard_normal(pixels.shape, dtype=np.float32))
        at = torch.full((16,), t)
        xt = SCHEDULE.q_sample(pixels, eps, at)
        x0_hat = SCHEDULE.predict_x0(xt, perfect(xt, at), at).double().clamp(-1, 1)

        def nats(log_variance, x0_hat=x0_hat):
            return -float(discretized_gaussian_log_likelihood(pixels.double(), x0_hat, log_variance).mean())

        fewest = min(nats(x) for x in torch.linspace(-14, 2, 400, dtype=torch.float64))
        assert nats(errors.decoder_log_variance[t]) < fewest + 0.01 * abs(fewest) + 1e-3


def test_it_is_as_narrow_as_the_fixed_decoder_where_that_is_narrower_than_a_third_of_a_bin():
    """As under log_snr from 13.3, where a decoder of a third of a bin would cost 0.2 bits for each gray pixel."""
    schedule = NoiseSchedule.from_log_snr(1000, 13.3, -6.0)
    draw = np.random.default_rng(6)
    pixels = torch.from_numpy(draw.integers(1, 255, (16, *SHAPE))).float() / 127.5 - 1
    nearly = lambda xt, t: (xt - pixels.repeat(len(xt) // 16, 1, 1, 1)) * math.exp(13.3 / 2)  # noqa: E731 - eps, at t = 1
    found = measure_errors(
        nearly, schedule, lambda numbers: pixels[np.arange(len(numbers)) % 16], 16, draw, timesteps=[0]
    ).decoder_log_variance[0]
    assert found < 2 * math.log(2 / 255 / 3) - 1
    x0_hat = pixels.double() + 1e-4
    bits = [
        -discretized_gaussian_log_likelihood(pixels.double(), x0_hat, width).mean()
        for width in (found, schedule.posterior_log_variance[0])
    ]
    assert bits[0] <= bits[1] + 1e-3


def test_ancestral_sampling_in_five_steps_has_the_spread_of_the_data():
    """With the variance of the true reverse process every step is exact, however long it is; the small variance loses
    spread, the large one adds some."""
    scheduler = DDPMScheduler(trained_betas=SCHEDULE.beta.tolist(), clip_sample=False)
    spread = {}
    for name in ("ddpm_optimal", "ddpm_fixed_small", "ddpm_fixed_large"):
        x = sample(perfect, scheduler, (8, *SHAPE), sampler=name, num_inference_steps=5, errors=exact_errors(SCHEDULE))
        spread[name] = float((x - MEAN).square().mean())
    # The last step returns the mean of x_0, so what it leaves out is missing from all three.
    last = SCHEDULE.alpha_bar[timesteps_for(5, 999)[-1]]
    wanted = STD**2 - float(posterior_variance_of_x0(last))
    assert spread["ddpm_optimal"] == pytest.approx(wanted, rel=0.05)
    assert spread["ddpm_fixed_small"] < 0.95 * spread["ddpm_optimal"]
    assert spread["ddpm_fixed_large"] > 1.05 * spread["ddpm_optimal"]
    with pytest.raises(ValueError, match="sampler 'ddpm_optimal': the errors of the network are needed"):
        sample(perfect, scheduler, (1, *SHAPE), sampler="ddpm_optimal", num_inference_steps=5)


def test_the_file_keeps_the_errors_with_their_weights(tmp_path):
    directory = make_model(tmp_path / "model", 8, 1, 20)
    model = checkpoint.load(directory)
    assert model.errors is None
    errors = Errors(torch.linspace(0.01, 0.5, 20).double(), torch.linspace(-9, -1, 20).double())
    variance.save(directory, None, errors, model.unet)
    again = checkpoint.load(directory)
    torch.testing.assert_close(again.errors.x0_mse, errors.x0_mse, rtol=1e-5, atol=0)
    torch.testing.assert_close(again.errors.decoder_log_variance, errors.decoder_log_variance, rtol=1e-5, atol=0)
    assert again.schedule.variance_type == "fixed_small"
    path = directory / variance.FILE
    good = json.loads(path.read_text())
    for change, said in (
        ({"x0_mse": good["x0_mse"][1:]}, "x0_mse: a list of 20 numbers is needed"),
        ({"x0_mse": [-1.0, *good["x0_mse"][1:]]}, "x0_mse: -1.0: numbers from 0 to 1e+09 are needed"),
        ({"decoder_log_variance": [math.inf] * 20}, "decoder_log_variance: inf: numbers from -60"),
        ({"x0_mse": [True] * 20}, "x0_mse: True: numbers"),
        ({"weights": "0" * 64}, "the errors belong to other weights than those in unet/: measure them again by"),
        ({"weights": 1}, "weights 1: a digest is needed"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=r"variance\.json: ") as raised:
            checkpoint.load(directory)
        assert said in str(raised.value)
    path.write_text(json.dumps({name: value for name, value in good.items() if name != "weights"}))
    with pytest.raises(ValueError, match="there is no weights"):
        checkpoint.load(directory)
    checkpoint.save(directory, model.unet, dict(model.scheduler.config))  # as training does: other weights come
    assert checkpoint.load(directory).errors is None
