"""What a model repository holds: which files are pushed, which are needed, and which are optional."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ddpm.errors import first_line

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
        ValueError: a file is missing, or the files of the classes do not fit.
    """
    for name in MODEL:
        if not (files / name).is_file():
            raise ValueError(f"{directory}: there is no {name}, so there is no model to push")
    if reason := _fault_of_labels(files):
        raise ValueError(f"{directory}: {reason}, so nobody could load the model")


def _fault_of_labels(files: Path) -> str | None:
    """What is wrong with the files of the classes, as `ddpm.classes.read` would find out; None if nothing is, or there
    are none. A push does without torch, whose import takes seconds."""
    names, vectors = (files / name for name in ("labels.json", "labels.safetensors"))
    if not vectors.is_file():
        # Names alone are fine as somebody's table, or beside a network that has its vectors inside.
        alone = names.is_file() and _is_list(names) and not _has_classes_inside(files)
        return "there is labels.json but no labels.safetensors" if alone else None
    if not names.is_file():
        return "there is labels.safetensors but no labels.json"
    try:
        known = json.loads(names.read_text(encoding="utf-8"))
        if not isinstance(known, list) or not known:
            return "labels.json is no list of names"
        with safe_open(vectors, "np") as file:
            shape = tuple(file.get_slice("class_embedding").get_shape())
            noted = (file.metadata() or {}).get("time_embedding_sha256")
        with safe_open(files / "unet/diffusion_pytorch_model.safetensors", "np") as file:
            layer = [f"time_embedding.linear_2.{part}" for part in ("weight", "bias")]
            kind, width = file.get_slice(layer[0]).get_dtype(), file.get_slice(layer[1]).get_shape()[0]
            if kind == "F32":  # as `ddpm.classes.digest` was taken; NumPy knows no bfloat16
                content = hashlib.sha256(b"".join(file.get_tensor(name).tobytes() for name in layer)).hexdigest()
            else:
                content = noted
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        return f"labels.json, labels.safetensors or the weights are damaged ({first_line(error)[:200]})"
    if shape != (len(known), width):
        return f"labels.safetensors has shape {shape}, and {(len(known), width)} is needed"
    if noted and noted != content:
        return "labels.safetensors belongs to other weights than those in unet/"
    return None


def _has_classes_inside(files: Path) -> bool:
    """Whether the table of class vectors is among the weights, as in networks that diffusers' own scripts make."""
    try:
        config = json.loads((files / "unet/config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and bool(config.get("num_class_embeds"))


def _is_list(path: Path) -> bool:
    """Whether a JSON file holds a list; also true of a damaged one, which is no table of somebody's either."""
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), list)
    except (OSError, ValueError, RecursionError):
        return True
