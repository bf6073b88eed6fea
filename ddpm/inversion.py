"""From a picture to the noise that DDIM turns into it, and walks between two such noises (Song et al. 2020, arXiv
2010.02502).

DDIM without fresh noise is Euler's method for an ordinary differential equation (their Eq. 13 and 14): with
y = x / sqrt(alpha_bar) and sigma = sqrt((1 - alpha_bar) / alpha_bar) it reads dy = eps_theta(x_t, t) dsigma. Followed
from sigma = 0 to T it encodes a picture; `reverse_process` with the sampler "ddim" decodes it. Each step assumes that
eps_theta stays as it is within the step, so the way back misses the picture by an error, which halves as the steps
double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm.guidance import labelled
from ddpm.sampling import alpha_bars, timesteps_for
from ddpm.schedule import EpsTheta

SMALLEST_ANGLE = 1e-4  # in radians: between noises that are closer, a straight line is the arc to the last bit


@dataclass(frozen=True, eq=False)
class EncodingStep:
    """One step from a picture to its noise. Images are (B, C, H, W) float32.

    Attributes:
        index: number of the step, from 0.
        num_steps: how many steps there are.
        t: the timestep for which the network was asked, 0-based.
        xt: x_t, the input of the network; in the first step the picture itself.
        x0_hat: the x_0 that the network's answer implies.
        eps_hat: the predicted noise.
        x_next: with more noise: the next step's `xt`, and at the last step the code of the picture, x_T.
    """

    index: int
    num_steps: int
    t: int
    xt: Tensor
    x0_hat: Tensor
    eps_hat: Tensor
    x_next: Tensor


@torch.no_grad()
def encoding(
    eps_theta: EpsTheta,
    base: DDPMScheduler,
    x0: Tensor,
    *,
    num_inference_steps: int | None = None,
    labels: Tensor | None = None,
    guidance_scale: float | Sequence[float] = 1.0,
    guidance_interval: tuple[int, int] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    device: torch.device | str | None = None,
) -> Iterator[EncodingStep]:
    """Run DDIM backwards, from pictures to noise, and yield every step: Eq. 14 of Song et al. by Euler's method.

    The steps lie between the same timesteps as those of `reverse_process`. In each, the network gets the x_t where the
    step begins, but the timestep where it ends, which is the one that the network gets on the way back. So both ways
    err alike: with the embedded model, 10 steps miss a digit by 17 levels of 255, and by 51 if the network gets the
    timestep of its x_t.

    Args:
        eps_theta, base, num_inference_steps, labels, guidance_scale, guidance_interval, cancelled, device: see
            `reverse_process`. To decode, pass the same with `sampler="ddim"`, `clip=False`, and the code as `x_start`:
            a clipped x0_hat is another equation.
        x0: (B, C, H, W) float, the pictures, in [-1, 1].
    Raises:
        ValueError: an argument is out of range; the message names it.
    """
    device = getattr(eps_theta, "device", "cpu") if device is None else device
    if labels is not None and tuple(labels.shape) != (len(x0),):
        raise ValueError(f"labels have shape {tuple(labels.shape)}: {(len(x0),)} is needed, one for each image")
    num_timesteps: int = base.config["num_train_timesteps"]
    eps_theta = labelled(eps_theta, labels, guidance_scale, guidance_interval, num_timesteps)
    timesteps = timesteps_for(num_inference_steps or num_timesteps, num_timesteps - 1)[::-1]
    levels = [1.0, *alpha_bars(base).double()[timesteps].tolist()]
    x = x0.to(device=device, dtype=torch.float32)
    for index, t in enumerate(timesteps):
        if cancelled():
            return
        now, after = levels[index], levels[index + 1]
        eps_hat = eps_theta(x, torch.full((len(x),), t, device=device)).to(x.dtype)
        x0_hat = (x - (1 - now) ** 0.5 * eps_hat) / now**0.5
        following = after**0.5 * x0_hat + (1 - after) ** 0.5 * eps_hat
        yield EncodingStep(index, len(timesteps), t, x, x0_hat, eps_hat, following)
        x = following


def encode(eps_theta: EpsTheta, base: DDPMScheduler, x0: Tensor, **options) -> Tensor:
    """The noise x_T that DDIM turns into these pictures, (B, C, H, W): the end of `encoding`, with its arguments.

    Raises:
        InterruptedError: it was cancelled before the last step.
    """
    last = None
    for step in encoding(eps_theta, base, x0, **options):
        last = step
    if last is None or last.index + 1 < last.num_steps:
        raise InterruptedError("encoding was cancelled")
    return last.x_next


def slerp(first: Tensor, last: Tensor, share: Tensor) -> Tensor:
    """Noises on the arc between two: spherical linear interpolation (Shoemake 1985; Eq. 67 of Song et al.).

    Noise of many pixels has nearly the same length, whatever the draw. A point in the middle of the straight line
    between two draws is shorter by a factor of about sqrt(2), so a network takes it for something else than noise; the
    points of the arc have the length of its ends, where these are equally long.

    Args:
        first, last: (C, H, W) or (1, C, H, W) float, the ends.
        share: (N,) float, lambda of each point: 0 is `first` and 1 is `last`, both to the bit.
    Returns:
        (N, C, H, W)
    """
    a, b = (end.reshape(end.shape[-3:]) for end in (first, last))
    ways = share.to(dtype=torch.float64, device="cpu").reshape(-1, 1, 1, 1).to(a.device)
    lengths = a.double().norm() * b.double().norm()
    cosine = (a.double() * b.double()).sum() / lengths
    angle = torch.arccos(cosine.clamp(-1, 1))
    if not bool(angle > SMALLEST_ANGLE):  # nor for NaN, where an end is 0
        of_first, of_last = 1 - ways, ways
    else:
        of_first, of_last = ((angle * part).sin() / angle.sin() for part in (1 - ways, ways))
    return of_first.to(a.dtype) * a + of_last.to(b.dtype) * b
