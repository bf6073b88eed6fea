"""The schedules that the tab "Forward" compares with the model's own."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm.schedule import NoiseSchedule

SCHEDULES = {
    "squaredcos_cap_v2": {},
    "linear": {},
    "scaled_linear": {},
    "sigmoid": {},
    "laplace": {},
    "zero_snr": {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
}
"""The schedules of diffusers, by the name that the texts use. The values are options of DDPMScheduler; its
`beta_schedule` is the name unless an option says otherwise. beta_1 and beta_T are its defaults, those of the paper. At
first the tab compares the model's own schedule with the first of the others."""

BETA_UNIT = 1e-8  # as in forward.js; diffusers computes betas in float32, which is coarser from 0.1 on


LOG_SNR = "log_snr"
LOG_SNR_ENDS = (13.3, -6.0)  # the defaults of train.py


def schedule_betas(num_steps: int) -> dict[str, Tensor]:
    """beta_1 ... beta_T of every one of SCHEDULES as diffusers computes them, and those of a schedule whose log SNR
    falls linearly, which diffusers does not have; (T,), in (0, 1]."""
    betas = {
        name: DDPMScheduler(num_train_timesteps=num_steps, **{"beta_schedule": name, **options}).betas
        for name, options in SCHEDULES.items()
    }
    return betas | {LOG_SNR: NoiseSchedule.from_log_snr(num_steps, *LOG_SNR_ENDS).beta}


def _is_log_snr(schedule: NoiseSchedule) -> bool:
    """Whether the log SNR falls linearly in t, whatever its ends are."""
    steps = torch.logit(schedule.alpha_bar).diff()
    return bool(torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-3))


def compared(schedule: NoiseSchedule) -> tuple[str, dict[str, list[int]]]:
    """The name of a model's own schedule, "own" if it has none, and the betas of the others.

    The betas are second differences in units of BETA_UNIT: small numbers, since the curves are smooth, so that they
    take few bytes once compressed.
    """
    betas = schedule_betas(schedule.num_steps)
    own = [name for name, beta in betas.items() if torch.allclose(beta.double(), schedule.beta, rtol=1e-5, atol=0)]
    own = own or ([LOG_SNR] if _is_log_snr(schedule) else [])
    whole = {name: np.rint(beta.double().numpy() / BETA_UNIT).astype(int) for name, beta in betas.items()}
    others = {name: np.diff(w, n=2, prepend=[0, 0]).tolist() for name, w in whole.items() if name not in own}
    return (own or ["own"])[0], others
