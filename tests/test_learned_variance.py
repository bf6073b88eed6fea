"""Networks that predict the variance: the bound against the formulas of improved-diffusion, sampling against diffusers'
own pipeline, guidance, the file variance.json, and what is refused."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from formulas import improved_diffusion_terms

from ddpm import checkpoint, variance
from ddpm.classes import accepting_vectors, separated
from ddpm.compiled import Compiled
from ddpm.elbo import elbo_terms, terms_at
from ddpm.engine import Engine
from ddpm.evaluate.bound import ForLabel
from ddpm.guidance import Guided
from ddpm.names import LEARNED_VARIANCES
from ddpm.sampling import generators, sample
from ddpm.schedule import NoiseSchedule
from ddpm.unet import build_unet

SHAPE = (3, 1, 8, 8)
LOG_SNR = NoiseSchedule.from_log_snr(1000, 10.0, -6.0)


def network(channels=1, num_classes=0, seed=0, spread=0.1):
    """An untrained network with 2 C channels of output, whose v reaches beyond [-1, 1]."""
    torch.manual_seed(seed)
    unet = build_unet(8, channels, (8, 16), norm_num_groups=4, num_classes=num_classes, learned_variance=True).eval()
    torch.nn.init.normal_(unet.conv_out.weight, std=spread)
    if num_classes:
        torch.nn.init.normal_(unet.class_embedding.weight)
    return unet.requires_grad_(False)


def scheduler_of(kind="learned_range", beta=None, steps=1000, **options):
    options = {"beta_start": 1e-4 * 1000 / steps, "beta_end": 0.02 * 1000 / steps} | options
    trained = None if beta is None else beta.tolist()
    return DDPMScheduler(
        num_train_timesteps=steps, trained_betas=trained, variance_type=kind, timestep_spacing="trailing", **options
    )


def saved(folder, unet=None, lowest=None, known=None, scheduler=None):
    scheduler = scheduler or scheduler_of()
    checkpoint.save(folder, network() if unet is None else unet, dict(scheduler.config), known, lowest)
    return folder


def pixels(count, seed=0, channels=1):
    values = np.random.default_rng(seed).integers(-200, 455, (count, channels, 8, 8)).clip(0, 255)
    return torch.from_numpy(values).float() / 127.5 - 1


# --------------------------------------------------------------------------------------------------------- the bound


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("kind", LEARNED_VARIANCES)
@pytest.mark.parametrize("beta", [None, LOG_SNR.beta], ids=["linear", "log_snr"])
def test_the_bound_is_that_of_improved_diffusion(beta, kind, clip):
    scheduler = scheduler_of(kind, beta)
    schedule, unet = NoiseSchedule.from_scheduler(scheduler), network(channels=3)
    if kind == "learned":  # v is the logarithm of the variance itself: about that of the schedule
        unet.conv_out.bias[3:] = -8.0
    t = torch.tensor([0, 0, 1, 2, 10, 100, 500, 998, 999])
    draw = torch.Generator().manual_seed(0)
    x0, eps = pixels(len(t), channels=3), torch.randn(len(t), 3, 8, 8, generator=draw)
    engine = Engine(unet, scheduler)
    xt = schedule.q_sample(x0, eps, t)
    eps_hat, v = engine.with_variance(xt, t)
    assert (v.min() < -1 and kind == "learned") or v.max() > 1, "f lies outside [0, 1], too"
    ours, mse = terms_at(engine, schedule, x0, eps, t, clip)
    theirs = improved_diffusion_terms(schedule.beta, kind, x0, xt, eps_hat, v, t, clip)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)
    torch.testing.assert_close(mse, (eps - eps_hat).square().flatten(1).mean(1).double(), rtol=1e-5, atol=0)


def test_at_the_first_step_our_range_reaches_down_to_a_third_of_a_bin():
    for schedule in (LOG_SNR, NoiseSchedule(torch.linspace(1e-4, 0.02, 1000))):
        free = NoiseSchedule(schedule.beta, "learned_range")
        lowest = variance.lowest_log_variance(free)
        assert math.exp(lowest / 2) <= 2 / 255 / 3 + 1e-12
        ours, theirs = NoiseSchedule(schedule.beta, "learned_range", lowest), free
        t, v = torch.arange(1000), torch.linspace(-1.5, 1.5, 1000).reshape(-1, 1, 1, 1)
        a, b = ours.learned_log_variance(v, t), theirs.learned_log_variance(v, t)
        assert torch.equal(a[1:], b[1:]), "all other steps are those of diffusers"
        ends = ours.learned_log_variance(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1), torch.tensor([0, 0])).flatten()
        assert ends.tolist() == pytest.approx([lowest, math.log(schedule.beta[0])], rel=1e-6)
    assert variance.lowest_log_variance(LOG_SNR) is None


def test_a_fixed_variance_of_the_same_network_can_be_asked_for():
    scheduler, unet = scheduler_of(), network()
    fixed = NoiseSchedule(scheduler.betas.double())
    x0, noise = pixels(1), torch.randn(1000, 1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    engine = Engine(unet, scheduler)
    only_eps = elbo_terms(lambda xt, t: engine(xt, t), fixed, x0, noise)
    assert torch.equal(elbo_terms(engine, fixed, x0, noise).total, only_eps.total)
    learned = elbo_terms(engine, NoiseSchedule.from_scheduler(scheduler), x0, noise)
    assert learned.total != only_eps.total
    with pytest.raises(ValueError, match="the variance is learned, and eps_theta does not predict one"):
        elbo_terms(lambda xt, t: engine(xt, t), NoiseSchedule.from_scheduler(scheduler), x0, noise)


# ------------------------------------------------------------------------------------------------------------ sampling


@pytest.mark.slow
@pytest.mark.parametrize("clip_sample", [True, False])
@pytest.mark.parametrize(
    ("steps", "beta"), [(40, None), (60, NoiseSchedule.from_log_snr(60, 10.0, -6.0).beta)], ids=["linear", "log_snr"]
)
def test_a_stock_pipeline_draws_the_same_pictures(tmp_path, steps, beta, clip_sample):
    scheduler = scheduler_of(beta=beta, steps=steps, clip_sample=clip_sample)
    folder = saved(tmp_path / "model", lowest=-12.5, scheduler=scheduler)
    model = checkpoint.load(folder)
    pipeline = DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    stock = pipeline(3, generators(7, 3), num_inference_steps=steps, output_type="np").images
    ours = sample(Engine(model.unet, model.scheduler), model.scheduler, SHAPE, seed=7)
    np.testing.assert_array_equal((ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy(), stock)
    small = sample(Engine(model.unet, model.scheduler), model.scheduler, SHAPE, seed=7, sampler="ddpm_fixed_small")
    assert not torch.equal(ours, small)


def test_few_steps_take_the_variance_of_the_timesteps_that_they_visit():
    scheduler, unet = scheduler_of(), network()
    ours = sample(Engine(unet, scheduler), scheduler, SHAPE, num_inference_steps=10, seed=7)
    x, streams, stepping = None, generators(7, 3), DDPMScheduler.from_config(scheduler.config)
    stepping.set_timesteps(10)
    x = torch.cat([torch.randn(1, 1, 8, 8, generator=g) for g in streams])
    for t in stepping.timesteps[:-1]:
        x = stepping.step(unet(x, t).sample, t, x, generator=streams).prev_sample
    last = stepping.timesteps[-1]  # not t = 1, where diffusers adds noise of the clamped variance, and Algorithm 2 none
    x0_hat = stepping.step(unet(x, last).sample, last, x, generator=streams).pred_original_sample
    torch.testing.assert_close(ours, x0_hat, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver++", "ddpm_fixed_large"])
def test_other_samplers_use_the_predicted_noise_alone(sampler):
    unet, options = network(), {"sampler": sampler, "num_inference_steps": 20, "seed": 7}
    scheduler, plain = scheduler_of(), scheduler_of("fixed_small")
    engine = Engine(unet, scheduler)
    expected = sample(lambda xt, t: engine(xt, t), plain, SHAPE, **options)
    assert torch.equal(sample(engine, scheduler, SHAPE, **options), expected)


def test_with_guidance_the_variance_is_that_of_the_answer_with_label():
    unet, known = separated(network(num_classes=3), ("ant", "bee", "cat"))
    engine = Engine(unet, scheduler_of(), classes=known)
    labels, scale = torch.tensor([0, 2, 1, -1]), [1.0, 3.0, 0.0, 2.0]
    xt, t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 30, 300, 900])
    eps_hat, v = Guided(engine, labels, scale).with_variance(xt, t)
    given, bare = engine.with_variance(xt, t, labels), engine.with_variance(xt, t)
    torch.testing.assert_close(v, torch.stack([given[1][0], given[1][1], bare[1][2], bare[1][3]]))
    torch.testing.assert_close(eps_hat[1], bare[0][1] + 3 * (given[0][1] - bare[0][1]))
    assert torch.equal(eps_hat, Guided(engine, labels, scale)(xt, t))
    one = ForLabel(engine, 2).with_variance(xt, t)
    torch.testing.assert_close(one, engine.with_variance(xt, t, torch.full((4,), 2)))


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_compiled_network_gives_the_same_answers(tmp_path, monkeypatch, num_classes):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path))
    unet, known = separated(network(num_classes=num_classes), ("ant", "bee", "cat")[:num_classes])
    fast = Compiled(accepting_vectors(unet) if known else unet)
    engine = Engine(unet, scheduler_of(), network=fast, classes=known)
    engine.settle(5)
    xt, t = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 10, 500, 999])
    labels = (torch.tensor([0, 1, 2, -1, 0]),) if known else ()
    answer = engine.with_variance(xt, t, *labels)
    assert fast._networks, "PyTorch computed"
    torch.testing.assert_close(
        answer, Engine(unet, scheduler_of(), classes=known).with_variance(xt, t, *labels), rtol=0, atol=2e-5
    )


# ------------------------------------------------------------------------------------------------------- variance.json


def test_a_model_says_which_range_it_was_trained_with(tmp_path):
    folder = saved(tmp_path / "model", lowest=-12.5)
    assert json.loads((folder / "variance.json").read_text()) == {"lowest_log_variance": -12.5}
    assert checkpoint.load(folder).schedule.log_variance_range[0][0] == -12.5
    (folder / "variance.json").unlink()  # as models of others have it
    theirs = checkpoint.load(folder).schedule
    assert theirs.log_variance_range[0][0] == theirs.posterior_log_variance[1]
    saved(folder, lowest=-12.5)
    plain = build_unet(8, 1, (8, 16), norm_num_groups=4)
    checkpoint.save(folder, plain, dict(scheduler_of("fixed_small").config))
    assert not (folder / "variance.json").exists(), "that of an earlier model in the same folder"
    assert checkpoint.load(folder).schedule.variance_type == "fixed_small"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"lowest_log', "variance.json is not readable as JSON"),
        ("[-12.5]", "variance.json: a JSON object is needed"),
        ("{}", "lowest_log_variance None: a number from -60 to log beta_1 = -9.21"),
        ('{"lowest_log_variance": "low"}', "lowest_log_variance low: a number"),
        ('{"lowest_log_variance": true}', "lowest_log_variance True: a number"),
        ('{"lowest_log_variance": NaN}', "lowest_log_variance nan: a number"),
        ('{"lowest_log_variance": -1e9}', "a number from -60"),
        ('{"lowest_log_variance": -3}', "lowest_log_variance -3: a number from -60 to log beta_1 = -9.21"),
        ('{"lowest_log_variance": -12, "squares": [1]}', "variance.json: squares is not known to this version"),
        ("version https://git-lfs.github.com/spec/v1\n", "variance.json is a Git LFS pointer"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content, words):
    folder = saved(tmp_path / "model", lowest=-12.5)
    (folder / "variance.json").write_text(content)
    with pytest.raises(ValueError, match=words) as error:
        checkpoint.load(folder)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


def test_a_file_that_belongs_to_no_learned_range_is_refused(tmp_path):
    folder = saved(
        tmp_path / "model", build_unet(8, 1, (8, 16), norm_num_groups=4), -12.5, None, scheduler_of("fixed_small")
    )
    with pytest.raises(ValueError, match="belongs to variance_type learned_range; the scheduler says fixed_small"):
        checkpoint.load(folder)


def test_what_others_mean_by_learned_is_said(tmp_path, caplog):
    folder = saved(tmp_path / "model", scheduler=scheduler_of("learned"))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(folder).schedule.variance_type == "learned"
    assert "is taken for the logarithm of the variance, as in improved-diffusion" in caplog.text
