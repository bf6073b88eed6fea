"""Sampling with labels and guidance: eps_0 + s (eps_c - eps_0), in as few answers of the network as it takes."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from labelled import NAMES, make_labelled

from ddpm import checkpoint
from ddpm.guidance import Guided
from ddpm.sampling import SAMPLERS, reverse_process, sample


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.load(make_labelled(tmp_path_factory.mktemp("guidance") / "model"))


class Watched:
    """An engine that remembers how many images each of its calls had."""

    def __init__(self, model):
        self.engine, self.calls = model.engine(), []
        self.device = self.engine.device

    def __call__(self, xt, t, labels=None):
        self.calls.append(len(xt))
        return self.engine(xt, t, labels)


@pytest.fixture
def eps_theta(model):
    return Watched(model)


def ask(count):
    draw = torch.Generator().manual_seed(3)
    return torch.randn(count, 1, 8, 8, generator=draw), torch.randint(0, 1000, (count,), generator=draw)


def by_hand(eps_theta, xt, t, labels, scales):
    """The formula, from two separate calls."""
    bare, told = eps_theta.engine(xt, t), eps_theta.engine(xt, t, labels)
    return bare + torch.tensor(scales).reshape(-1, 1, 1, 1) * (told - bare)


@pytest.mark.parametrize(
    ("labels", "scales", "answers"),
    [
        ([0, 1, 2, 0, 1], [2.0] * 5, 10),
        ([0, 1, 2, 0, 1], [0.0] * 5, 5),
        ([0, 1, 2, 0, 1], [1.0] * 5, 5),
        ([-1, -1, -1, -1, -1], [0.0] * 5, 5),
        ([2, 0, 1, 1, -1], [0.0, 1.0, 2.5, 20.0, 0.0], 7),
        ([2, 2, 2, 2, 2], [0.0, 1.0, 0.5, 4.0, 8.0], 8),
    ],
)
def test_it_is_the_formula_and_costs_one_half_where_that_is_enough(eps_theta, labels, scales, answers):
    (xt, t), labels = ask(5), torch.tensor(labels)
    for given in (scales, scales[0]) if len(set(scales)) == 1 else (scales,):
        eps_theta.calls.clear()
        guided = Guided(eps_theta, labels, given)(xt, t)
        assert eps_theta.calls == [answers], "one call"
        torch.testing.assert_close(guided, by_hand(eps_theta, xt, t, labels, scales), rtol=0, atol=1e-5)


def test_without_a_label_the_scale_does_not_matter(eps_theta):
    (xt, t), labels = ask(3), torch.tensor([-1, 0, -1])
    guided = Guided(eps_theta, labels, [3.0, 3.0, 1.0])(xt, t)
    assert eps_theta.calls == [4]
    torch.testing.assert_close(guided, by_hand(eps_theta, xt, t, labels, [0.0, 3.0, 0.0]), rtol=0, atol=1e-5)


def test_an_interval_leaves_the_plain_conditional_model_outside(eps_theta):
    xt, _ = ask(4)
    t, labels = torch.tensor([99, 100, 600, 601]), torch.tensor([0, 1, 2, 0])
    guided = Guided(eps_theta, labels, 3.0, (100, 600))(xt, t)
    assert eps_theta.calls == [6]
    torch.testing.assert_close(guided, by_hand(eps_theta, xt, t, labels, [1.0, 3.0, 3.0, 1.0]), rtol=0, atol=1e-5)
    eps_theta.calls.clear()
    guided = Guided(eps_theta, labels, [0.5, 0.0, 1.0, 0.5], (0, 0))(xt, t)  # smaller scales hold everywhere
    assert eps_theta.calls == [6]
    torch.testing.assert_close(guided, by_hand(eps_theta, xt, t, labels, [0.5, 0.0, 1.0, 0.5]), rtol=0, atol=1e-5)


def test_the_two_halves_can_be_had_apart(eps_theta):
    (xt, t), labels = ask(3), torch.tensor([2, 0, -1])
    eps_0, eps_c, scale = Guided(eps_theta, labels, 4.0).parts(xt, t)
    assert scale.tolist() == [4, 4, 0]
    torch.testing.assert_close(eps_0, eps_theta.engine(xt, t), rtol=0, atol=1e-6)
    torch.testing.assert_close(eps_c, eps_theta.engine(xt, t, labels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_has_its_own_label_and_scale_whatever_is_drawn_with_it(model, eps_theta, sampler):
    options = {"sampler": sampler, "num_inference_steps": 6, "seed": 5, "guidance_interval": (200, 900)}
    labels, scales = torch.tensor([0, 1, -1, 2]), [1.0, 2.0, 1.0, 4.0]
    together = sample(eps_theta, model.scheduler, (4, 1, 8, 8), labels=labels, guidance_scale=scales, **options)
    for i, (label, scale) in enumerate(zip(labels, scales, strict=True)):
        alone = sample(
            eps_theta, model.scheduler, (1, 1, 8, 8), first_image=i, labels=label[None], guidance_scale=scale, **options
        )
        # x_0 at t = 1000 is the rounding of a batch's size divided by 0.006.
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=5e-4)
    options.pop("guidance_interval")
    without = sample(eps_theta, model.scheduler, (4, 1, 8, 8), **options)
    torch.testing.assert_close(together[2], without[2], rtol=0, atol=5e-4)
    assert (together[[0, 1, 3]] - without[[0, 1, 3]]).abs().amax(dim=(1, 2, 3)).min() > 0.05, "labels matter"


@pytest.mark.parametrize(("scale", "answers"), [(0.0, 3), (1.0, 3), (2.0, 6)])
def test_a_sampling_step_is_one_call(model, eps_theta, scale, answers):
    options = {"num_inference_steps": 4, "labels": torch.tensor([0, 1, 2]), "guidance_scale": scale}
    steps = list(reverse_process(eps_theta, model.scheduler, (3, 1, 8, 8), **options))
    assert eps_theta.calls == [answers] * 4
    for step in steps:
        expected = by_hand(eps_theta, step.xt, torch.full((3,), step.t), torch.tensor([0, 1, 2]), [scale] * 3)
        torch.testing.assert_close(step.eps_hat, expected, rtol=0, atol=1e-5)


def test_guided_ddim_takes_the_noise_beside_the_clipped_picture_on(model, eps_theta):
    """As diffusers does with `use_clipped_model_output`; without it, what clipping took away comes back upside down."""
    labels, scales = torch.tensor([0, 1, 2]), [1.0, 3.0, 8.0]
    options = {"sampler": "ddim", "num_inference_steps": 10, "labels": labels, "guidance_scale": scales}
    steps = list(reverse_process(eps_theta, model.scheduler, (3, 1, 8, 8), seed=3, **options))
    stock = DDIMScheduler.from_config(model.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True)
    stock.set_timesteps(10)
    x = steps[0].xt
    for step in steps:
        eps_hat = by_hand(eps_theta, x, torch.full((3,), step.t), labels, scales)
        after = [
            stock.step(eps_hat[i : i + 1], step.t, x[i : i + 1], use_clipped_model_output=scale > 1).prev_sample
            for i, scale in enumerate(scales)
        ]
        x = torch.cat(after)
        torch.testing.assert_close(step.x_prev, x, rtol=0, atol=2e-4)
    assert steps[0].x0_hat[2].abs().max() == 1, "it was clipped"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_scale": -0.1}, r"guidance_scale -0.1: 0 \(no label\) to 20 is possible; 1 is no guidance"),
        ({"guidance_scale": 20.5}, "guidance_scale 20.5: 0"),
        ({"guidance_scale": math.nan}, "guidance_scale nan: 0"),
        ({"guidance_scale": math.inf}, "guidance_scale inf: 0"),
        ({"guidance_scale": [1.0, 2.0, -3.0]}, "guidance_scale -3: 0"),
        ({"guidance_scale": [1.0, 2.0]}, r"guidance_scale has shape \(2,\): one number or 3 numbers are needed"),
        ({"guidance_interval": (5, 4)}, r"guidance_interval \(5, 4\): two timesteps, the lower one first"),
        ({"guidance_interval": (-1, 4)}, r"guidance_interval \(-1, 4\)"),
        ({"guidance_interval": (0.5, 4)}, r"guidance_interval \(0.5, 4\)"),
        ({"guidance_interval": (0, 1000)}, r"guidance_interval \(0, 1000\): 0 to 999 is possible"),
        ({"labels": None, "guidance_scale": [1.0, 2.0]}, "guidance_scale and guidance_interval need labels"),
        ({"labels": torch.tensor([0, 1])}, r"labels have shape \(2,\): \(3,\) is needed, one for each image"),
        ({"labels": torch.tensor([0, 1, 3])}, "labels from 0 to 3: 0 to 2 is possible, and -1 for no label"),
        ({"labels": torch.tensor([0, 1, -2])}, "labels from -2: 0 and more is possible, and -1 for no label"),
        ({"labels": None, "guidance_scale": 2.0}, "guidance_scale and guidance_interval need labels"),
        ({"labels": None, "guidance_interval": (0, 9)}, "guidance_scale and guidance_interval need labels"),
    ],
)
def test_what_is_out_of_range_is_one_line(model, eps_theta, options, message):
    options = {"labels": torch.arange(len(NAMES)), "num_inference_steps": 2} | options
    with pytest.raises(ValueError, match=message) as error:
        sample(eps_theta, model.scheduler, (3, 1, 8, 8), **options)
    assert "\n" not in str(error.value)
