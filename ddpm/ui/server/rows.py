"""Rows: samplings of the same noise that are put beside each other.

Here stand the rows that "Compare" begins with, and the mistakes of "What goes wrong", each beside the same sampling
without it. A row holds the fields of `requests.SampleRequest` in which it differs from the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

REFERENCE_T = 1000  # the rows below are written for a model with so many timesteps
ROW_IMAGES = 6  # pictures in a row at first
ROW_SEED = 1  # of their noise at first

COMPARED: tuple[Row, ...] = (
    {"sampler": "ddpm", "num_inference_steps": 250},
    {"sampler": "ddim", "num_inference_steps": 50},
    {"sampler": "dpm_solver++", "num_inference_steps": 10},
)


@dataclass(frozen=True)
class Fault:
    """One mistake.

    Args:
        right: the row without the mistake.
        wrong: what the mistake changes in that row.
        code: the line of a sampler without and with the mistake; {steps} stands for the steps of `right`, {value} for
            the value of `amount`.
        amount: the field of `wrong` that a slider changes, its lowest and highest value, and the step between values.
        plane: the kind of picture that shows the mistake best.
    """

    right: Row
    wrong: Row
    code: tuple[str, str]
    amount: tuple[str, int, int, int] | None = None
    plane: str = "xt"

    def rows(self, num_steps: int) -> list[Row]:
        """The row without and the row with the mistake, for a model of T = num_steps."""
        return [scaled(self.right, num_steps), scaled({**self.right, **self.wrong}, num_steps)]

    def amount_for(self, num_steps: int) -> dict[str, Any] | None:
        """The slider of `amount`, for a model of T = num_steps."""
        if self.amount is None:
            return None
        field, low, high, step = self.amount
        if field == "start_t":
            low, high, step = (_same_share(value, num_steps) for value in (low, high, step))
        return {"field": field, "low": low, "high": min(high, num_steps), "step": step}


# With these numbers of steps, the built-in model shows each mistake clearly and is done within seconds.
ANCESTRAL: Row = {"sampler": "ddpm_fixed_small", "num_inference_steps": 50}
FAULTS: dict[str, Fault] = {
    "no_noise": Fault(ANCESTRAL, {"fresh_noise": "never"}, ("x = mean + sigma[t] * z", "x = mean")),
    "no_clip": Fault(
        {"sampler": "ddim", "num_inference_steps": 20, "clip": True},
        {"clip": False},
        ("x0_hat = predict_x0(x, eps_hat, t).clamp(-1, 1)", "x0_hat = predict_x0(x, eps_hat, t)"),
        plane="x0_hat",
    ),
    "last_noise": Fault(
        {"sampler": "ddpm_fixed_large", "num_inference_steps": 20},
        {"fresh_noise": "always"},
        ("z = torch.randn_like(x) if t > 1 else 0", "z = torch.randn_like(x)"),
    ),
    "few_steps": Fault(
        ANCESTRAL,
        {"num_inference_steps": 3},
        ("num_inference_steps = {steps}", "num_inference_steps = {value}"),
        amount=("num_inference_steps", 1, 20, 1),
    ),
    "short_T": Fault(
        ANCESTRAL,
        {"start_t": 400},
        ("for t in range(T, 0, -1)", "for t in range({value}, 0, -1)"),
        amount=("start_t", 100, 1000, 50),
    ),
}
FIRST_FAULT = "no_noise"  # is on the page before the first click


def _same_share(t: int, num_steps: int) -> int:
    """A timestep of REFERENCE_T, 1-based, at the same share of T = num_steps."""
    return max(1, round(t * num_steps / REFERENCE_T))


def scaled(row: Row, num_steps: int) -> Row:
    """A row for a model of T = num_steps: no more steps than there are, `start_t` at the same share of T."""
    row = {**row}
    if "start_t" in row:
        row["start_t"] = _same_share(row["start_t"], num_steps)
    row["num_inference_steps"] = min(row["num_inference_steps"], row.get("start_t", num_steps))
    return row
