"""Functions that turn options into the parts of a training: data options, network, schedule, target, loss and learning
rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ddpm.config import TrainConfig
from ddpm.data import DataOptions, Images
from ddpm.errors import about_compile
from ddpm.schedule import NoiseSchedule
from ddpm.training.objective import Objective
from ddpm.variance import lowest_log_variance

Target = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_0, eps, t) -> target of the network; images are (B, C, H, W) float32, t is (B,) int64, 0-based."""


def data_options(config: TrainConfig) -> DataOptions:
    """Which images to train on, and in what form."""
    return DataOptions(**{field.name: getattr(config, field.name) for field in fields(DataOptions)})


def learned_variance(config: TrainConfig) -> bool:
    """Whether the network predicts the variance, too."""
    return config.variance_type == "learned_range"


def network_options(config: TrainConfig, images: Images) -> dict[str, Any]:
    """The arguments of `ddpm.unet.build_unet`. Images that lack labels are refused by `Labelling`."""
    names = ("block_out_channels", "layers_per_block", "attention_levels", "norm_num_groups", "dropout")
    height, width = images.size
    shape = {"resolution": height if height == width else [height, width], "channels": images.channels}
    more: dict[str, Any] = {"num_classes": len(images.classes)} if config.class_conditional else {}
    if learned_variance(config):
        more["learned_variance"] = True
    return shape | {name: getattr(config, name) for name in names} | more


def make_scheduler(config: TrainConfig) -> DDPMScheduler:
    """The noise schedule of the training. Betas are scaled by 1000 / T, so that alpha_bar_T is near 0 for any T."""
    steps, name, trained_betas = config.num_train_timesteps, config.beta_schedule, None
    if name == "log_snr":  # diffusers has no such schedule; with betas that are given, it ignores the name
        name = "linear"
        trained_betas = NoiseSchedule.from_log_snr(steps, config.log_snr_max, config.log_snr_min).beta.tolist()
    scale = 1.0 if name == "squaredcos_cap_v2" else 1000 / steps
    return DDPMScheduler(
        num_train_timesteps=steps,
        beta_start=1e-4 * scale,
        beta_end=0.02 * scale,
        beta_schedule=name,
        trained_betas=trained_betas,
        prediction_type=config.prediction_type,
        variance_type=config.variance_type,
        timestep_spacing="trailing",  # for sampling with few steps, which "leading" would start at t = 980
    )


def make_schedule(scheduler: Any) -> NoiseSchedule:
    """The tables of a training's DDPMScheduler, with the range of a variance that is learned."""
    lowest = lowest_log_variance(NoiseSchedule.from_scheduler(scheduler))
    return NoiseSchedule.from_scheduler(scheduler, lowest)


@dataclass(frozen=True, eq=False)
class Noising:
    """The forward process on the device of training: sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t) as float32 tables.

    The tables are computed in float64. `DDPMScheduler.add_noise` computes 1 - alpha_bar from float32, which is off by
    several per cent where alpha_bar is closer to 1 than 1e-6 (the first steps of "log_snr"). The timesteps are looked
    up on the device, so that the loop never waits for it.

    Attributes:
        signal, sigma: (T,) float32.
    """

    signal: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, scheduler: Any, device: torch.device | str) -> Noising:
        """The tables of a DDPMScheduler."""
        schedule = NoiseSchedule.from_scheduler(scheduler)
        tables = (schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt())
        return cls(*(table.float().to(device) for table in tables))

    def __call__(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (Eq. 4), (B, C, H, W) float32."""
        return self._at(self.signal, t) * x0 + self._at(self.sigma, t) * eps

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022)."""
        return self._at(self.signal, t) * eps - self._at(self.sigma, t) * x0

    @staticmethod
    def _at(table: Tensor, t: Tensor) -> Tensor:
        return table[t][:, None, None, None]


def compiled(unet: nn.Module, device: torch.device) -> Any:
    """The network compiled by torch.compile at its first call.

    A tiny function is compiled first, so that a machine without a compiler is told at once, and not after a minute.

    Raises:
        ValueError: torch.compile does not work on this machine; one line.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:
        if (reason := about_compile(error)) is None:
            raise
        raise ValueError(reason) from None
    return torch.compile(unet)


def target_of(config: TrainConfig, noising: Noising) -> Target:
    """What the network learns to predict: the noise (Eq. 14), or x_0 or v for a comparison."""
    targets: dict[str, Target] = {
        "epsilon": lambda x0, eps, t: eps,
        "sample": lambda x0, eps, t: x0,
        "v_prediction": noising.velocity,
    }
    return targets[config.prediction_type]


def loss_weights(config: TrainConfig, scheduler: Any, device: torch.device) -> Tensor:
    """(T,) float32 weights of the loss by timestep, 1 on average: 1 for L_simple (Eq. 14), w_t of Eq. 12 for "kl"."""
    if config.loss_weighting != "kl":
        return torch.ones(config.num_train_timesteps, device=device)
    weight = NoiseSchedule.from_scheduler(scheduler).kl_weight  # at t = 0 the weight that L_0 would have as a KL term
    return (weight / weight.mean()).float().to(device)


def make_objective(config: TrainConfig, scheduler: Any, device: torch.device) -> Objective:
    """The loss that the options ask for."""
    return Objective(config, make_schedule(scheduler), loss_weights(config, scheduler, device))


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of an optimizer step (0-based): a linear warm-up, then constant, or half a cosine down to 0."""
    if step < config.lr_warmup_steps:
        return config.learning_rate * (step + 1) / config.lr_warmup_steps
    if config.lr_schedule == "constant":
        return config.learning_rate
    progress = (step - config.lr_warmup_steps) / max(1, config.max_train_steps - config.lr_warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
