"""The reverse process p(x_{t-1} | x_t), one step at a time (Algorithm 2 of Ho et al. 2020, and faster relatives).

A sampler of n < T steps is the same diffusers scheduler over a *respaced* schedule: n of the T timesteps, evenly
spread, T - 1 the first, with the alpha-bar of the full schedule at each. That is exact for any n; diffusers' own
striding is not (DDIMScheduler steps by T // n, which for n = 600 leaves 40 % of the noise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

EpsTheta = Callable[[Tensor, Tensor], Tensor]
"""eps_theta(x_t, t): (B, C, H, W) float and (B,) int64, 0-based, to the predicted noise (B, C, H, W)."""

SAMPLERS = ("ddpm", "ddpm_fixed_small", "ddpm_fixed_large", "ddim", "dpm_solver++")


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


def make_scheduler(sampler: str, base, timesteps: list[int], clip: bool | None = None):
    """A diffusers scheduler whose own steps len(timesteps) - 1 ... 0 are the given timesteps of `base`.

    Always a new object: `set_timesteps` is sticky, so the training scheduler must never sample.

    Args:
        sampler: one of SAMPLERS; "ddpm" takes the variance that `base` was configured with.
        base: the DDPMScheduler that the model was trained with.
        timesteps: 0-based, descending.
        clip: clip x0_hat to [-1, 1] at every step; None: as `base` does.
    Raises:
        ValueError: unknown sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r}: one of {', '.join(SAMPLERS)} is needed")
    alpha_bar = base.alphas_cumprod.detach().cpu()[timesteps[::-1]]
    clip = base.config.clip_sample if clip is None else clip
    options = {
        "num_train_timesteps": len(timesteps),
        "trained_betas": (1 - alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]])).tolist(),
        "timestep_spacing": "trailing",
    }
    if sampler == "ddim":
        scheduler = DDIMScheduler(**options, clip_sample=clip)
    elif sampler == "dpm_solver++":
        # Thresholding with a maximum of 1 is clipping to [-1, 1], which this scheduler has no other name for.
        scheduler = DPMSolverMultistepScheduler(
            **options, algorithm_type="dpmsolver++", thresholding=clip, sample_max_value=1.0
        )
    else:
        variance_type = base.config.variance_type if sampler == "ddpm" else sampler.removeprefix("ddpm_")
        scheduler = DDPMScheduler(**options, clip_sample=clip, variance_type=variance_type)
    scheduler.alphas_cumprod = alpha_bar  # bit for bit those of `base`, without the way through float32 betas
    scheduler.set_timesteps(len(timesteps))
    return scheduler


def generators(seed: int, num_images: int, first: int = 0) -> list[torch.Generator]:
    """One CPU generator an image: image i of a seed is the same whatever is sampled beside it.

    The generators are those of images first ... first + num_images - 1, so that processes can share the work.

    Plain diffusers gives the same images for `DDPMPipeline(..., batch_size=n, generator=generators(seed, n))`.
    """
    return [
        torch.Generator().manual_seed(int(np.random.SeedSequence((seed, i)).generate_state(1)[0]))
        for i in range(first, first + num_images)
    ]


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
    eta: float = 0.0,
    clip: bool | None = None,
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
        eta: DDIM's share of fresh noise, 0 (none) to 1 (as much as ancestral sampling).
        clip: clip x0_hat to [-1, 1]; None: as `base` does.
        device: where x_t lives; None: that of `eps_theta`, if it says.
        x_start: (B, C, H, W) x_t to start from at `start_t` (0-based) instead of noise at T - 1.
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
    timesteps = timesteps_for(num_inference_steps or start_t + 1, start_t)
    scheduler = make_scheduler(sampler, base, timesteps, clip)
    clips = scheduler.config.get("clip_sample") or scheduler.config.get("thresholding")
    noise = generators(seed, shape[0], first_image)
    step_options = {"generator": noise}
    if sampler == "ddim":
        step_options["eta"] = eta

    x = x_start if x_start is not None else randn_tensor(shape, generator=noise)
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"x_start has shape {tuple(x.shape)}, {tuple(shape)} is needed")
    x = x.to(device=device, dtype=torch.float32)
    for index, (step, t) in enumerate(zip(scheduler.timesteps.tolist(), timesteps, strict=True)):
        if cancelled():
            return
        eps_hat = eps_theta(x, torch.full((shape[0],), t, dtype=torch.int64, device=device))
        alpha_bar = float(scheduler.alphas_cumprod[step])
        x0_hat = (x - (1 - alpha_bar) ** 0.5 * eps_hat) / alpha_bar**0.5  # Eq. 15
        x0_hat = x0_hat.clamp(-1, 1) if clips else x0_hat
        x_prev = scheduler.step(eps_hat, step, x, **step_options).prev_sample
        yield ReverseStep(index, len(timesteps), t, x, x0_hat, eps_hat, x_prev)
        x = x_prev


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
