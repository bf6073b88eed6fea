"""TensorBoard, W&B or trackio, through Accelerate: the numbers of metrics.jsonl, and the sample grids.

A tracker is a copy for people to look at. Whatever it fails at, such as a full disk or a server that is down, costs the
tracker alone: a warning says so, and the training goes on without it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from ddpm.config import TrainConfig
from ddpm.errors import first_line

log = logging.getLogger(__name__)


def start(accelerator: Accelerator, config: TrainConfig) -> None:
    """Begin a run of the tracker that `report_to` names."""
    if config.report_to != "none":
        _quiet_threads()
        plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.to_json().items()}
        with _costs_only_the_tracker(accelerator):
            accelerator.init_trackers("ddpm", plain)


def log_row(accelerator: Accelerator, row: dict[str, Any]) -> None:
    """The numbers of a row of metrics.jsonl, each under its kind: "train/loss", "train/loss_decile_0"."""
    numbers = {f"{row['kind']}/{k}": v for k, v in row.items() if isinstance(v, int | float) and k != "step"}
    for i, loss in enumerate(row.get("loss_by_decile", [])):
        if loss is not None:
            numbers[f"{row['kind']}/loss_decile_{i}"] = loss
    with _costs_only_the_tracker(accelerator):
        accelerator.log(numbers, step=row["step"])


def log_samples(accelerator: Accelerator, grid: Image.Image, step: int) -> None:
    """A grid of samples."""
    with _costs_only_the_tracker(accelerator):
        for tracker in accelerator.trackers:
            if tracker.name == "trackio":  # trackio has no log_images
                import trackio

                tracker.log({"samples": trackio.Image(grid.convert("RGB"))}, step=step)
            else:
                shown = np.asarray(grid.convert("RGB"))[None]  # as (N, H, W, C)
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"samples": shown}, step=step, **options)


def finish(accelerator: Accelerator) -> None:
    """End the tracker's run, before Accelerate ends the processes."""
    with _costs_only_the_tracker(accelerator):
        for tracker in accelerator.trackers:
            tracker.finish()
    accelerator.trackers = []


@contextlib.contextmanager
def _costs_only_the_tracker(accelerator: Accelerator) -> Iterator[None]:
    """If the tracker fails, say so and do without it from now on."""
    try:
        yield
    except Exception as error:  # each tracker has exceptions of its own
        name = ", ".join(map(str, accelerator.log_with))
        log.warning("--report_to %s: %s; training continues without it", name, first_line(error))
        accelerator.trackers = []


def _quiet_threads() -> None:
    """TensorBoard writes in a thread of its own. What fails there is raised again at the next call, and said then; the
    thread's traceback would only frighten."""
    before = threading.excepthook

    def hook(what: threading.ExceptHookArgs) -> None:
        if "tensorboard" not in type(what.thread).__module__:
            before(what)

    threading.excepthook = hook
