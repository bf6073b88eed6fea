"""TensorBoard, W&B or trackio, through Accelerate: the numbers of metrics.jsonl, and the sample grids."""

from __future__ import annotations

from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from ddpm.config import TrainConfig


def start(accelerator: Accelerator, config: TrainConfig) -> None:
    """Begin a run of the tracker that `report_to` names."""
    if config.report_to != "none":
        plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.to_json().items()}
        accelerator.init_trackers("ddpm", plain)


def log_row(accelerator: Accelerator, row: dict[str, Any]) -> None:
    """The numbers of a row of metrics.jsonl, each under its kind: "train/loss", "train/loss_decile_0"."""
    numbers = {f"{row['kind']}/{k}": v for k, v in row.items() if isinstance(v, int | float) and k != "step"}
    for i, loss in enumerate(row.get("loss_by_decile", [])):
        if loss is not None:
            numbers[f"{row['kind']}/loss_decile_{i}"] = loss
    accelerator.log(numbers, step=row["step"])


def log_samples(accelerator: Accelerator, grid: Image.Image, step: int) -> None:
    """A grid of samples."""
    for tracker in accelerator.trackers:
        if tracker.name == "trackio":  # trackio has no log_images
            import trackio

            tracker.log({"samples": trackio.Image(grid.convert("RGB"))}, step=step)
        else:
            shown = np.asarray(grid.convert("RGB"))[None]  # as (N, H, W, C)
            options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": shown}, step=step, **options)
