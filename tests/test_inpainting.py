"""Inpainting: known pixels stay, and what is filled in has the distribution that the known pixels leave it."""

import itertools

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm.inpainting import visits
from ddpm.sampling import reverse_process, sample
from ddpm.schedule import Errors, NoiseSchedule

TABLES = {"num_train_timesteps": 60, "beta_start": 1e-4 * 1000 / 60, "beta_end": 0.3, "clip_sample": False}
SCHEDULER = DDPMScheduler(**TABLES)
ALPHA_BAR = NoiseSchedule.from_scheduler(SCHEDULER).alpha_bar
RHO = 0.8
COV = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)
MATRICES = [(1 - a).sqrt() * torch.linalg.inv(a * COV + (1 - a) * EYE) for a in ALPHA_BAR]


def gaussian(xt, t, labels=None):
    """The perfect network for columns of two pixels from N(mean, COV), where the mean is 0, or 1 for label 0:
    eps = sqrt(1 - alpha_bar) (alpha_bar COV + (1 - alpha_bar) I)^-1 (x_t - sqrt(alpha_bar) mean)."""
    mean = 0 if labels is None else (labels == 0).double().reshape(-1, 1, 1, 1)
    return (MATRICES[t[0]] @ (xt.double() - ALPHA_BAR[t[0]].sqrt() * mean)).to(xt.dtype)


def errors():
    """Of this network: the variance of a pixel given x_t."""
    given = [(COV - a * COV @ torch.linalg.inv(a * COV + (1 - a) * EYE) @ COV)[0, 0] for a in ALPHA_BAR]
    return Errors(torch.stack(given), torch.stack(given).log())


def schedule_of_the_authors(t_T, jump_length, jump_n_sample):
    """`get_schedule_jump` of github.com/andreas128/RePaint (guided_diffusion/scheduler.py), from which their Algorithm 1
    takes its times: the levels of noise, the last one -1."""
    jumps = {}
    for j in range(0, t_T - jump_length, jump_length):
        jumps[j] = jump_n_sample - 1
    t, ts = t_T, []
    while t >= 1:
        t = t - 1
        ts.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] = jumps[t] - 1
            for _ in range(jump_length):
                t = t + 1
                ts.append(t)
    return [*ts, -1]


@pytest.mark.parametrize(("steps", "length", "r"), [(250, 10, 10), (9, 2, 3), (5, 4, 2), (7, 1, 4)])
def test_the_order_of_the_steps_is_that_of_the_authors(steps, length, r):
    levels = schedule_of_the_authors(steps, length, r)
    taken = [steps - 1 - now for now, then in itertools.pairwise(levels) if then < now]
    assert visits(steps, r - 1, length) == taken
    assert visits(steps, 0, length) == list(range(steps))


def filled(jumps, seed=0, **options):
    """4,000 columns, the upper pixel of which is known to be 1; the lower ones that were filled in."""
    known, mask = torch.ones(1, 2, 4000), torch.tensor([[0], [1]]).expand(2, 4000)
    options = {"sampler": "ddpm_optimal", "errors": errors(), "jump_length": 2, **options}
    shape = (1, 1, 2, 4000)
    drawn = sample(gaussian, SCHEDULER, shape, known=known, mask=mask, jumps=jumps, seed=seed, **options)
    assert torch.equal(drawn[0, 0, 0], known[0, 0])
    return drawn[0, 0, 1].double()


@pytest.mark.slow
def test_jumps_give_the_conditional_mean_and_variance_and_without_jumps_neither_is_right():
    # Of 4,000 draws the mean has a standard error of 0.01 and the variance one of 0.008.
    mean, variance = RHO, 1 - RHO**2
    jumping, plain = filled(jumps=20), filled(jumps=0)
    assert jumping.mean().item() == pytest.approx(mean, abs=0.035)
    assert jumping.var().item() == pytest.approx(variance, abs=0.035)
    assert plain.mean().item() < mean - 0.2, "it hardly depends on the known pixel"
    assert plain.var().item() > variance + 0.08
    with_label = filled(
        jumps=20, labels=torch.tensor([0])
    )  # both pixels have the mean 1, so the known one says nothing
    assert with_label.mean().item() == pytest.approx(1, abs=0.035)


@pytest.mark.parametrize("sampler", ["ddpm", "ddpm_fixed_large", "ddpm_optimal", "ddim"])
def test_known_pixels_have_the_noise_of_each_t_and_are_exact_in_the_end(sampler):
    generator = torch.Generator().manual_seed(3)
    known = torch.rand(1, 2, 5000, generator=generator, dtype=torch.float64) * 2 - 1
    mask = torch.rand(2, 5000, generator=generator) < 0.3
    asked = {"known": known, "mask": mask, "jumps": 2, "jump_length": 3, "num_inference_steps": 12, "seed": 5}
    steps = list(reverse_process(gaussian, SCHEDULER, (1, 1, 2, 5000), sampler=sampler, errors=errors(), **asked))
    assert [step.index for step in steps] == list(range(len(visits(12, 2, 3))))
    assert {step.num_steps for step in steps} == {len(steps)}
    before = known.float()[0, ~mask[None][0]]
    for step in steps:
        alpha_bar = ALPHA_BAR[step.t]
        noise = (step.xt[0, 0][~mask].double() - alpha_bar.sqrt() * known[0][~mask]) / (1 - alpha_bar).sqrt()
        assert abs(noise.mean()) < 0.06, step.t  # 7,000 draws from N(0, 1)
        assert abs(noise.var() - 1) < 0.08, step.t
    finished = steps[-1].x_prev[0, 0]
    assert torch.equal(finished[~mask], before)
    assert not torch.isclose(finished[mask], known[0][mask].float(), atol=1e-3).all()


class LearnedUpperEnd:
    """The same network with v = 1 at every pixel: the upper end of the range of a learned variance, beta_t."""

    def __call__(self, xt, t):
        return gaussian(xt, t)

    def with_variance(self, xt, t):
        return gaussian(xt, t), torch.ones_like(xt)


def test_a_learned_variance_is_used_where_a_part_is_known():
    learned = DDPMScheduler(**TABLES, variance_type="learned_range")
    known, mask = torch.linspace(-1, 1, 64).reshape(1, 8, 8), torch.eye(8)
    known, mask = known.reshape(1, 2, 32), mask.reshape(2, 32)
    asked = {"known": known, "mask": mask, "jumps": 3, "num_inference_steps": 6, "seed": 11}
    drawn = sample(LearnedUpperEnd(), learned, (2, 1, 2, 32), sampler="ddpm", **asked)
    torch.testing.assert_close(drawn, sample(gaussian, SCHEDULER, (2, 1, 2, 32), sampler="ddpm_fixed_large", **asked))
    small = sample(gaussian, SCHEDULER, (2, 1, 2, 32), sampler="ddpm_fixed_small", **asked)
    assert not torch.allclose(drawn, small, atol=0.01)
    assert torch.equal(drawn[:, 0, mask == 0], known[0, mask == 0].expand(2, -1))


def test_image_i_depends_on_the_seed_and_on_i_alone():
    def pointwise(xt, t):
        return xt * 0.9

    known, mask = torch.linspace(-1, 1, 64).reshape(1, 8, 8), torch.eye(8)
    asked = {"known": known, "mask": mask, "jumps": 3, "num_inference_steps": 6, "seed": 11}
    batch = sample(pointwise, SCHEDULER, (3, 1, 8, 8), **asked)
    assert len({image.numpy().tobytes() for image in batch}) == 3
    for i in range(3):
        assert torch.equal(sample(pointwise, SCHEDULER, (1, 1, 8, 8), first_image=i, **asked)[0], batch[i])
    other = sample(pointwise, SCHEDULER, (3, 1, 8, 8), **asked | {"seed": 12})
    assert not torch.equal(other, batch)
    each = {"known": torch.stack([known, -known, known]), "mask": torch.stack([mask, 1 - mask, mask])[:, None]}
    several = sample(pointwise, SCHEDULER, (3, 1, 8, 8), **asked | each)
    assert torch.equal(several[::2], batch[::2])
    assert torch.equal(several[1, 0][mask == 1], -known[0][mask == 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": None}, "mask is missing: known, mask and jumps belong together"),
        ({"known": None}, "known is missing: known, mask and jumps belong together"),
        ({"jumps": -1}, "jumps -1: 0 (none) or more is needed"),
        ({"jump_length": 6}, "jump_length 6: 1 to 5 is possible with 6 sampling steps"),
        ({"num_inference_steps": 1}, "jumps: at least 2 sampling steps are needed to jump back"),
        ({"sampler": "dpm_solver++"}, "sampler 'dpm_solver++' cannot fill in, since"),
        ({"mask": torch.full((8, 8), 0.5)}, "mask: 0 (known) or 1 (to be filled in) is needed at each pixel"),
        ({"mask": torch.ones(3, 8, 8)}, "mask has shape (3, 8, 8): (H, W), (B, 1, H, W) or (B, C, H, W) is needed"),
        ({"mask": torch.ones(8, 9)}, "mask has shape (8, 9), which does not fit (1, 1, 8, 8)"),
        ({"known": torch.full((1, 8, 8), torch.nan)}, "known: finite numbers are needed"),
    ],
)
def test_what_cannot_be_filled_in_is_one_line(change, message):
    asked = {"known": torch.zeros(1, 8, 8), "mask": torch.eye(8), "jumps": 2, "num_inference_steps": 6} | change
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        sample(lambda xt, t: xt, SCHEDULER, (1, 1, 8, 8), **asked)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
