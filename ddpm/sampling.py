"""The reverse process p(x_{t-1} | x_t), one step at a time: Algorithm 2 of Ho et al. 2020, and faster samplers.

A sampler of n < T steps is the same sampler over a *respaced* schedule: it visits n of the T timesteps, evenly spread
and beginning at T - 1, with the alpha-bar of the full schedule at each. That is exact for any n. The striding of
diffusers is not: DDIMScheduler steps by T // n, which for n = 600 leaves 40 % of the noise in the result.

Timesteps are 0-based in code: index 0 is the paper's t = 1.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm.guidance import labelled
from ddpm.inpainting import Known, check_sampler, order_of
from ddpm.names import FRESH_NOISE, LEARNED_VARIANCES, OPTIMAL, SAMPLERS
from ddpm.schedule import EpsTheta, Errors, NoiseSchedule, answer

Shape = tuple[int, int, int, int]
"""(B, C, H, W)."""

Array = Tensor | np.ndarray

FLOAT32_ERROR = 2e-3  # of 1 - alpha_bar; more makes a sampler's steps wrong, and its tables are computed in float64

AHEAD = 2**14  # how many numbers of fresh noise are drawn at a time
FOR_KNOWN = 1  # the purpose of the generators whose noise known pixels and jumps get


@dataclass(frozen=True, eq=False)
class ReverseStep:
    """One step of the reverse process. Images are (B, C, H, W) float.

    Attributes:
        index: number of the step, from 0.
        num_steps: how many steps there are; those that are taken again after a jump count again.
        t: the timestep, 0-based.
        xt: x_t, the input of the network.
        x0_hat: the x_0 that the network's answer implies (Eq. 15), clipped if the sampler clips.
        eps_hat: the predicted noise.
        x_prev: drawn from p(x_{t-1} | x_t), with the known pixels put back if there are some: the next step's `xt`,
            unless there is a jump between, and at the last step the finished sample.
    """

    index: int
    num_steps: int
    t: int
    xt: Tensor
    x0_hat: Tensor
    eps_hat: Tensor
    x_prev: Tensor


def timesteps_for(num_steps: int, start_t: int) -> list[int]:
    """`num_steps` evenly spread timesteps, 0-based, from `start_t` down: "trailing" spacing in diffusers' terms.

    Raises:
        ValueError: more steps than there are timesteps, or fewer than 1.
    """
    if not 1 <= num_steps <= start_t + 1:
        raise ValueError(f"{num_steps} sampling steps: 1 to {start_t + 1} are possible from timestep {start_t + 1}")
    return [round(t) - 1 for t in np.arange(start_t + 1, 0, -(start_t + 1) / num_steps)[:num_steps]]


@dataclass(frozen=True)
class Update:
    """The arithmetic of one step, with all factors computed beforehand.

    x0_hat = (x_t - sigma eps_hat) / signal, clipped or not, and
    x_prev = x0 x0_hat + xt x_t + eps eps_hat + noise z + before (x0_hat of the step before), with z from N(0, I).

    Images are (B, C, H, W) float32, either tensors or NumPy arrays; both give the same bits.
    """

    signal: float
    sigma: float
    x0: float
    xt: float
    eps: float
    noise: float
    before: float
    log_variance: tuple[float, float] | None = None

    def sigma_t(self, v: Array) -> Array:
        """sigma_t of each pixel, by which z is multiplied beside `noise`, for a variance that the network predicts.

        Args:
            v: see `NoiseSchedule.learned_log_variance`.
        """
        log_variance = v
        if self.log_variance is not None:
            low, high = self.log_variance
            share = (v + 1) / 2
            log_variance = share * high + (1 - share) * low
        half = 0.5 * log_variance
        return _bare(torch.exp(_tensor(half)))  # NumPy's exponential function gives other bits

    def x0_hat(self, xt: Array, eps_hat: Array, clip: float | None) -> Array:
        """Eq. 15; in [-clip, clip] unless that is None."""
        x0_hat = xt - self.sigma * eps_hat
        x0_hat /= self.signal
        return x0_hat if clip is None else x0_hat.clip(-clip, clip)

    def eps_beside(self, x0_hat: Array, xt: Array) -> Array:
        """The noise that x_t holds if the picture in it is x0_hat, which may have been clipped."""
        return (xt - self.signal * x0_hat) / self.sigma

    def x_prev(self, x0_hat: Array, xt: Array, eps_hat: Array, z: Array | None, before: Array | None) -> Array:
        """A draw from p(x_{t-1} | x_t). `z` and `before` may be None where their factor is 0."""
        x_prev = self.x0 * x0_hat
        for factor, images in ((self.xt, xt), (self.eps, eps_hat), (self.noise, z), (self.before, before)):
            if factor:
                assert images is not None
                x_prev += factor * images
        return x_prev


def updates(
    sampler: str,
    alpha_bar: Tensor,
    variance_type: str,
    eta: float = 0.0,
    fresh_noise: str = "until_last",
    x0_mse: Tensor | None = None,
) -> list[Update]:
    """The steps of a sampler over a respaced schedule: what diffusers' schedulers compute, in a quarter of their time.

    For ancestral sampling and DDIM the results are equal to the last bit, since the same float32 operations are done in
    the same order. Over a thousand steps a network could turn a tiny difference into a visible one.

    Args:
        sampler: one of SAMPLERS, or "ddpm_optimal".
        alpha_bar: (steps,) float, alpha-bar at each timestep, in the order of sampling. After the last step it is 1.
        variance_type: the variance that "ddpm" uses, see `NoiseSchedule`. For a learned one, `noise` is 1 where a step
            adds fresh noise, and `Update.sigma_t` gives its standard deviation.
        eta: used by ETA_SAMPLERS, see `reverse_process`.
        fresh_noise: used by ancestral sampling ("ddpm..."), see `reverse_process`.
        x0_mse: (steps,) see `Errors`; used by "ddpm_optimal".
    Raises:
        ValueError: unknown sampler, or one that lacks `x0_mse`.
    """
    if sampler not in SAMPLERS and (sampler != "ddpm_optimal" or x0_mse is None):
        needed = "the errors of the network are" if sampler == "ddpm_optimal" else f"one of {', '.join(SAMPLERS)} is"
        raise ValueError(f"sampler {sampler!r}: {needed} needed")
    ab, ab_prev = alpha_bar, torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])
    alpha = ab / ab_prev
    posterior_variance = (1 - ab_prev) / (1 - ab) * (1 - alpha)  # Eq. 7
    zero = torch.zeros_like(ab)
    xt, eps, noise, before = zero, zero, zero, zero
    if sampler == "ddim":  # Eq. 12 of Song et al. 2021
        noise = eta * posterior_variance**0.5
        x0, eps = ab_prev**0.5, (1 - ab_prev - noise**2) ** 0.5
    elif sampler == "dpm_solver++":  # 2M of Lu et al. 2022; the first and the last step are of order 1
        h = 0.5 * (ab_prev / (1 - ab_prev) * (1 - ab) / ab).log().clamp(min=0)  # infinite in the last step
        more = torch.where(h[:-2] > 0, 0.5 * h[1:-1] / h[:-2], 0)  # neighbours in a float32 table can be equal
        more = torch.cat([zero[:1], more, zero[1:][-1:]])
        first, xt = -(ab_prev**0.5) * torch.expm1(-(1 + eta) * h), ((1 - ab_prev) / (1 - ab)) ** 0.5
        if eta:  # with 1, SDE-DPM-Solver++(2M) of the same paper; between, as in k-diffusion
            eta_h = eta * h
            eta_h[-1] = torch.inf  # for an eta that is 0 in float32
            xt *= torch.exp(-eta_h)
            noise = ((1 - ab_prev) * -torch.expm1(-2 * eta_h)) ** 0.5
        x0, before = first * (1 + more), -first * more
    else:  # Eq. 7
        kind = variance_type if sampler == "ddpm" else sampler.removeprefix("ddpm_")
        x0, xt = ab_prev**0.5 * (1 - alpha) / (1 - ab), alpha**0.5 * (1 - ab_prev) / (1 - ab)
        if kind in LEARNED_VARIANCES:
            noise = torch.ones_like(ab)
        elif kind == OPTIMAL and x0_mse is not None:
            noise = (posterior_variance + x0**2 * x0_mse.to(ab.dtype)) ** 0.5
        else:
            noise = (posterior_variance if kind == "fixed_small" else 1 - alpha) ** 0.5
        if fresh_noise == "never":
            noise = zero
        elif fresh_noise == "until_last":
            noise[-1] = 0  # the last step returns the network's x_0 itself
    ranges: Iterable[tuple[float, float] | None] = itertools.repeat(None)
    if variance_type == "learned_range" and sampler == "ddpm":  # the ends of log sigma_t^2, as diffusers computes them
        low, high = (torch.log(table).tolist() for table in (posterior_variance.clamp(min=1e-20), 1 - alpha))
        ranges = zip(low, high, strict=True)
    factors = torch.stack([ab**0.5, (1 - ab) ** 0.5, x0, xt, eps, noise, before], 1).tolist()
    return [Update(*row, log_variance=ends) for row, ends in zip(factors, ranges, strict=False)]


def alpha_bars(base: DDPMScheduler) -> Tensor:
    """(T,) alpha-bar of a scheduler, as its float32 table has it, or float64 where that table is not good enough.

    float32 has no digits for 1 - alpha_bar where alpha-bar is close to 1: diffusers' table of a schedule that begins at
    a log signal-to-noise ratio of 13.3 is off by 16 % there, and at 10 by 0.1 %. Neighbouring values can even be equal,
    so that a sampler would divide by zero.
    """
    table, exact = base.alphas_cumprod.float().cpu(), NoiseSchedule(base.betas).alpha_bar
    error = ((1 - table.double()) / (1 - exact) - 1).abs().max()
    return table if error < FLOAT32_ERROR else exact


def generators(seed: int, num_images: int, first: int = 0, *purpose: int) -> list[torch.Generator]:
    """One CPU generator per image, so that image i of a seed does not depend on what else is sampled with it.

    The generators are those of images first ... first + num_images - 1, so that several processes can share the work.
    Plain diffusers gives the same images for `DDPMPipeline(..., batch_size=n, generator=generators(seed, n))`.

    Args:
        purpose: a number other than 0 makes generators that are independent of these.
    """
    return [
        torch.Generator().manual_seed(int(np.random.SeedSequence((seed, i, *purpose)).generate_state(1)[0]))
        for i in range(first, first + num_images)
    ]


def normal(shape: Shape, streams: list[torch.Generator]) -> Tensor:
    """(B, C, H, W) float32 from N(0, I), image i drawn by generator i; the same bits as diffusers' `randn_tensor`."""
    z = torch.empty(shape)
    for image, stream in zip(z, streams, strict=True):
        image.normal_(generator=stream)
    return z


def _fresh_noise(shape: Shape, streams: list[torch.Generator], steps: list[Update]) -> Iterator[Tensor | None]:
    """The noise z of each step; None where a step adds none.

    For small images the noise of several steps is drawn at a time: a call of the network empties the processor's
    caches, so that a single draw between two calls would take as long as ten draws in a row.
    """
    ahead, drawn = max(1, AHEAD // math.prod(shape)), deque()
    missing = sum(step.noise != 0 for step in steps)
    for step in steps:
        if not step.noise:
            yield None
            continue
        if not drawn:
            drawn.extend(normal(shape, streams) for _ in range(min(ahead, missing)))
            missing -= len(drawn)
        yield drawn.popleft()


def _check_options(sampler: str, eta: float, fresh_noise: str, start_t: int, num_timesteps: int) -> None:
    """Reject options of `reverse_process` that are out of range.

    Raises:
        ValueError: names the option, its value and what is accepted.
    """
    if not 0 <= start_t < num_timesteps:
        raise ValueError(f"start_t {start_t}: 0 to {num_timesteps - 1} is possible")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta}: 0 to 1 is possible")
    if fresh_noise not in FRESH_NOISE:
        raise ValueError(f"fresh_noise {fresh_noise!r}: one of {', '.join(FRESH_NOISE)} is needed")
    if fresh_noise != "until_last" and not sampler.startswith("ddpm"):
        raise ValueError(f"fresh_noise {fresh_noise!r}: sampler {sampler!r} has no such choice")


@torch.no_grad()
def reverse_process(
    eps_theta: EpsTheta,
    base: DDPMScheduler,
    shape: Shape,
    *,
    sampler: str = "ddpm",
    num_inference_steps: int | None = None,
    seed: int = 0,
    first_image: int = 0,
    same_noise: bool = False,
    eta: float = 0.0,
    clip: bool | None = None,
    fresh_noise: str = "until_last",
    x_start: Tensor | None = None,
    start_t: int | None = None,
    errors: Errors | None = None,
    labels: Tensor | None = None,
    guidance_scale: float | Sequence[float] = 1.0,
    guidance_interval: tuple[int, int] | None = None,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    jumps: int = 0,
    jump_length: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    device: torch.device | str | None = None,
) -> Iterator[ReverseStep]:
    """Sample, and yield every step. Sampling ends early, between two steps, once `cancelled()` is true.

    This is long because every option is a line or two of the one loop, whose order of draws must not change.

    Args:
        eps_theta: the predicted noise, see `EpsTheta`; where "ddpm" is to sample with a variance that is learned, an
            `Engine` or another object that has its method `with_variance`.
        base: the scheduler that the model was trained with; it is not changed.
        shape: (B, C, H, W) of the images.
        sampler: one of SAMPLERS, or "ddpm_optimal": ancestral sampling with the variance that suits the network best.
        num_inference_steps: 1 to start_t + 1; None: every timestep.
        seed, first_image: determine x_T and the noise of each step, see `generators`.
        same_noise: give every image the noise that image `first_image` of this seed has.
        eta: share of fresh noise in DDIM and DPM-Solver++, from 0 (none) to 1: with 1, both add as much as ancestral
            sampling with the small variance, and DPM-Solver++ is SDE-DPM-Solver++. Between, the standard deviation is
            eta times that in DDIM, and in DPM-Solver++ the variance is (1 - alpha_bar_prev) (1 - exp(-2 eta h)), where
            2 h is by how much the log signal-to-noise ratio grows, as in k-diffusion's `sample_dpmpp_2m_sde`. Other
            samplers do not use it.
        clip: clip x0_hat to the range of `base`, which is [-1, 1] almost always; None: as `base` does.
        fresh_noise: one of FRESH_NOISE. "until_last" is Algorithm 2; the others show mistakes in ancestral sampling
            ("ddpm..."): "never" leaves sigma_t z out of every step, so that x_{t-1} is the mean of p(x_{t-1} | x_t);
            "always" also adds sigma_1 z to the finished sample, which changes nothing with the small variance, since
            beta-tilde_1 is 0.
        x_start: (B, C, H, W), the x_t to start from; None: a draw from N(0, I), which is right for x_T only.
        start_t: the first timestep, 0-based; None: T - 1.
        errors: of the network; "ddpm_optimal" needs them.
        labels: (B,) int64, the class of each image, -1 for "no label"; None: no label for any image. `eps_theta` then
            takes them as its third argument, as an `Engine` does.
        guidance_scale: s in eps_hat = eps_0 + s (eps_c - eps_0), for all images or one for each: 0 is without label, 1
            the plain class-conditional model (Ho & Salimans 2022, whose w is s - 1).
        guidance_interval: the range of timesteps, 0-based, in which s is more than 1; see `Guided`.
        known, mask: fill in a part of a picture, see `ddpm.inpainting.Known`: known is x_0, (C, H, W) or (B, C, H, W),
            and mask is 1 where it is to be filled in. In the finished sample, all other pixels are those of known, to
            the bit. Every sampler can do so but "dpm_solver++".
        jumps: how often the sampler jumps back from each place and takes the same steps again, 0 for never; the r of
            RePaint is jumps + 1. Together they take about jumps times as many steps as the sampler does without.
        jump_length: steps of a jump, the j of RePaint; None: 10, or as many as there are before the last.
        device: the device of x_t; None: on `eps_theta.device`, or on the CPU if it has no such attribute.
    Raises:
        ValueError: an argument is out of range; the message names it.
    """
    num_timesteps: int = base.config["num_train_timesteps"]
    start_t = num_timesteps - 1 if start_t is None else start_t
    device = torch.device(getattr(eps_theta, "device", "cpu") if device is None else device)
    if labels is not None and tuple(labels.shape) != (shape[0],):
        raise ValueError(f"labels have shape {tuple(labels.shape)}: {(shape[0],)} is needed, one for each image")
    eps_theta = labelled(eps_theta, labels, guidance_scale, guidance_interval, num_timesteps)
    _check_options(sampler, eta, fresh_noise, start_t, num_timesteps)
    timesteps = timesteps_for(num_inference_steps or start_t + 1, start_t)
    order = order_of(len(timesteps), jumps, jump_length)
    alpha_bar = alpha_bars(base)[timesteps]
    x0_mse = errors and errors.x0_mse[timesteps]
    steps = updates(sampler, alpha_bar, base.config["variance_type"], eta, fresh_noise, x0_mse)
    learned = sampler == "ddpm" and base.config["variance_type"] in LEARNED_VARIANCES
    clips = bool(base.config["clip_sample"]) if clip is None else clip
    limit = float(base.config["clip_sample_range"]) if clips else None

    def streams_of(*purpose: int) -> list[torch.Generator]:
        if same_noise:  # still one generator per image, since each draw advances its generator
            return [generators(seed, 1, first_image, *purpose)[0] for _ in range(shape[0])]
        return generators(seed, shape[0], first_image, *purpose)

    streams, kept = streams_of(), None
    if known is not None or mask is not None or jumps:
        check_sampler(sampler)
        own = streams_of(FOR_KNOWN)  # noise is drawn ahead from the others, more of it for fewer images
        levels = [*alpha_bar.double().tolist(), 1.0]
        kept = Known(known, mask, shape, levels, lambda: normal(shape, own), device)

    x = x_start if x_start is not None else normal(shape, streams)
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"x_start has shape {tuple(x.shape)}, {tuple(shape)} is needed")
    x = x.to(device=device, dtype=torch.float32)
    x = kept.put_back(x, 0) if kept else x
    xt, x0_before = _bare(x), None
    fresh = _fresh_noise(shape, streams, [steps[place] for place in order])
    at = torch.tensor(timesteps, device=device).unsqueeze(1).repeat(1, shape[0])
    # Guidance drives x_0 far out of its range at large t. The other samplers take only the clipped x_0 on; DDIM would
    # also take eps_hat on, which holds the rest of it, upside down: the finished pictures were the opposite of their
    # label. There, the noise is what x_t holds beside the clipped x_0 (`use_clipped_model_output` of diffusers).
    exaggerated: list[int] = []
    scale = getattr(eps_theta, "scale", None)  # of Guided or Joined
    if sampler == "ddim" and limit is not None and scale is not None:
        exaggerated = torch.nonzero(scale > 1)[:, 0].tolist()
    for index, place in enumerate(order):
        if cancelled():
            return
        update = steps[place]
        output, v = answer(eps_theta, x, at[place], learned=learned)
        output = output.to(x.dtype)
        z = next(fresh)  # drawn after the call, while a GPU still computes
        z = None if z is None else _bare(z.to(device))
        if z is not None and v is not None:
            z = update.sigma_t(_bare(v.to(x.dtype))) * z
        eps_hat = _bare(output)
        x0_hat = update.x0_hat(xt, eps_hat, limit)
        if exaggerated:
            beside = output.clone()
            beside[exaggerated] = _tensor(update.eps_beside(x0_hat[exaggerated], xt[exaggerated]))
            eps_hat = _bare(beside)
        following = _tensor(update.x_prev(x0_hat, xt, eps_hat, z, x0_before))
        following = kept.put_back(following, place + 1) if kept else following
        yield ReverseStep(index, len(order), timesteps[place], x, _tensor(x0_hat), output, following)
        if kept and index + 1 < len(order) and order[index + 1] <= place:
            following = kept.jump(following, place + 1, order[index + 1])
        x, xt, x0_before = following, _bare(following), x0_hat


def _bare(images: Tensor) -> Array:
    """A NumPy view of images on the CPU, where the arithmetic of small arrays takes half as long as in PyTorch."""
    return images.numpy() if images.device.type == "cpu" else images


def _tensor(images: Array) -> Tensor:
    """The images as a tensor again; the reverse of `_bare`."""
    return torch.from_numpy(images) if isinstance(images, np.ndarray) else images


def sample(eps_theta: EpsTheta, base: DDPMScheduler, shape: Shape, **options) -> Tensor:
    """The finished samples of `reverse_process`, (B, C, H, W), about in [-1, 1]. It takes the same arguments.

    Raises:
        InterruptedError: sampling was cancelled before the last step.
    """
    last = None
    for step in reverse_process(eps_theta, base, shape, **options):
        last = step
    if last is None or last.index + 1 < last.num_steps:
        raise InterruptedError("sampling was cancelled")
    return last.x_prev
