"""Rows: samplings of the same noise that are put beside each other. What "Compare" begins with, and the mistakes of
"What goes wrong", each beside the same run without it.

A row holds the fields of `checks.SampleRequest` in which it differs from the others, in steps of T = 1000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

ROW_IMAGES = 6  # pictures in a row at first

COMPARED: tuple[Row, ...] = (
    {"sampler": "ddpm", "num_inference_steps": 250},
    {"sampler": "ddim", "num_inference_steps": 50},
    {"sampler": "dpm_solver++", "num_inference_steps": 10},
)


@dataclass(frozen=True)
class Fault:
    """One mistake.

    Args:
        right, wrong: the row as it should be, and what the mistake changes in it.
        code: the line of a sampler as it should be, and with the mistake; {steps} stands for those of `right`, {value}
            for that of `amount`.
        amount: field of `wrong` that a slider changes, its lowest and highest value and the step between.
        plane: what shows the mistake best.
    """

    right: Row
    wrong: Row
    code: tuple[str, str]
    amount: tuple[str, int, int, int] | None = None
    plane: str = "xt"

    def rows(self, num_steps: int) -> list[Row]:
        """Both rows, for a model of T = num_steps."""
        return [scaled(self.right, num_steps), scaled({**self.right, **self.wrong}, num_steps)]

    def amount_for(self, num_steps: int) -> dict[str, Any] | None:
        """The slider of `amount`, for a model of T = num_steps."""
        if self.amount is None:
            return None
        field, low, high, step = self.amount
        if field == "start_t":
            low, high, step = (max(1, round(value * num_steps / 1000)) for value in (low, high, step))
        return {"field": field, "low": low, "high": min(high, num_steps), "step": step}


# Step counts are such that the built-in model shows the mistake clearly and is done within seconds.
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


def scaled(row: Row, num_steps: int) -> Row:
    """A row for a model of T = num_steps: no more steps than there are, `start_t` at the same share of T."""
    row = {**row}
    if "start_t" in row:
        row["start_t"] = max(1, round(row["start_t"] * num_steps / 1000))
    row["num_inference_steps"] = min(row["num_inference_steps"], row.get("start_t", num_steps))
    return row
