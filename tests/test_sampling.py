"""The reverse process against diffusers' own pipelines, and against a network that knows the answer."""

import itertools
import math

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from formulas import velocity

from ddpm.engine import Engine
from ddpm.sampling import SAMPLERS, alpha_bars, generators, normal, reverse_process, sample, timesteps_for
from ddpm.schedule import NoiseSchedule
from ddpm.unet import build_unet

SHAPE = (3, 1, 8, 8)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    unet = build_unet(8, 1, (8, 16), norm_num_groups=4).eval()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    return unet


def pixels(pipeline, **options):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(batch_size=SHAPE[0], generator=generators(7, SHAPE[0]), output_type="np", **options).images


def as_pipeline(x):
    return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [250, 50, 7])
def test_equals_diffusers_ddpm_pipeline(unet, steps):
    scheduler = DDPMScheduler(timestep_spacing="trailing")
    ours = sample(Engine(unet, scheduler), scheduler, SHAPE, num_inference_steps=steps, seed=7)
    theirs = pixels(DDPMPipeline(unet, DDPMScheduler(timestep_spacing="trailing")), num_inference_steps=steps)
    torch.testing.assert_close(as_pipeline(ours), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_equals_diffusers_ddim_pipeline(unet, eta):
    scheduler = DDPMScheduler()
    options = {"sampler": "ddim", "num_inference_steps": 50, "seed": 7, "eta": eta}
    ours = sample(Engine(unet, scheduler), scheduler, SHAPE, **options)
    pipeline = DDIMPipeline(unet, DDIMScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing"))
    torch.testing.assert_close(as_pipeline(ours), pixels(pipeline, num_inference_steps=50, eta=eta), rtol=0, atol=1e-5)


class Oracle:
    """The best network for data that is one known image: eps_hat leads every x_t back to it."""

    def __init__(self, x0, scheduler):
        self.x0, self.schedule = x0, NoiseSchedule.from_scheduler(scheduler)

    def __call__(self, xt, t):
        return self.schedule.predict_eps(xt, self.x0.expand_as(xt), t)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 30, 600])
def test_every_sampler_and_step_count_arrives(sampler, steps):
    """Any number of steps: one that does not divide T is where diffusers' own DDIM striding goes astray."""
    scheduler = DDPMScheduler()
    x0 = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    trajectory = list(
        reverse_process(Oracle(x0, scheduler), scheduler, (2, 1, 8, 8), sampler=sampler, num_inference_steps=steps)
    )
    assert [s.index for s in trajectory] == list(range(steps))
    assert trajectory[0].t == 999
    assert all(a.t > b.t >= 0 for a, b in itertools.pairwise(trajectory))
    torch.testing.assert_close(trajectory[-1].x_prev, x0.expand(2, -1, -1, -1), rtol=0, atol=2e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_arrives_where_float32_has_no_digits_for_the_noise(sampler):
    """From a log SNR of 14 down, neighbouring values of diffusers' alpha-bar are equal, by which DPM-Solver++ would divide."""
    trained = NoiseSchedule.from_log_snr(1000, 14.0, -6.0)
    scheduler = DDPMScheduler(trained_betas=trained.beta.tolist())
    assert bool((scheduler.alphas_cumprod.diff() == 0).any())
    torch.testing.assert_close(alpha_bars(scheduler), trained.alpha_bar, rtol=1e-6, atol=0)
    x0 = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    drawn = sample(Oracle(x0, scheduler), scheduler, (2, 1, 8, 8), sampler=sampler)
    torch.testing.assert_close(drawn, x0.expand(2, -1, -1, -1), rtol=0, atol=2e-3)


def test_elsewhere_the_tables_are_those_of_diffusers_to_the_bit():
    preset = NoiseSchedule.from_log_snr(1000, 10.0, -6.0).beta.tolist()
    for scheduler in (DDPMScheduler(), DDPMScheduler(trained_betas=preset)):
        assert torch.equal(alpha_bars(scheduler), scheduler.alphas_cumprod)


@pytest.mark.parametrize(
    ("sampler", "eta"),
    [("ddpm_fixed_small", 0), ("ddpm_fixed_large", 0), ("ddim", 1), ("dpm_solver++", 0.3), ("dpm_solver++", 1)],
)
def test_intermediate_images_have_the_variance_of_the_forward_process(sampler, eta):
    """With x_0 known, sampling with fresh noise must pass through q(x_t | x_0) exactly."""
    scheduler = DDPMScheduler()
    x0 = torch.full((1, 1, 16, 16), 0.5)
    steps = reverse_process(
        Oracle(x0, scheduler), scheduler, (64, 1, 16, 16), sampler=sampler, num_inference_steps=300, eta=eta
    )
    schedule = NoiseSchedule.from_scheduler(scheduler)
    for step in steps:
        if step.index % 60 == 30:
            expected = (1 - schedule.alpha_bar[step.t]).item()
            # fixed_large adds beta instead of beta-tilde: a little more than q has, the less so the smaller the step
            slack = 0.25 if sampler == "ddpm_fixed_large" else 0.05
            assert step.xt.var().item() == pytest.approx(expected, rel=slack)
            mean = schedule.alpha_bar[step.t].sqrt().item() * 0.5
            assert step.xt.mean().item() == pytest.approx(mean, abs=5 * (expected / step.xt.numel()) ** 0.5)


def test_steps_hold_together(unet):
    scheduler = DDPMScheduler()
    schedule = NoiseSchedule.from_scheduler(scheduler)
    before = dict(scheduler.config), scheduler.num_inference_steps
    previous = None
    for step in reverse_process(Engine(unet, scheduler), scheduler, SHAPE, num_inference_steps=20):
        t = torch.full((3,), step.t)
        torch.testing.assert_close(
            step.x0_hat, schedule.predict_x0(step.xt, step.eps_hat, t).clamp(-1, 1), rtol=0, atol=1e-3
        )
        torch.testing.assert_close(step.eps_hat, unet(step.xt, t).sample.detach())
        if previous is not None:
            assert torch.equal(step.xt, previous.x_prev)
        previous = step
    assert (dict(scheduler.config), scheduler.num_inference_steps) == before, "the training scheduler was changed"


def test_an_image_does_not_depend_on_its_neighbours(unet):
    scheduler = DDPMScheduler()
    engine, options = Engine(unet, scheduler), {"num_inference_steps": 5, "seed": 3}
    batch = sample(engine, scheduler, (4, 1, 8, 8), **options)
    alone = sample(engine, scheduler, (1, 1, 8, 8), first_image=2, **options)
    torch.testing.assert_close(batch[2:3], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(batch[2:3], sample(engine, scheduler, (1, 1, 8, 8), **options), atol=0.1)


def test_images_can_share_their_noise(unet):
    scheduler = DDPMScheduler()
    engine, options = Engine(unet, scheduler), {"num_inference_steps": 5, "seed": 3, "first_image": 2}
    batch = sample(engine, scheduler, (3, 1, 8, 8), same_noise=True, **options)
    alone = sample(engine, scheduler, (1, 1, 8, 8), **options)
    torch.testing.assert_close(batch, alone.expand(3, -1, -1, -1), rtol=0, atol=1e-5)


def test_cancelling_stops_between_steps(unet):
    calls = []

    def eps_theta(x, t):
        calls.append(int(t[0]))
        return torch.zeros_like(x)

    scheduler = DDPMScheduler()
    steps = list(
        reverse_process(eps_theta, scheduler, SHAPE, num_inference_steps=100, cancelled=lambda: len(calls) >= 3)
    )
    assert len(steps) == len(calls) == 3
    with pytest.raises(InterruptedError):
        sample(eps_theta, scheduler, SHAPE, num_inference_steps=100, cancelled=lambda: len(calls) >= 5)


def test_starting_from_a_noised_image_keeps_it():
    """From a small t_0 there is little left to decide: the oracle of another image moves x_t only part of the way."""
    scheduler = DDPMScheduler()
    x0 = torch.full((1, 1, 8, 8), 0.5)
    xt = NoiseSchedule.from_scheduler(scheduler).q_sample(x0, torch.zeros_like(x0), torch.tensor([299]))
    steps = list(
        reverse_process(Oracle(x0, scheduler), scheduler, (1, 1, 8, 8), x_start=xt, start_t=299, num_inference_steps=10)
    )
    assert (steps[0].t, len(steps)) == (299, 10)
    assert torch.equal(steps[0].xt, xt)
    torch.testing.assert_close(steps[-1].x_prev, x0, rtol=0, atol=1e-3)


def test_without_fresh_noise_every_step_is_the_mean_of_eq_11(unet):
    """Against Eq. 11 written out, with beta and alpha of the respaced schedule."""
    scheduler, steps = DDPMScheduler(), 20
    taken = list(
        reverse_process(
            Engine(unet, scheduler), scheduler, SHAPE, num_inference_steps=steps, clip=False, fresh_noise="never"
        )
    )
    bars = [scheduler.alphas_cumprod[step.t].item() for step in taken] + [1.0]
    for step, bar, bar_prev in zip(taken, bars[:-1], bars[1:], strict=True):
        alpha = bar / bar_prev
        mean = (step.xt - (1 - alpha) / (1 - bar) ** 0.5 * step.eps_hat) / alpha**0.5
        torch.testing.assert_close(step.x_prev, mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("clip", [True, False])
def test_without_fresh_noise_a_step_is_what_diffusers_steps_scatter_around(unet, clip):
    """x_prev less the mean is sigma z with z from N(0, I), beta-tilde from the formula below Eq. 7."""
    scheduler, shape = DDPMScheduler(), (400, 1, 8, 8)
    options = {"sampler": "ddpm_fixed_small", "num_inference_steps": 10, "clip": clip, "seed": 5}
    drawn, mean = (
        next(reverse_process(Engine(unet, scheduler), scheduler, shape, fresh_noise=kind, **options))
        for kind in ("until_last", "never")
    )
    assert torch.equal(drawn.xt, mean.xt), "the same x_T"
    bar, bar_prev = (scheduler.alphas_cumprod[t].item() for t in (999, 899))
    z = (drawn.x_prev - mean.x_prev) / ((1 - bar / bar_prev) * (1 - bar_prev) / (1 - bar)) ** 0.5
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert z.std().item() == pytest.approx(1, abs=0.02)


def test_noise_at_the_last_step_has_the_large_variance_and_nothing_else_changes():
    scheduler, shape = DDPMScheduler(), (400, 1, 8, 8)
    x0 = torch.zeros(1, 1, 8, 8)
    right, wrong = (
        list(
            reverse_process(
                Oracle(x0, scheduler),
                scheduler,
                shape,
                sampler="ddpm_fixed_large",
                num_inference_steps=20,
                fresh_noise=kind,
            )
        )
        for kind in ("until_last", "always")
    )
    assert all(torch.equal(a.xt, b.xt) for a, b in zip(right, wrong, strict=True))
    added = wrong[-1].x_prev - right[-1].x_prev
    assert added.var().item() == pytest.approx(
        1 - scheduler.alphas_cumprod[49].item(), rel=0.03
    )  # the last of 20 steps
    small = {"sampler": "ddpm_fixed_small", "num_inference_steps": 20}
    kinds = [sample(Oracle(x0, scheduler), scheduler, SHAPE, fresh_noise=k, **small) for k in ("until_last", "always")]
    assert torch.equal(*kinds), "the small variance is 0 there"


def test_a_truncated_start_begins_with_pure_noise_at_start_t():
    scheduler, shape = DDPMScheduler(), (50, 1, 8, 8)
    options = {"num_inference_steps": 4, "seed": 2}
    whole = next(reverse_process(Oracle(torch.zeros(1, 1, 8, 8), scheduler), scheduler, shape, **options))
    short = next(reverse_process(Oracle(torch.zeros(1, 1, 8, 8), scheduler), scheduler, shape, start_t=399, **options))
    assert (whole.t, short.t) == (999, 399)
    assert torch.equal(whole.xt, short.xt), "the same noise, which x_400 is not: it has alpha_bar = 0.19 of signal"
    assert short.xt.std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_engine_turns_every_prediction_into_noise(prediction_type):
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 1, 4, 4, generator=generator) for _ in range(2))
    t = torch.tensor([5, 100, 500, 900])
    output = x0 if prediction_type == "sample" else velocity(schedule, x0, eps, t)

    class Perfect:
        def __call__(self, xt, t):
            return type("Output", (), {"sample": output})

    torch.testing.assert_close(Engine(Perfect(), scheduler)(schedule.q_sample(x0, eps, t), t), eps, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 1001}, "1001 sampling steps: 1 to 1000"),
        ({"num_inference_steps": 20, "start_t": 9}, "20 sampling steps: 1 to 10"),
        ({"start_t": 1000}, "start_t 1000: 0 to 999"),
        ({"eta": 1.5, "sampler": "ddim"}, "eta 1.5: 0 to 1"),
        ({"eta": -0.1, "sampler": "dpm_solver++"}, "eta -0.1: 0 to 1"),
        ({"sampler": "euler"}, "'euler': one of ddpm"),
        ({"fresh_noise": "sometimes"}, "'sometimes': one of until_last"),
        ({"fresh_noise": "never", "sampler": "ddim"}, "'ddim' has no such choice"),
        ({"x_start": torch.zeros(1, 1, 4, 4)}, "x_start has shape"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        next(reverse_process(lambda x, t: x, DDPMScheduler(), SHAPE, **options))


def sample_dpmpp_2m_sde(denoised_of, x, sigmas, eta, noise):
    """k-diffusion's sampler of this name with the solver "midpoint", for x = x_t / sqrt(alpha_bar)."""
    before = h_before = None
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        denoised = denoised_of(x, i)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        x = sigma_next / sigma * math.exp(-eta * h) * x - math.expm1(-h - eta * h) * denoised
        if before is not None:
            x = x - 0.5 * math.expm1(-h - eta * h) * h / h_before * (denoised - before)
        x = x + sigma_next * math.sqrt(-math.expm1(-2 * eta * h)) * noise[i]
        before, h_before = denoised, h


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_eta_in_dpm_solver_is_that_of_k_diffusion(eta):
    def eps_theta(x, t):
        return torch.tanh(3 * x) + 0.1 * x.flip(-1)

    options = {"sampler": "dpm_solver++", "num_inference_steps": 12, "eta": eta, "clip": False, "seed": 7}
    ours = list(reverse_process(eps_theta, DDPMScheduler(), SHAPE, **options))
    alpha_bar = DDPMScheduler().alphas_cumprod[timesteps_for(12, 999)].double()
    streams = generators(7, SHAPE[0])
    first, *noise = (normal(SHAPE, streams).double() for _ in range(12))

    def denoised_of(x, i):
        xt = x * alpha_bar[i].sqrt()
        return (xt - (1 - alpha_bar[i]).sqrt() * eps_theta(xt, None)) / alpha_bar[i].sqrt()

    sigmas = [*((1 - alpha_bar) / alpha_bar).sqrt().tolist(), 0.0]
    theirs = sample_dpmpp_2m_sde(denoised_of, first / alpha_bar[0].sqrt(), sigmas, eta, noise)
    torch.testing.assert_close(ours[-1].x_prev.double(), theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("eta", [0.0, 1e-50, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_dpm_solver_is_finite_where_alpha_bar_stands_still_and_for_any_eta(eta, steps):
    betas = torch.linspace(1e-4, 0.02, 1000)
    betas[300:600:3] = 2e-8  # float32 has the same alpha-bar before and after
    scheduler = DDPMScheduler(trained_betas=betas.tolist())
    assert (scheduler.alphas_cumprod.diff() == 0).any()
    made = sample(
        lambda x, t: x, scheduler, SHAPE, sampler="dpm_solver++", num_inference_steps=steps, eta=eta, clip=False
    )
    assert made.isfinite().all()


def test_zero_steps_are_refused():
    with pytest.raises(ValueError, match="0 sampling steps"):
        timesteps_for(0, 999)


def of_diffusers(sampler, timesteps, clip, eta=0.0):
    """The scheduler of diffusers whose own steps len(timesteps) - 1 ... 0 are those timesteps of the full schedule."""
    alpha_bar = DDPMScheduler().alphas_cumprod[timesteps[::-1]]
    options = {
        "num_train_timesteps": len(timesteps),
        "trained_betas": (1 - alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]])).tolist(),
        "timestep_spacing": "trailing",
    }
    if sampler == "ddim":
        scheduler = DDIMScheduler(**options, clip_sample=clip)
    elif sampler == "dpm_solver++":  # thresholding with a maximum of 1 is clipping
        kind = {0.0: "dpmsolver++", 1.0: "sde-dpmsolver++"}[eta]
        scheduler = DPMSolverMultistepScheduler(**options, algorithm_type=kind, thresholding=clip, sample_max_value=1.0)
    else:
        variance_type = "fixed_small" if sampler == "ddpm" else sampler.removeprefix("ddpm_")
        scheduler = DDPMScheduler(**options, clip_sample=clip, variance_type=variance_type)
    scheduler.alphas_cumprod = alpha_bar  # bit for bit, without the way through float32 betas
    scheduler.set_timesteps(len(timesteps))
    return scheduler


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(
    ("sampler", "eta"), [*((name, 0.0) for name in SAMPLERS), ("ddim", 0.7), ("dpm_solver++", 1.0)]
)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_every_step_is_that_of_diffusers_scheduler(sampler, eta, clip, steps):
    """One step after the other from the same x_t, with a network that wants x_0 far outside [-1, 1] at times."""

    def eps_theta(x, t):
        return torch.tanh(3 * x) + 0.1 * x.flip(-1)

    scheduler = of_diffusers(sampler, timesteps_for(steps, 999), clip, eta)
    noise, options = generators(7, SHAPE[0]), {"eta": eta} if sampler == "ddim" else {}
    assert torch.equal(randn_tensor(SHAPE, generator=noise), first := normal(SHAPE, generators(7, SHAPE[0])))
    trajectory = reverse_process(
        eps_theta, DDPMScheduler(), SHAPE, sampler=sampler, num_inference_steps=steps, eta=eta, clip=clip, seed=7
    )
    for number, step in enumerate(trajectory):
        assert number or torch.equal(step.xt, first)
        theirs = scheduler.step(step.eps_hat, scheduler.timesteps[number], step.xt, generator=noise, **options)
        scale = max(1, theirs.prev_sample.abs().max())  # without clipping x_0 grows to hundreds
        torch.testing.assert_close(step.x_prev / scale, theirs.prev_sample / scale, rtol=0, atol=1e-5)
        assert not clip or step.x0_hat.abs().max() <= 1
    assert number + 1 == steps
