"""Averaged weights (the paper's EMA of 0.9999), with a memory measured in images."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def make_ema(unet: nn.Module, half_life_images: int, ramp_up: float, global_batch: int, device) -> AveragedModel | None:
    """An average that forgets half of a weight within `half_life_images`, or, if that is less, within a share `ramp_up`
    of the images seen so far: a run of minutes samples from good averages too (Karras et al. 2022). None for 0.

    Its network is `.module`; call `.update_parameters(unet)` once per optimizer step of `global_batch` images.
    """
    if not half_life_images:
        return None

    def average(averaged, current, num_averaged) -> None:
        # The count as it lies on the CPU; `num_averaged` is its copy on the device, which would have to be waited for.
        half_life = min(half_life_images, int(ema.n_averaged) * global_batch * ramp_up or math.inf)
        torch._foreach_lerp_(averaged, current, 1 - 0.5 ** (global_batch / half_life))

    ema = AveragedModel(unet, device=device, multi_avg_fn=average).eval().requires_grad_(False)
    ema.n_averaged = ema.n_averaged.cpu()
    return ema
