"""Averaged weights (the paper's EMA with decay 0.9999). Their half-life is measured in images."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class Ema(AveragedModel):
    """An AveragedModel that looks up the parameters of its network once instead of at every step: for a small network,
    the look-up takes longer than the averaging.

    Args:
        half_life: in images, as a function of the number of optimizer steps averaged so far.
        global_batch: images of an optimizer step.
    """

    def __init__(self, unet: nn.Module, half_life, global_batch: int, device) -> None:
        super().__init__(unet, device=device)
        assert not list(unet.buffers()), "running statistics are not averaged: use a network without buffers"
        self.half_life, self.global_batch = half_life, global_batch
        # The count lives on the CPU, where reading it does not wait for the device.
        self.n_averaged = self.n_averaged.cpu()
        self._pairs = [[p.detach() for p in m.parameters()] for m in (self.module, unet)]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Include the present weights of `model`, the network that is averaged, after an optimizer step."""
        averaged, current = self._pairs
        if current[0].data_ptr() != next(model.parameters()).data_ptr():  # the network has moved to its device since
            current = self._pairs[1] = [p.detach() for p in model.parameters()]
        taken = int(self.n_averaged)
        share = 1 - 0.5 ** (self.global_batch / self.half_life(taken)) if taken else 1.0
        torch._foreach_lerp_(averaged, current, share)
        self.n_averaged += 1


def make_ema(unet: nn.Module, half_life_images: int, ramp_up: float, global_batch: int, device) -> Ema | None:
    """An average in which the influence of old weights halves every `half_life_images` images.

    Early in a run the half-life is shorter: the share `ramp_up` of the images seen so far, so that a run of a few
    minutes has good averages, too (Karras et al. 2022). If `half_life_images` is 0, there is no average and the result
    is None.

    The averaged network is `.module`. Call `.update_parameters(unet)` once per optimizer step of `global_batch` images.
    """
    if not half_life_images:
        return None

    def half_life(averages: int) -> float:
        return min(half_life_images, averages * global_batch * ramp_up or math.inf)

    return Ema(unet, half_life, global_batch, device).eval().requires_grad_(False)
