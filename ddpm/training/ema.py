"""Averaged weights (the paper's EMA of 0.9999), with a memory measured in images."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class Ema(AveragedModel):
    """An AveragedModel of one network, whose parameters are found once instead of at every step: for a small network
    that takes longer than averaging.

    Args:
        half_life: in images, as a function of the number of averages taken so far.
        global_batch: images of an optimizer step.
    """

    def __init__(self, unet: nn.Module, half_life, global_batch: int, device) -> None:
        super().__init__(unet, device=device)
        assert not list(unet.buffers()), "running statistics are not averaged here: take a network without buffers"
        self.half_life, self.global_batch = half_life, global_batch
        # On the CPU, where reading it does not wait for the device.
        self.n_averaged = self.n_averaged.cpu()
        self._pairs = [[p.detach() for p in m.parameters()] for m in (self.module, unet)]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """After an optimizer step of `model`, the network that this is the average of."""
        averaged, current = self._pairs
        if current[0].data_ptr() != next(model.parameters()).data_ptr():  # moved to its device since
            current = self._pairs[1] = [p.detach() for p in model.parameters()]
        taken = int(self.n_averaged)
        share = 1 - 0.5 ** (self.global_batch / self.half_life(taken)) if taken else 1.0
        torch._foreach_lerp_(averaged, current, share)
        self.n_averaged += 1


def make_ema(unet: nn.Module, half_life_images: int, ramp_up: float, global_batch: int, device) -> Ema | None:
    """An average that forgets half of a weight within `half_life_images`, or, if that is less, within a share `ramp_up`
    of the images seen so far: a run of minutes samples from good averages too (Karras et al. 2022). None for 0.

    Its network is `.module`; call `.update_parameters(unet)` once per optimizer step of `global_batch` images.
    """
    if not half_life_images:
        return None

    def half_life(averages: int) -> float:
        return min(half_life_images, averages * global_batch * ramp_up or math.inf)

    return Ema(unet, half_life, global_batch, device).eval().requires_grad_(False)
