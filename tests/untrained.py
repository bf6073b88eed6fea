"""Models that have learnt nothing: of the right shape, and fast to make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddpm.checkpoint import Checkpoint, save
from ddpm.classes import separated
from ddpm.engine import Engine
from ddpm.unet import build_unet


def make_model(
    directory: Path,
    resolution: int | tuple[int, int],
    channels: int,
    num_steps: int,
    widths: tuple[int, ...] = (8, 16),
    names: Sequence[str] = (),
    lowest_log_variance: float | None = None,
) -> Path:
    """A model directory. The output layer of its network is no longer zero, so it does something.

    Args:
        widths: of each level; a large picture needs many levels, since the last one has attention.
        names: of the classes of a class-conditional model, whose answers differ a good deal.
        lowest_log_variance: of a network that predicts the variance, too, see `NoiseSchedule`.
    """
    learned = lowest_log_variance is not None
    torch.manual_seed(0)
    unet = build_unet(resolution, channels, widths, num_classes=len(names), learned_variance=learned)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    if names:
        torch.nn.init.normal_(unet.class_embedding.weight)
    made = separated(unet, names)
    scheduler = {"num_train_timesteps": num_steps, "beta_schedule": "linear", "clip_sample": True}
    scheduler |= {"variance_type": "learned_range"} if learned else {}
    save(directory, made.unet, scheduler, made.classes, lowest_log_variance)
    return directory


class WatchedEngine(Engine):
    """A checkpoint's engine that calls `watch(xt, t)` before it computes."""

    def __init__(self, checkpoint: Checkpoint, watch: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__(checkpoint.unet, checkpoint.scheduler, classes=checkpoint.classes)
        self._watch = watch

    def with_variance(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        self._watch(xt, t)
        return super().with_variance(xt, t, labels)


def watched(watch: Callable[[Tensor, Tensor], object]) -> Callable[[Checkpoint], Engine]:
    """What `Service` takes as `make_engine`: engines that call `watch(xt, t)` before they compute."""
    return lambda checkpoint: WatchedEngine(checkpoint, watch)
