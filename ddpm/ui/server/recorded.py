"""How the model on the page was trained, as the files beside it tell: losses, sample grids, options.

The files may be a stranger's. Whatever is out of bounds or not a number is left out and never raises an error.
"""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import numpy as np
from PIL import Image

from ddpm.checkpoint import Checkpoint
from ddpm.config import TrainConfig
from ddpm.hub import card
from ddpm.metrics import memorises
from ddpm.model_files import is_inside
from ddpm.ui.server.encoding import png_to_base64

log = logging.getLogger(__name__)

MAX_POINTS = 600  # of a curve; more would not be visible
MAX_STEP = 10**9
MAX_GRIDS = 24
MAX_PNG_BYTES = 2**20
MAX_PIXELS = 2048**2
SHOWN_PIXELS = 640  # a side
MAX_COMMAND = 600
DECILES = 10


HELD_OUT = ("val_loss", "val_loss_ema", "train_loss_ema")  # the losses of a row of `validation`
COMPARED = ("val_loss_ema", "train_loss_ema", "loss_gap_se")  # what `memorises` needs


def _number(value: object) -> float | None:
    """A loss to four digits, or None if a logarithmic axis cannot show it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1e-9 < value < 1e9:
        return None
    return float(f"{value:.4g}")


def _points(rows: list[dict[str, Any]], kind: str, needed: str) -> list[dict[str, Any]]:
    """Rows of a kind that have the loss `needed`, by ascending step."""
    rows = [r for r in rows if r["kind"] == kind and _number(r.get(needed)) and 0 < r["step"] <= MAX_STEP]
    return sorted({r["step"]: r for r in rows}.values(), key=lambda r: r["step"])


def _mean(values: list[object]) -> float | None:
    known = [v for v in map(_number, values) if v is not None]
    return _number(sum(known) / len(known)) if known else None


def _deciles(row: dict[str, Any]) -> list[object]:
    found = row.get("loss_by_decile")
    return found if isinstance(found, list) and len(found) == DECILES else [None] * DECILES


def curves(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page draws of a metrics.jsonl.

    Returns:
        `train`: rows [step, loss, [10 losses by decile of t]]. More than MAX_POINTS become means over neighbours,
        spread evenly along a logarithmic axis of steps.
        `validation`: rows [step, loss of the raw weights, loss of the averaged weights, and their loss on training
        images]. `memorises`: the first step at which the network memorised these, None if there is none.
    """
    train = _points(rows, "train", "loss")
    if len(train) > MAX_POINTS:
        ends = np.unique(np.geomspace(1, len(train), MAX_POINTS).round().astype(int)).tolist()
        groups = [train[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    else:
        groups = [[row] for row in train]
    shown = []
    for group in groups:
        by_t = zip(*(_deciles(row) for row in group), strict=True)
        shown.append([group[-1]["step"], _mean([row["loss"] for row in group]), [_mean(list(v)) for v in by_t]])
    validation = _points(rows, "validation", "val_loss")
    compared = [row for row in validation if all(_number(row.get(name)) for name in COMPARED)]
    validation = validation[:: -(-len(validation) // MAX_POINTS) or 1]
    return {
        "train": shown,
        "validation": [[row["step"], *(_number(row.get(name)) for name in HELD_OUT)] for row in validation],
        "memorises": next((row["step"] for row in compared if memorises(row)), None),
    }


def options(settings: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any] | None:
    """The options of a train_config.json that tell one training from another, and the `command` that repeats it.

    None if this train.py does not know the options.

    Args:
        trained: what `curves` returns.
    """
    try:
        config = TrainConfig.from_json(settings["options"])
        config.validate()
        command = card.training_command(settings)
        data = card.public_data(settings["options"], settings["data"])
        images = config.train_batch_size * config.gradient_accumulation_steps * int(settings["machine"]["processes"])
        shown = {
            "data": data and data[:80],
            "steps": trained["train"][-1][0] if trained["train"] else config.max_train_steps,
            "batch": images,
            "rate": float(config.learning_rate),
            "widths": ", ".join(f"{w:d}" for w in config.block_out_channels),
            "T": int(config.num_train_timesteps),
            "ema": int(config.ema_half_life_images),
        }
        if not all(0 <= shown[name] <= MAX_STEP for name in ("steps", "batch", "rate", "T", "ema")):
            raise ValueError(f"numbers beyond 0 to {MAX_STEP:,}")  # JSON has no NaN, and none beyond 64 bits
    except Exception as error:  # a stranger's settings can be wrong in any way
        log.warning("The options of the training are not shown: %s", error)
        return None
    if len(command) > MAX_COMMAND or not f"{command}{data}".isprintable():
        return None
    return {**shown, "command": command}


class Recorded:
    """The training of a checkpoint, as its files tell it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._grids: dict[int, str | None] = {}
        self._paths = {}
        for path in checkpoint.directory.glob("samples/step-*.png"):
            step = re.fullmatch(r"step-(\d{1,9})", path.stem)
            if step and path.is_file() and is_inside(path, checkpoint.directory):
                self._paths[int(step[1])] = path
        steps = sorted(self._paths)
        if len(steps) > MAX_GRIDS:
            steps = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, MAX_GRIDS)]
        trained = curves(checkpoint.metrics)
        settings = options(checkpoint.config, trained) if checkpoint.config else None
        self._story = {**trained, "grids": steps, "options": settings}

    def story(self) -> dict[str, Any]:
        """Curves, options, and the steps of which there are sample grids."""
        return self._story

    def grid(self, step: object) -> str | None:
        """The sample grid of a step, as a PNG that is written here, in base64. None if it cannot be shown."""
        if not isinstance(step, int) or step not in self._story["grids"]:
            return None
        if step not in self._grids:
            self._grids[step] = self._read(step)
        return self._grids[step]

    def _read(self, step: int) -> str | None:
        path = self._paths[step]
        try:
            if path.stat().st_size > MAX_PNG_BYTES:
                raise ValueError(f"more than {MAX_PNG_BYTES} bytes")
            with Image.open(path, formats=["PNG"]) as image:
                if math.prod(image.size) > MAX_PIXELS:
                    raise ValueError(f"{image.size} pixels")
                shown = image.convert("L" if image.mode in ("1", "L") else "RGB")
            shown.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
            return png_to_base64(shown)
        except Exception as error:  # Pillow raises many classes for damaged files
            log.warning("%s is not shown: %s", path.name, error)
            return None
