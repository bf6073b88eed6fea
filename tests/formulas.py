"""Formulas that tests compare with, and that the package itself does not need."""

import torch

from ddpm.schedule import NoiseSchedule


def linear_schedule(num_steps=1000, start=1e-4, end=0.02, variance_type="fixed_small"):
    """The paper's schedule: beta linear from 1e-4 to 0.02 (section 4)."""
    return NoiseSchedule(torch.linspace(start, end, num_steps, dtype=torch.float64), variance_type)


def snr(schedule):
    """(T,) the signal-to-noise ratio of x_t for data of unit variance."""
    return schedule.alpha_bar / (1 - schedule.alpha_bar)


def velocity(schedule, x0, eps, t):
    """v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022)."""
    signal, noise = (schedule.at(table.sqrt(), t, x0) for table in (schedule.alpha_bar, 1 - schedule.alpha_bar))
    return signal * eps - noise * x0
