"""The loop of train.py in a process of its own, which reports every row and sample grid to the page as a line of JSON.

    python -m ddpm.training.watched MODULE

MODULE holds the loop, `train(config)`. The first line of stdin says what to train. When stdin ends, the parent process
is gone, and this process ends, too. Training has a process of its own because it sets threads, seeds and Accelerate's
state for the whole process, and because a process can be ended at any moment, with all its memory.
"""

from __future__ import annotations

import base64
import importlib
import json
import math
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "diffusers", "accelerate")


def tell(out, kind: str, **fields: Any) -> None:
    """Write one line of JSON. Raises BrokenPipeError when nobody reads any more."""
    out.write(json.dumps({"kind": kind, **fields}) + "\n")
    out.flush()


def end_with_parent(folder: Path) -> None:
    """Wait for the end of stdin, which comes in whatever way the parent ends, and then end this process at once."""
    while os.read(0, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def watch(module: str, order: dict[str, Any], out) -> None:
    """Train, and write a line for everything that happens.

    Args:
        order: `options`, all those of TrainConfig, and `folder`, which will hold the folder of the run.
        out: text file for {"kind": "loading", "what"}, the rows of metrics.jsonl, {"kind": "grid", "step", "png"} with
            the sample grid as base64, and {"kind": "end", "stopped"}.
    """
    for name in LIBRARIES:  # each takes seconds on a slow disk, so the visitor sees which one loads
        tell(out, "loading", what=name)
        importlib.import_module(name)
    from ddpm.config import TrainConfig

    train = importlib.import_module(module).train
    config = TrainConfig.from_json({**order["options"], "output_dir": f"{order['folder']}/run"})
    tell(out, "loading", what=config.dataset_name)
    for progress in train(config):
        for row in progress.rows:
            tell(out, **row)
            grid = config.directory / f"samples/step-{row['step']:06d}.png"
            if row["kind"] == "validation" and grid.is_file():
                tell(out, "grid", step=row["step"], png=base64.b64encode(grid.read_bytes()).decode())
        if progress.stopped:
            tell(out, "end", stopped=progress.stopped)


def main(module: str) -> int:
    out = open(os.dup(1), "w", encoding="utf-8")  # noqa: SIM115  open until the process ends
    os.dup2(2, 1)  # what libraries print goes to stderr
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        order = json.loads(stdin.readline())
    folder = Path(order["folder"])
    os.nice(5)  # the page's own work comes first
    signal.alarm(math.ceil(order["limit_s"]))  # the last resort, should everything else hang
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()
    try:
        watch(module, order, out)
    except BrokenPipeError:
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
