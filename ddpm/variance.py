"""variance.json: what must be known about the variance of the reverse process beside the scheduler's settings.

DDPMScheduler has no place for it, and stock diffusers does not need it: its last step adds no noise.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ddpm.files import write_text
from ddpm.schedule import NoiseSchedule
from ddpm.settings import read_json, shown

FILE = "variance.json"
LOWEST = "lowest_log_variance"
LEAST = -60.0  # of what a file may say; a standard deviation of 1e-13
THIRD_OF_A_BIN = 2 * math.log(2 / 255 / 3)
"""log sigma_1^2 of a decoder whose standard deviation is a third of the distance between two pixel values."""


def lowest_log_variance(schedule: NoiseSchedule) -> float | None:
    """The lower end of log sigma_1^2 for networks that this program trains; None for a variance that is not learned.

    At t = 1 nothing but the bound depends on the variance, since sampling adds no noise there. It is the width of the
    decoder, so it must become small compared with the distance between two pixel values.
    """
    if schedule.variance_type != "learned_range":
        return None
    return min(THIRD_OF_A_BIN, float(schedule.posterior_log_variance[0]))


def save(directory: Path, lowest: float) -> None:
    """Write the file. Raises OSError."""
    write_text(directory / FILE, json.dumps({LOWEST: lowest}, indent=1) + "\n")


def read(directory: Path, schedule: NoiseSchedule) -> float | None:
    """The lower end of log sigma_1^2 that a model was trained with; None if it has no such file, which means the range
    of improved-diffusion.

    Raises:
        ValueError: the file is damaged, or does not belong to such a model; one line, without the model's name.
    """
    if not (directory / FILE).is_file():
        return None
    values: dict[str, Any] = read_json(directory, FILE)
    unknown = sorted(set(values) - {LOWEST})
    _need(not unknown, f"{shown(', '.join(unknown[:3]))} is not known to this version of the program")
    value = values.get(LOWEST)
    kind = schedule.variance_type
    _need(kind == "learned_range", f"{LOWEST} belongs to variance_type learned_range; the scheduler says {kind}")
    highest = float(schedule.log_variance_range[1][0])
    lowest = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    accepted = f"a number from {LEAST:g} to log beta_1 = {highest:.4g} is needed"
    _need(LEAST <= lowest <= highest, f"{LOWEST} {shown(value)}: {accepted}")
    return lowest


def _need(ok: bool, message: str) -> None:
    """Require a condition. Raises ValueError."""
    if not ok:
        raise ValueError(f"{FILE}: {message}")
