"""Which timesteps a batch takes, and how much each image counts, so that the loss stays that of Algorithm 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm import draws
from ddpm.config import TrainConfig

HISTORY = 10  # losses of each timestep that "loss_second_moment" remembers
UNIFORM_SHARE = 0.001  # of its probability, so that no timestep is forgotten


class Timesteps:
    """The timesteps of every optimizer step, drawn over all processes, and their weights 1 / (T p_t).

    With `loss_second_moment` (Nichol & Dhariwal 2021, section 3.3) p_t is proportional to the root mean square of the
    last ten losses at t, once every t has as many. These losses are a part of the training state.

    Args:
        gather: Accelerator.gather; it concatenates the tensors of all processes along the first dimension.
        world: the number of processes.
    """

    def __init__(self, config: TrainConfig, global_size: int, gather: Callable[[Tensor], Any], world: int) -> None:
        self.seed, self.T, self.global_size = config.seed, config.num_train_timesteps, global_size
        self.first_share, self._gather, self._world = config.first_timestep_share, gather, world
        self.by_loss = config.timestep_sampler == "loss_second_moment"
        self._losses, self._counts = np.zeros((self.T, HISTORY)), np.zeros(self.T, np.int64)

    def density(self) -> np.ndarray:
        """(T,) p_t, the probability of each timestep."""
        density = np.full(self.T, 1 / self.T)
        if self.by_loss and (self._counts >= HISTORY).all():
            second = np.sqrt(np.mean(self._losses**2, axis=1))
            if second.any():
                density = (1 - UNIFORM_SHARE) * second / second.sum() + UNIFORM_SHARE / self.T
        density *= 1 - self.first_share
        density[0] += self.first_share
        return density

    def of(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """t (int64, 0-based) and 1 / (T p_t) (float64) of the images of an optimizer step, (global_size,) each, in the
        order of slots."""
        if not (self.by_loss or self.first_share):
            return draws.timesteps(self.seed, step, self.global_size, self.T), np.ones(self.global_size)
        density = self.density()
        t = draws.timesteps_of_density(self.seed, step, self.global_size, density)
        return t, 1 / (self.T * density[t])

    def learn_from(self, t: np.ndarray, losses: list[Tensor]) -> None:
        """Remember the losses of an optimizer step. Every process must call it after the same step.

        Args:
            t: as `of` returned it.
            losses: for each of this process's micro-batches, the (B,) losses of its images, without their weights.
        """
        if not self.by_loss:
            return
        own = torch.stack([loss.detach() for loss in losses])
        of_all = self._gather(own).float().cpu().reshape(self._world, *own.shape)
        for step, loss in zip(t, of_all.movedim(0, 1).reshape(-1).double().tolist(), strict=True):
            if np.isfinite(loss):  # one that is not ends the training, see `LossWindow`
                self._losses[step] = np.append(self._losses[step, 1:], loss)
                self._counts[step] += 1

    def tensors(self) -> dict[str, Tensor]:
        """What is remembered, for a training state."""
        if not self.by_loss:
            return {}
        return {"losses": torch.from_numpy(self._losses.copy()), "counts": torch.from_numpy(self._counts.copy())}

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Continue with what `tensors` returned."""
        if self.by_loss:
            self._losses, self._counts = saved["losses"].numpy().copy(), saved["counts"].numpy().copy()
