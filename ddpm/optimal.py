"""The errors of a trained network by timestep, from which the optimal variance follows (Bao et al. 2022, Analytic-DPM,
arXiv 2201.06503); and the network of a process with fewer timesteps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm.elbo import BIN, THIRD_OF_A_BIN, discretized_gaussian_log_likelihood
from ddpm.schedule import EpsTheta, Errors, NoiseSchedule

PER_TIMESTEP = 16  # images at each timestep: the errors of all their pixels are averaged, so that a few are enough
WIDTHS = 20  # widths of the decoder that are tried at each timestep, twice


@torch.no_grad()
def measure_errors(
    eps_theta: EpsTheta,
    schedule: NoiseSchedule,
    images: Callable[[np.ndarray], Tensor],
    num_images: int,
    draw: np.random.Generator,
    *,
    timesteps: Sequence[int] | None = None,
    clip_denoised: bool = True,
    batch_size: int = 256,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Errors:
    """How far the network's x_0 is from the true one at each timestep, averaged over images.

    Args:
        eps_theta: the predicted noise, see `EpsTheta`.
        images: returns (n, C, H, W) float32 in [-1, 1], exactly pixel / 127.5 - 1, for their numbers.
        num_images: how many there are. PER_TIMESTEP of them are drawn for each timestep.
        draw: the generator of the choice of images and of the noise.
        timesteps: those that are measured, 0-based; None: all. The others get NaN.
        clip_denoised: clip the network's x_0 to [-1, 1], as sampling does.
        batch_size: the largest number of images in one call of the network.
        on_batch: is called after each call of the network with the number of its images.
    """
    chosen = list(range(schedule.num_steps) if timesteps is None else timesteps)
    mse, width = (torch.full((schedule.num_steps,), math.nan, dtype=torch.float64) for _ in range(2))
    at_once = max(1, batch_size // PER_TIMESTEP)
    device = getattr(eps_theta, "device", "cpu")
    for first in range(0, len(chosen), at_once):
        steps = torch.tensor(chosen[first : first + at_once])
        x0 = images(draw.integers(num_images, size=PER_TIMESTEP * len(steps)))
        t = steps.repeat_interleave(PER_TIMESTEP)
        eps = torch.from_numpy(draw.standard_normal(x0.shape, dtype=np.float32))
        parts = []
        for part in torch.arange(len(t)).split(batch_size):
            xt = schedule.q_sample(x0[part], eps[part], t[part])
            eps_hat = eps_theta(xt.to(device), t[part]).cpu().double()
            parts.append(schedule.predict_x0(xt.double(), eps_hat, t[part]))
            on_batch(len(part))
        x0_hat = torch.cat(parts)
        x0_hat = (x0_hat.clamp(-1, 1) if clip_denoised else x0_hat).unflatten(0, (len(steps), -1)).flatten(1)
        x0 = x0.double().unflatten(0, (len(steps), -1)).flatten(1)
        mse[steps] = (x0 - x0_hat).square().mean(1)
        width[steps] = _best_log_variance(x0, x0_hat, mse[steps], schedule.posterior_log_variance[steps])
    return Errors(mse, width)


def _best_log_variance(x0: Tensor, x0_hat: Tensor, mse: Tensor, fixed: Tensor) -> Tensor:
    """For each row the log sigma^2 with which N(x0_hat, sigma^2) encodes x_0 in the fewest bits.

    Some values between the narrowest and the widest that can be best are tried, and then some more around the best one.

    Args:
        x0, x0_hat: (n, d) float64.
        mse: (n,) their mean squared distance. The best decoder can be wider than the error is large: the values -1 and
            1 take all that lies beyond them.
        fixed: (n,) log sigma^2 of the fixed small variance. The narrowest decoder that is tried has this width or that
            of a third of the distance between two pixel values, whichever is smaller.
    """
    low = fixed.clamp(max=THIRD_OF_A_BIN)
    high = torch.log(100 * mse + (2 * BIN) ** 2)
    for _ in range(2):
        tried = torch.stack([low + (high - low) * i / (WIDTHS - 1) for i in range(WIDTHS)], 1)
        nats = [-discretized_gaussian_log_likelihood(x0, x0_hat, tried[:, [i]]).mean(1) for i in range(WIDTHS)]
        best = torch.stack(nats, 1).argmin(1, keepdim=True)
        low, high = (tried.gather(1, (best + side).clamp(0, WIDTHS - 1))[:, 0] for side in (-1, 1))
    return tried.gather(1, best)[:, 0]


class Respaced:
    """The network of a process with only some of the timesteps, see `NoiseSchedule.respaced`.

    Args:
        eps_theta: of the whole process, see `EpsTheta`. Its method `with_variance` is used if it has one.
        timesteps: ascending, 0-based.
    """

    def __init__(self, eps_theta, timesteps: Sequence[int]) -> None:
        self.eps_theta, self.timesteps = eps_theta, torch.tensor(timesteps)
        if hasattr(eps_theta, "device"):
            self.device = eps_theta.device

    def __call__(self, xt: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        """As `EpsTheta`; t counts the timesteps of the process that are left."""
        return self.eps_theta(xt, self.timesteps[t.cpu()], *labels)

    def with_variance(self, xt: Tensor, t: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `Engine.with_variance`."""
        return self.eps_theta.with_variance(xt, self.timesteps[t.cpu()], *labels)
