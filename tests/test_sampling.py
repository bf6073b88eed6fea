"""The reverse process against diffusers' own pipelines, and against a network that knows the answer."""

import itertools

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler

from ddpm.engine import Engine
from ddpm.sampling import SAMPLERS, generators, make_scheduler, reverse_process, sample, timesteps_for
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


@pytest.mark.parametrize("sampler", ["ddpm_fixed_small", "ddpm_fixed_large", "ddim"])
def test_intermediate_images_have_the_variance_of_the_forward_process(sampler):
    """With x_0 known, ancestral sampling (and DDIM at eta = 1) must pass through q(x_t | x_0) exactly."""
    scheduler = DDPMScheduler()
    x0 = torch.zeros(1, 1, 16, 16)
    steps = reverse_process(
        Oracle(x0, scheduler), scheduler, (64, 1, 16, 16), sampler=sampler, num_inference_steps=300, eta=1.0
    )
    schedule = NoiseSchedule.from_scheduler(scheduler)
    for step in steps:
        if step.index % 60 == 30:
            expected = (1 - schedule.alpha_bar[step.t]).item()
            # fixed_large adds beta instead of beta-tilde: a little more than q has, the less so the smaller the step
            slack = 0.25 if sampler == "ddpm_fixed_large" else 0.05
            assert step.xt.var().item() == pytest.approx(expected, rel=slack)


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


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_engine_turns_every_prediction_into_noise(prediction_type):
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 1, 4, 4, generator=generator) for _ in range(2))
    t = torch.tensor([5, 100, 500, 900])
    output = x0 if prediction_type == "sample" else schedule.velocity(x0, eps, t)

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
        ({"sampler": "euler"}, "'euler': one of ddpm"),
        ({"x_start": torch.zeros(1, 1, 4, 4)}, "x_start has shape"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        next(reverse_process(lambda x, t: x, DDPMScheduler(), SHAPE, **options))


def test_zero_steps_are_refused():
    with pytest.raises(ValueError, match="0 sampling steps"):
        timesteps_for(0, 999)


def test_clipping_can_be_switched():
    for sampler, name in (("ddpm", "clip_sample"), ("ddim", "clip_sample"), ("dpm_solver++", "thresholding")):
        for clip in (True, False):
            assert make_scheduler(sampler, DDPMScheduler(), [999, 0], clip).config[name] is clip
