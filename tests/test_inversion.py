"""Pictures as noise: the way to noise and back, and the arc between two noises."""

import itertools

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm.inversion import encode, encoding, slerp
from ddpm.sampling import sample
from ddpm.schedule import NoiseSchedule

SCHEDULER = DDPMScheduler(clip_sample=False)
ALPHA_BAR = NoiseSchedule.from_scheduler(SCHEDULER).alpha_bar
SHAPE = (3, 1, 8, 8)
VARIANCE = torch.linspace(0.05, 1.5, 64, dtype=torch.float64).reshape(8, 8)  # of each pixel, over the data
X0 = VARIANCE.sqrt() * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gaussian(xt, t, labels=None):
    """The perfect network for independent pixels from N(mean, VARIANCE); the mean is 0, or 0.5 for label 0."""
    mean = 0 if labels is None else 0.5 * (labels == 0).double().reshape(-1, 1, 1, 1)
    a = ALPHA_BAR[t[0]]
    return ((1 - a).sqrt() * (xt.double() - a.sqrt() * mean) / (a * VARIANCE + 1 - a)).to(xt.dtype)


def round_trip(steps, **asked):
    code = encode(gaussian, SCHEDULER, X0, num_inference_steps=steps, **asked)
    options = {"sampler": "ddim", "clip": False, "num_inference_steps": steps, "x_start": code, **asked}
    return code, (sample(gaussian, SCHEDULER, SHAPE, **options).double() - X0).square().mean().sqrt().item()


@pytest.mark.parametrize("asked", [{}, {"labels": torch.tensor([0, -1, 0])}])
def test_the_error_of_the_way_to_noise_and_back_halves_as_the_steps_double(asked):
    errors = [round_trip(steps, **asked)[1] for steps in (50, 100, 200, 400)]
    assert errors[0] < 0.1
    for once, twice in itertools.pairwise(errors):
        assert twice == pytest.approx(once / 2, rel=0.2)


def test_the_noise_is_that_of_the_equation():
    # The solution is x_t = x_0 sqrt((alpha_bar VARIANCE + 1 - alpha_bar) / VARIANCE): each pixel keeps its share of the
    # standard deviation.
    exact = X0 * ((ALPHA_BAR[-1] * VARIANCE + 1 - ALPHA_BAR[-1]) / VARIANCE).sqrt()
    errors = [(round_trip(steps)[0].double() - exact).square().mean().sqrt().item() for steps in (100, 200, 400)]
    assert errors[-1] < 0.03
    for once, twice in itertools.pairwise(errors):
        assert twice == pytest.approx(once / 2, rel=0.3)


def test_guidance_is_followed_on_the_way_to_noise():
    labels = torch.zeros(3, dtype=torch.int64)

    def guided(xt, t):
        return gaussian(xt, t) + 3 * (gaussian(xt, t, labels) - gaussian(xt, t))

    code = encode(gaussian, SCHEDULER, X0, num_inference_steps=20, labels=labels, guidance_scale=3.0)
    torch.testing.assert_close(code, encode(guided, SCHEDULER, X0, num_inference_steps=20))
    plain = encode(gaussian, SCHEDULER, X0, num_inference_steps=20, labels=labels)
    assert (code - plain).abs().mean() > 0.1


def test_encoding_yields_its_steps_and_can_be_stopped():
    steps = list(encoding(gaussian, SCHEDULER, X0, num_inference_steps=4))
    assert [(step.index, step.num_steps, step.t) for step in steps] == [
        (0, 4, 249),
        (1, 4, 499),
        (2, 4, 749),
        (3, 4, 999),
    ]
    assert torch.equal(steps[0].xt, X0.float())
    for before, after in itertools.pairwise(steps):
        assert torch.equal(before.x_next, after.xt)
    assert torch.equal(steps[-1].x_next, encode(gaussian, SCHEDULER, X0, num_inference_steps=4))
    with pytest.raises(InterruptedError, match="encoding was cancelled"):
        encode(gaussian, SCHEDULER, X0, cancelled=lambda: True)
    for change, message in (
        ({"num_inference_steps": 1001}, "1001 sampling steps: 1 to 1000 are possible"),
        ({"labels": torch.tensor([0])}, "labels have shape \\(1,\\): \\(3,\\) is needed, one for each image"),
    ):
        with pytest.raises(ValueError, match=message):
            encode(gaussian, SCHEDULER, X0, **change)


def test_the_arc_keeps_the_length_that_the_straight_line_loses():
    a, b = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    b *= a.norm() / b.norm()
    shares = torch.linspace(0, 1, 9, dtype=torch.float64)
    arc = slerp(a, b, shares)
    lengths = arc.flatten(1).norm(dim=1) / a.norm()
    assert torch.allclose(lengths, torch.ones(9, dtype=torch.float64), atol=1e-12)
    assert torch.equal(arc[0], a)
    assert torch.equal(arc[-1], b)
    angles = torch.arccos((arc[1:] * arc[:-1]).flatten(1).sum(1) / a.norm() ** 2)
    assert torch.allclose(angles, angles[:1], atol=1e-9), "equal steps"
    assert ((a + b) / 2).norm() < 0.75 * a.norm()
    assert torch.allclose(slerp(a, a, shares), a.expand(9, -1, -1, -1)), "no angle, no arc"
    assert torch.equal(slerp(0 * a, b, shares)[-1], b)
