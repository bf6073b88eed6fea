"""What a model repository holds: which files are pushed, which are needed, and which are optional."""

from __future__ import annotations

import re
from pathlib import Path

REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")

# A model is complete with these files.
MODEL = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")
# These describe a model, which is complete without them.
EXTRAS = ("train_config.json", "metrics.jsonl")
# A push sends these files and nothing else: no training states, no caches, no pickles.
PUSHED = (
    "model_index.json unet/config.json unet/*.safetensors scheduler/scheduler_config.json variance.json labels.json "
    "labels.safetensors README.md train_config.json metrics.jsonl *.png samples/step-*.png"
).split()
# A push deletes such files on the Hub if they are gone here. All others stay, because other people may have added them.
STALE = ("samples/step-*.png", "labels.json", "labels.safetensors", "variance.json")
SAMPLE = re.compile(r"samples/step-(\d{1,9})\.png")


def files_to_push(directory: Path) -> list[str]:
    """Files of a model directory that a push sends, relative to the directory."""
    paths = (p.relative_to(directory).as_posix() for pattern in PUSHED for p in directory.glob(pattern) if p.is_file())
    return sorted({path for path in paths if not any(part.startswith(".") for part in path.split("/"))})


def check_complete(files: Path, directory: Path) -> None:
    """Check that there is a model in the folder `files`.

    Args:
        directory: what messages call it.
    Raises:
        ValueError: a file is missing.
    """
    for name in MODEL:
        if not (files / name).is_file():
            raise ValueError(f"{directory}: there is no {name}, so there is no model to push")
    if (files / "labels.safetensors").is_file() and not (files / "labels.json").is_file():
        raise ValueError(f"{directory}: there is labels.safetensors but no labels.json, so nobody could load the model")
