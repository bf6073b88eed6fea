"""Training states on disk: saved atomically, checked when they are read, and chosen when a run continues.

A state is a folder `checkpoints/step-000500/` of tensors (in safetensors: weights, averaged weights, optimizer moments,
the unfinished logging window) and `state.json` (step, settings, checksum). Random draws have no state (see
ddpm/draws.py), and under data parallelism every process holds the same weights, so one process saves for all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor

from ddpm import files
from ddpm.checkpoint import not_finite
from ddpm.config import TrainConfig
from ddpm.data import DataOptions

log = logging.getLogger(__name__)

LEARNED = ("unet", "ema", "optimizer")  # parts of a state that must be finite; a loss of its window may be not
TENSORS, META = "state.safetensors", "state.json"
NEEDED = {"step", "options", "fingerprint", "slots", "device", "sha256"}  # of META
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class State:
    """`tensors` are named "<part>/<name>" as `flatten` names them; `meta` is JSON: step, options and so on."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below `name/`."""
        return {k.removeprefix(f"{name}/"): v for k, v in self.tensors.items() if k.startswith(f"{name}/")}


def flatten(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, which further training does not change, named "<part>/<name>"."""
    return {f"{part}/{name}": tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def optimizer_tensors(optimizer) -> dict[str, Tensor]:
    """Moments and step counts of a torch optimizer as "<parameter index>.<name>"."""
    return {f"{i}.{k}": v for i, values in optimizer.state_dict()["state"].items() for k, v in values.items()}


def load_optimizer(optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        if (
            tensor.shape == parameters[int(index)].shape
        ):  # a moment; fused AdamW needs it laid out in memory like its weight
            tensor = torch.empty_like(parameters[int(index)], dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:06d}"


def save(root: Path, state: State, keep: int) -> Path:
    """Write `root/step-.../`, which appears complete or not at all, then remove all states but the newest `keep`.

    If the disk is full, older states make room for the new one; the newest of them always stays.

    Raises:
        OSError: the disk is full or the folder not writable; the newest earlier state is untouched.
    """
    folder = write_or_make_room(root, lambda: _write(root, state))
    for old in folders(root)[:-keep]:
        _remove(old)
    return folder


def write_or_make_room(root: Path, write: Callable[[], T]) -> T:
    """Call `write`. While it fails because the disk is full, remove the oldest state below `root` and call it again.

    The newest state always stays. Raises what `write` raises.
    """
    while True:
        try:
            return write()
        except OSError as error:
            older = folders(root)[:-1]
            if error.errno not in NO_SPACE or not older:
                raise
            log.warning("There is no space left (%s): %s is removed, an older state", error.strerror, older[0])
            _remove(older[0])
            if older[0].exists():  # it cannot be removed either
                raise


def _write(root: Path, state: State) -> Path:
    """Write a state. Nothing is left of one that could not be written."""
    folder = folder_of(root, state.meta["step"])
    temporary = root / f".tmp-{folder.name}"
    root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(root)
    try:
        temporary.mkdir()
        data = safetensors.torch.save(state.tensors)
        files.write_synced(temporary / TENSORS, data)
        meta = {**state.meta, "sha256": hashlib.sha256(data).hexdigest()}
        files.write_synced(temporary / META, json.dumps(meta, indent=1).encode())
        if folder.exists():  # the same step again: rename does not replace a folder that holds files
            aside = root / f".tmp-old-{folder.name}"
            os.rename(folder, aside)
        os.rename(temporary, folder)
        _sync_folder(root)
    finally:
        remove_leftovers(root)
    return folder


def _remove(folder: Path) -> None:
    """Remove a state. If the process is killed meanwhile, no half state is left under its name."""
    aside = folder.with_name(f".tmp-removed-{folder.name}")
    with contextlib.suppress(OSError):
        os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Remove what a crash while saving has left."""
    for leftover in root.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folders(root: Path) -> list[Path]:
    """State folders, oldest first."""
    found = [p for p in root.glob("step-*") if p.is_dir() and p.name.removeprefix("step-").isdigit()]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step of a state, by the name of its folder."""
    return int(folder.name.removeprefix("step-"))


def load(folder: Path) -> State:
    """Read and check one state.

    Raises:
        ValueError: not a complete, undamaged state.
    """
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        data = (folder / TENSORS).read_bytes()
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder}: not a training state ({error})") from None
    if missing := sorted(NEEDED - set(meta if isinstance(meta, dict) else ())):
        raise ValueError(f"{folder}: not a training state ({META} lacks {', '.join(missing)})")
    if hashlib.sha256(data).hexdigest() != meta["sha256"]:
        raise ValueError(f"{folder}: damaged, its checksum does not match")
    state = State(safetensors.torch.load(data), meta)
    learned = {name: tensor for part in LEARNED for name, tensor in state.part(part).items()}
    if found := not_finite(learned):
        raise ValueError(f"{folder}: its weights are not finite: {found}")
    return state


def load_latest(root: Path) -> State | None:
    """The newest undamaged state below `root`, or None where there is none. A warning names damaged ones.

    Raises:
        ValueError: there are states, and all are damaged.
    """
    found = folders(root)
    for folder in reversed(found):
        try:
            return load(folder)
        except ValueError as error:
            log.warning("%s; trying the one before it", error)
    if found:
        raise ValueError(f"{root}: every training state is damaged; --resume_from_checkpoint none starts afresh")
    return None


def forget_after(root: Path, step: int) -> None:
    """Remove states later than `step`: they are damaged, or a resumed run does their steps again."""
    for folder in folders(root):
        if step_of(folder) > step:
            _remove(folder)


def find(config: TrainConfig, fingerprints: tuple[str, str | None], slots: int, device_type: str) -> State | None:
    """The state that a run continues from, or None for a fresh start.

    Args:
        fingerprints: of the prepared images, and of the labels that are learned; None if none are.
        slots: micro-batches of an optimizer step, over all processes.
        device_type: "cpu", "cuda" or "mps".
    Raises:
        ValueError: the run was started with other settings that change its result; the message names them.
    """
    wanted = config.resume_from_checkpoint
    if wanted == "none":
        return None
    if wanted != "latest" and not (Path(wanted) / META).is_file():
        there = ", ".join(str(folder) for folder in folders(config.directory / "checkpoints")[-3:])
        raise ValueError(
            f"--resume_from_checkpoint {wanted}: no training state is there; latest, none, or the folder of a state is "
            f"needed, such as {there or config.directory / 'checkpoints/step-000500'}"
        )
    saved = load_latest(config.directory / "checkpoints") if wanted == "latest" else load(Path(wanted))
    if saved is None:
        return None
    try:
        before = TrainConfig.from_json(saved.meta["options"])
    except ValueError as error:  # it was saved by another version of this program
        root = folder_of(config.directory / "checkpoints", saved.meta["step"]) if wanted == "latest" else Path(wanted)
        raise ValueError(f"{root / META}: {error}") from None
    same_images = saved.meta["fingerprint"] == fingerprints[0]
    without_labels = not (config.class_conditional or before.class_conditional)
    differing = [
        f"--{f.name} ({getattr(before, f.name)}, now {getattr(config, f.name)})"
        for f in dataclasses.fields(config)
        if not f.metadata.get("resume")
        and getattr(before, f.name) != getattr(config, f.name)
        # The same pixels may have another name: a relative path, a slash at its end, a split that is the default.
        and not (same_images and f.name in DataOptions.__dataclass_fields__)
        # More micro-batches on fewer processes give the same result.
        and not (f.name == "gradient_accumulation_steps" and saved.meta["slots"] == slots)
        and not (f.name == "label_dropout" and without_labels)
    ]
    if config.lr_schedule == "cosine" and before.max_train_steps != config.max_train_steps:
        differing.append(
            f"--max_train_steps ({before.max_train_steps}, now {config.max_train_steps}: "
            "the cosine learning rate ends there)"
        )
    if saved.meta["device"] != device_type:
        log.warning(
            "The run was on %s before. Each kind of device draws its own noise, so the result will differ",
            saved.meta["device"],
        )
    if not same_images:
        differing.append("the images of the dataset")
    elif saved.meta.get("labels") not in (None, fingerprints[1]) and config.class_conditional:
        differing.append("the labels of the dataset")
    if saved.meta["slots"] != slots and not differing:
        differing.append(f"processes x gradient_accumulation_steps ({saved.meta['slots']}, now {slots})")
    if differing:
        raise ValueError(
            f"{config.directory} was started with other settings: {', '.join(differing)}. Give the old ones, another "
            "--output_dir, or --resume_from_checkpoint none to start afresh there"
        )
    return saved
