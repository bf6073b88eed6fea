"""What the measurements that train many networks share: one training through train.py's own loop, one evaluation
through ddpm.evaluate, and results that are kept, so that a table which was interrupted goes on where it stopped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from accelerate.state import AcceleratorState

import train as trainer
from ddpm.config import preset
from ddpm.evaluate import EvaluateConfig, evaluate
from ddpm.files import write_text
from ddpm.unet import build_unet


def trained(name: str, folder: Path, build: Callable = build_unet, **options: Any) -> float:
    """Train a preset with other options into a folder, without pictures on the way. Returns the seconds it took."""
    AcceleratorState._reset_state(reset_partial_state=True)
    quiet: dict[str, Any] = {
        "validation_steps": 10**6,
        "checkpointing_steps": 10**6,
        "num_samples": 1,
        "sample_steps": 10,
    }
    if torch.cuda.is_available():
        quiet["num_cpu_threads"] = 1  # the GPU computes, and several of these processes may share the cores
    config = preset(name, output_dir=folder, **quiet | {k: v for k, v in options.items() if v is not None})
    started = time.perf_counter()
    for _ in trainer.train(config, build=build):
        pass
    return time.perf_counter() - started


def evaluated(folder: Path, model=None, output: Path | None = None, **options: Any) -> dict[str, Any]:
    """The report on the model in a folder. The draws of evaluations are the same, so differences are the networks'.

    Args:
        output: the report; default: report.json in the folder.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    config = EvaluateConfig(model=str(folder), output=str(output or folder / "report.json"), batch_size=128, **options)
    return evaluate(config, model)


def kept(result: Path, how: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `measure` returns, from a JSON file if it has been measured before.

    Args:
        how: the options that decide the result, which the file remembers. A file of other options ends the program.
    """
    how = json.loads(json.dumps(how, default=str))
    if not result.is_file():
        result.parent.mkdir(parents=True, exist_ok=True)
        write_text(result, json.dumps({"how": how, "figures": measure()}))
    found = json.loads(result.read_text())
    if found["how"] != how:
        sys.exit(f"{result} was measured with {found['how']}, not with {how}: pass another --output_dir")
    return found["figures"]


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation, such as "4.68 ± 0.02"; a single value stands alone."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean
