"""variance.json: what must be known about the variance of the reverse process beside the scheduler's settings.

That is the range of a learned variance at t = 1, and the errors of the network, from which the optimal variance
follows. DDPMScheduler has no place for them, and stock diffusers does not need them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from ddpm.classes import belongs, digest
from ddpm.elbo import THIRD_OF_A_BIN
from ddpm.files import write_text
from ddpm.schedule import Errors, NoiseSchedule
from ddpm.settings import read_json, shown

FILE = "variance.json"
LOWEST = "lowest_log_variance"
MSE, WIDTH, WEIGHTS = ERRORS = ("x0_mse", "decoder_log_variance", "weights")
LEAST = -60.0  # of what a file may say; a standard deviation of 1e-13
HIGH = 1e9


def lowest_log_variance(schedule: NoiseSchedule) -> float | None:
    """The lower end of log sigma_1^2 for networks that this program trains; None for a variance that is not learned.

    At t = 1 nothing but the bound depends on the variance, since sampling adds no noise there. It is the width of the
    decoder, so it must become small compared with the distance between two pixel values.
    """
    if schedule.variance_type != "learned_range":
        return None
    return min(THIRD_OF_A_BIN, float(schedule.posterior_log_variance[0]))


def save(directory: Path, lowest: float | None, errors: Errors | None = None, unet: UNet2DModel | None = None) -> None:
    """Write the file.

    Args:
        errors: of the network `unet`, whose weights are noted, so that errors are never used with other weights.
    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    values: dict[str, Any] = {} if lowest is None else {LOWEST: lowest}
    if errors and unet is not None:
        tables = (errors.x0_mse, errors.decoder_log_variance)
        values |= {name: [float(f"{x:.6g}") for x in t.tolist()] for name, t in zip(ERRORS, tables, strict=False)}
        values[WEIGHTS] = digest(unet)
    write_text(directory / FILE, json.dumps(values, indent=None if errors else 1) + "\n")


def read(directory: Path, schedule: NoiseSchedule) -> float | None:
    """The lower end of log sigma_1^2 that a model was trained with; None if it has none, which means the range of
    improved-diffusion.

    Raises:
        ValueError: the file is damaged, or does not belong to such a model; one line, without the model's name.
    """
    if not (directory / FILE).is_file():
        return None
    values: dict[str, Any] = read_json(directory, FILE)
    unknown = sorted(set(values) - {LOWEST, *ERRORS})
    _need(not unknown, f"{shown(', '.join(unknown[:3]))} is not known to this version of the program")
    if LOWEST not in values and MSE in values:
        return None
    value = values.get(LOWEST)
    kind = schedule.variance_type
    _need(kind == "learned_range", f"{LOWEST} belongs to variance_type learned_range; the scheduler says {kind}")
    highest = float(schedule.log_variance_range[1][0])
    lowest = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    accepted = f"a number from {LEAST:g} to log beta_1 = {highest:.4g} is needed"
    _need(LEAST <= lowest <= highest, f"{LOWEST} {shown(value)}: {accepted}")
    return lowest


def read_errors(directory: Path, num_steps: int, unet: UNet2DModel, full_precision: bool = True) -> Errors | None:
    """The errors of the network in a model directory; None if nobody has measured them.

    Args:
        num_steps: T.
        unet: on the meta device if its weights are not loaded.
        full_precision: whether its weights are stored in float32, so that they can be told apart from others.
    Raises:
        ValueError: the file is damaged, or belongs to other weights; one line, without the model's name.
    """
    values = read_json(directory, FILE) if (directory / FILE).is_file() else {}
    if not set(ERRORS) & set(values):
        return None
    missing = [name for name in ERRORS if name not in values]
    _need(not missing, f"there is no {', '.join(missing)}; the errors of a network are {', '.join(ERRORS)}")
    mse, width = (_table(name, values[name], num_steps, low) for name, low in ((MSE, 0.0), (WIDTH, LEAST)))
    again = "measure them again by python -m ddpm.evaluate --variance_type optimal --record, or remove the file"
    noted = values[WEIGHTS]
    _need(isinstance(noted, str), f"{WEIGHTS} {shown(noted)}: a digest is needed")
    _need(belongs(noted, unet, full_precision), f"the errors belong to other weights than those in unet/: {again}")
    return Errors(mse, width)


def _table(name: str, values: Any, num_steps: int, low: float) -> Tensor:
    """A list of T numbers of at least `low` as a tensor. Raises ValueError."""
    whole = isinstance(values, list) and len(values) == num_steps
    _need(whole, f"{name}: a list of {num_steps} numbers is needed, as many as there are timesteps")
    odd = [v for v in values if type(v) not in (int, float) or not low <= v < HIGH]
    _need(not odd, f"{name}: {shown(odd[0]) if odd else ''}: numbers from {low:g} to {HIGH:g} are needed")
    return torch.tensor(values, dtype=torch.float64)


def _need(ok: bool, message: str) -> None:
    """Require a condition. Raises ValueError."""
    if not ok:
        raise ValueError(f"{FILE}: {message}")
