"""The reverse process p(x_{t-1} | x_t), one step at a time (Algorithm 2 of Ho et al. 2020, and faster relatives).

A sampler of n < T steps is the same sampler over a *respaced* schedule: n of the T timesteps, evenly spread, T - 1 the
first, with the alpha-bar of the full schedule at each. That is exact for any n; diffusers' own striding is not
(DDIMScheduler steps by T // n, which for n = 600 leaves 40 % of the noise).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor

EpsTheta = Callable[[Tensor, Tensor], Tensor]
"""eps_theta(x_t, t): (B, C, H, W) float and (B,) int64, 0-based, to the predicted noise (B, C, H, W)."""

Images = Tensor | np.ndarray

SAMPLERS = ("ddpm", "ddpm_fixed_small", "ddpm_fixed_large", "ddim", "dpm_solver++")

FRESH_NOISE = ("until_last", "never", "always")
"""Line 3 of Algorithm 2, z ~ N(0, I) if t > 1, else 0, and the two ways to get it wrong."""


@dataclass(frozen=True, eq=False)
class ReverseStep:
    """One step of the reverse process. `t` is 0-based; images are (B, C, H, W) float.

    `xt` went into the network, `eps_hat` came out, `x0_hat` is what it says of x_0 (Eq. 15, clipped where the sampler
    clips), `x_prev` is drawn from p(x_{t-1} | x_t): the next step's `xt`, or the finished sample at the last step.
    """

    index: int
    num_steps: int
    t: int
    xt: Tensor
    x0_hat: Tensor
    eps_hat: Tensor
    x_prev: Tensor


def timesteps_for(num_steps: int, start_t: int) -> list[int]:
    """`num_steps` timesteps from `start_t` down, evenly spread, both 0-based ("trailing" spacing in diffusers' words).

    Raises:
        ValueError: more steps than there are timesteps, or fewer than 1.
    """
    if not 1 <= num_steps <= start_t + 1:
        raise ValueError(f"{num_steps} sampling steps: 1 to {start_t + 1} are possible from timestep {start_t + 1}")
    return [round(t) - 1 for t in np.arange(start_t + 1, 0, -(start_t + 1) / num_steps)[:num_steps]]


@dataclass(frozen=True)
class Update:
    """The arithmetic of one step, its factors known beforehand.

    x0_hat = (x_t - sigma eps_hat) / signal, clipped or not, and
    x_prev = x0 x0_hat + xt x_t + eps eps_hat + noise z + before (x0_hat of the step before), with z from N(0, I).

    Images are (B, C, H, W) float32, tensors or NumPy arrays: the bits are the same.
    """

    signal: float
    sigma: float
    x0: float
    xt: float
    eps: float
    noise: float
    before: float

    def x0_hat(self, xt: Images, eps_hat: Images, clip: bool) -> Images:
        """Eq. 15, in [-1, 1] if `clip`."""
        x0_hat = xt - self.sigma * eps_hat
        x0_hat /= self.signal
        return x0_hat.clip(-1, 1) if clip else x0_hat

    def x_prev(self, x0_hat: Images, xt: Images, eps_hat: Images, z: Images | None, before: Images | None) -> Images:
        """A draw from p(x_{t-1} | x_t); `z` and `before` are needed where they count."""
        x_prev = self.x0 * x0_hat
        for factor, images in ((self.xt, xt), (self.eps, eps_hat), (self.noise, z), (self.before, before)):
            if factor:
                x_prev += factor * images
        return x_prev


def updates(
    sampler: str, alpha_bar: Tensor, variance_type: str, eta: float = 0.0, fresh_noise: str = "until_last"
) -> list[Update]:
    """The steps of a sampler over a respaced schedule: what diffusers' schedulers compute, in a quarter of their time.

    Ancestral sampling and DDIM agree with them to the bit, by the same operations on float32 in the same order:
    a thousand steps of a network can make much of a small difference.

    Args:
        sampler: one of SAMPLERS.
        alpha_bar: (steps,) float32 at each timestep, descending in t; after the last one follows clean data.
        variance_type: of "ddpm", as in NoiseSchedule.
        eta: of "ddim".
        fresh_noise: of "ddpm...", see `reverse_process`.
    Raises:
        ValueError: unknown sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r}: one of {', '.join(SAMPLERS)} is needed")
    ab, ab_prev = alpha_bar, torch.cat([alpha_bar[1:], torch.ones(1)])
    alpha = ab / ab_prev
    posterior_variance = (1 - ab_prev) / (1 - ab) * (1 - alpha)  # Eq. 7
    zero = torch.zeros_like(ab)
    xt, eps, noise, before = zero, zero, zero, zero
    if sampler == "ddim":  # Eq. 12 of Song et al. 2021
        noise = eta * posterior_variance**0.5
        x0, eps = ab_prev**0.5, (1 - ab_prev - noise**2) ** 0.5
    elif sampler == "dpm_solver++":  # 2M of Lu et al. 2022; the first and the last step are of order 1
        h = 0.5 * (ab_prev / (1 - ab_prev) * (1 - ab) / ab).log()
        more = torch.cat([zero[:1], 0.5 * h[1:-1] / h[:-2], zero[1:][-1:]])
        first = -(ab_prev**0.5) * torch.expm1(-h)
        x0, xt, before = first * (1 + more), ((1 - ab_prev) / (1 - ab)) ** 0.5, -first * more
    else:  # Eq. 7
        kind = variance_type if sampler == "ddpm" else sampler.removeprefix("ddpm_")
        x0, xt = ab_prev**0.5 * (1 - alpha) / (1 - ab), alpha**0.5 * (1 - ab_prev) / (1 - ab)
        noise = (posterior_variance if kind == "fixed_small" else 1 - alpha) ** 0.5
        if fresh_noise == "never":
            noise = zero
        elif fresh_noise == "until_last":
            noise[-1] = 0  # the last step gives the network's x_0 itself
    return [
        Update(*factors) for factors in torch.stack([ab**0.5, (1 - ab) ** 0.5, x0, xt, eps, noise, before], 1).tolist()
    ]


def generators(seed: int, num_images: int, first: int = 0) -> list[torch.Generator]:
    """One CPU generator an image: image i of a seed is the same whatever is sampled beside it.

    The generators are those of images first ... first + num_images - 1, so that processes can share the work.

    Plain diffusers gives the same images for `DDPMPipeline(..., batch_size=n, generator=generators(seed, n))`.
    """
    return [
        torch.Generator().manual_seed(int(np.random.SeedSequence((seed, i)).generate_state(1)[0]))
        for i in range(first, first + num_images)
    ]


def normal(shape: tuple[int, int, int, int], streams: list[torch.Generator]) -> Tensor:
    """(B, C, H, W) float32 from N(0, I), image i from generator i: bit for bit diffusers' `randn_tensor`."""
    z = torch.empty(shape)
    for image, stream in zip(z, streams, strict=True):
        image.normal_(generator=stream)
    return z


AHEAD = 2**14  # numbers of fresh noise drawn at a time


def _fresh_noise(
    shape: tuple[int, int, int, int], streams: list[torch.Generator], steps: list[Update]
) -> Iterator[Tensor | None]:
    """z of each step, None where it has no use for any.

    Small images get theirs for several steps at a time: between two calls of the network nothing of it would be in the
    processor's caches, and one draw would take as long as ten.
    """
    ahead, drawn = max(1, AHEAD // math.prod(shape)), deque()
    wanting = sum(step.noise != 0 for step in steps)
    for step in steps:
        if not step.noise:
            yield None
            continue
        if not drawn:
            drawn.extend(normal(shape, streams) for _ in range(min(ahead, wanting)))
            wanting -= len(drawn)
        yield drawn.popleft()


@torch.no_grad()
def reverse_process(
    eps_theta: EpsTheta,
    base: DDPMScheduler,
    shape: tuple[int, int, int, int],
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
    cancelled: Callable[[], bool] = lambda: False,
    device: torch.device | str | None = None,
) -> Iterator[ReverseStep]:
    """Sample, yielding every step. Ends early, between two steps, once `cancelled()` is true or the caller stops.

    Args:
        eps_theta: the predicted noise, whatever the network itself predicts.
        base: the scheduler that the model was trained with; not changed.
        shape: (B, C, H, W) of the images.
        sampler: one of SAMPLERS.
        num_inference_steps: 1 to start_t + 1; None: every timestep.
        seed, first_image: of x_T and of the noise of each step, see `generators`.
        same_noise: every image gets the noise that image `first_image` of this seed has.
        eta: DDIM's share of fresh noise, 0 (none) to 1 (as much as ancestral sampling).
        clip: clip x0_hat to [-1, 1]; None: as `base` does.
        fresh_noise: one of FRESH_NOISE. "until_last" is Algorithm 2; the others are mistakes, to be looked at, of
            ancestral sampling ("ddpm..."): "never" leaves sigma_t z out of every step, so x_{t-1} is the mean of
            p(x_{t-1} | x_t); "always" adds sigma_1 z to the finished sample, too (beta-tilde_1 is 0, so it changes
            nothing with the small variance).
        device: where x_t lives; None: that of `eps_theta`, if it says.
        x_start: (B, C, H, W) x_t to start from; None: N(0, I), which is x_T and no x_t of a smaller t.
        start_t: the first timestep, 0-based; None: T - 1.
    Raises:
        ValueError: an argument out of range, named.
    """
    last = base.config.num_train_timesteps - 1
    start_t = last if start_t is None else start_t
    device = getattr(eps_theta, "device", "cpu") if device is None else device
    if not 0 <= start_t <= last:
        raise ValueError(f"start_t {start_t}: 0 to {last} is possible")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta}: 0 to 1 is possible")
    if fresh_noise not in FRESH_NOISE:
        raise ValueError(f"fresh_noise {fresh_noise!r}: one of {', '.join(FRESH_NOISE)} is needed")
    if fresh_noise != "until_last" and not sampler.startswith("ddpm"):
        raise ValueError(f"fresh_noise {fresh_noise!r}: sampler {sampler!r} adds none that could be changed")
    timesteps = timesteps_for(num_inference_steps or start_t + 1, start_t)
    alpha_bar = base.alphas_cumprod.float().cpu()[timesteps]
    steps = updates(sampler, alpha_bar, base.config.variance_type, eta, fresh_noise)
    clip = base.config.clip_sample if clip is None else clip
    streams = generators(seed, shape[0], first_image)
    if same_noise:  # as many objects as images, since each is used up on its own
        streams = [generators(seed, 1, first_image)[0] for _ in range(shape[0])]

    x = x_start if x_start is not None else normal(shape, streams)
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"x_start has shape {tuple(x.shape)}, {tuple(shape)} is needed")
    x = x.to(device=device, dtype=torch.float32)
    # On small images PyTorch spends most of its time on getting to work; NumPy gets there in half of it.
    bare, tensor = (Tensor.numpy, torch.from_numpy) if x.device.type == "cpu" else (_same, _same)
    xt, x0_before = bare(x), None
    fresh = _fresh_noise(shape, streams, steps)
    at = torch.tensor(timesteps, device=device).unsqueeze(1).repeat(1, shape[0])
    for index, (t, update) in enumerate(zip(timesteps, steps, strict=True)):
        if cancelled():
            return
        output = eps_theta(x, at[index]).to(x.dtype)
        z = next(fresh)  # after the call: a GPU computes meanwhile
        z = None if z is None else bare(z.to(device))
        eps_hat = bare(output)
        x0_hat = update.x0_hat(xt, eps_hat, clip)
        x_prev = update.x_prev(x0_hat, xt, eps_hat, z, x0_before)
        following = tensor(x_prev)
        yield ReverseStep(index, len(timesteps), t, x, tensor(x0_hat), output, following)
        x, xt, x0_before = following, x_prev, x0_hat


def _same(images: Tensor) -> Tensor:
    return images


def sample(eps_theta: EpsTheta, base: DDPMScheduler, shape: tuple[int, int, int, int], **options) -> Tensor:
    """The end of `reverse_process`, (B, C, H, W) in about [-1, 1]. Arguments as there.

    Raises:
        InterruptedError: cancelled before the last step.
    """
    last = None
    for step in reverse_process(eps_theta, base, shape, **options):
        last = step
    if last is None or last.index + 1 < last.num_steps:
        raise InterruptedError("sampling was cancelled")
    return last.x_prev
