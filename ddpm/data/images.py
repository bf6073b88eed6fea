"""The prepared images, and how they become tensors."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.names import Size, distinct, size_of

RESIDENT_SHARE = 0.25  # of a GPU's free memory that the training images may take


@dataclass(frozen=True, eq=False)
class Images:
    """Prepared images.

    Attributes:
        train, eval: (N, C, H, W) uint8 memory maps, for training and held out.
        fingerprint: a digest of all pixels, in hexadecimal.
        train_labels, eval_labels: (N,) int64, -1 for an image without a label; None if no image of the split has one.
        train_groups, eval_groups: (N,) int64, equal for images that belong together, -1 for an image that belongs to
            none; None if the images were not held out by groups.
        label_names: what labels are called; one that is not in here is called by its number.
        notes: what was chosen and what was left out, in sentences for the log.
        source: "digits", "folder" or "hub".
        eval_split: the name of the split that `eval` is; None if it was held out of the training split.
    """

    train: np.ndarray
    eval: np.ndarray
    fingerprint: str
    train_labels: np.ndarray | None = None
    eval_labels: np.ndarray | None = None
    train_groups: np.ndarray | None = None
    eval_groups: np.ndarray | None = None
    label_names: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    source: str | None = None
    eval_split: str | None = None

    @classmethod
    def open(cls, folder: Path) -> Images:
        """The images in a folder that was prepared completely.

        Raises:
            OSError: a file is missing.
        """
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        splits = {}
        for split in ("train", "eval"):
            shape = (meta[f"num_{split}"], meta["channels"], *size_of(meta["resolution"]))
            splits[split] = np.memmap(folder / f"{split}.u8", np.uint8, mode="r", shape=shape)
            if split in meta["labelled"]:
                splits[f"{split}_labels"] = np.fromfile(folder / f"{split}.labels", np.int64)
            if meta["grouped"]:
                splits[f"{split}_groups"] = np.fromfile(folder / f"{split}.groups", np.int64)
        about = {name: meta[name] for name in ("fingerprint", "notes", "eval_split")}
        names = {int(label): name for label, name in meta["label_names"].items()}
        return cls(**splits, **about, label_names=names, source=meta["source"]["kind"])

    def say(self, log: logging.Logger) -> None:
        """Log the notes; those that begin with "Warning" as warnings."""
        for note in self.notes:
            log.log(logging.WARNING if note.startswith("Warning") else logging.INFO, "%s", note)

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The labels of the training images, each once and in order; none if no training image has a label."""
        known = np.unique(self.train_labels) if self.train_labels is not None else np.empty(0, np.int64)
        return tuple(known[known >= 0].tolist())

    @property
    def class_names(self) -> tuple[str, ...]:
        """What `classes` are called; the names differ."""
        return distinct(self.label_names.get(label, "").strip() or str(label) for label in self.classes)

    def class_of(self, labels: np.ndarray | None, count: int) -> np.ndarray:
        """The place of each label among `classes`, (count,) int64; -1 for an image without a label, or with one that
        no training image has.

        Args:
            labels: `train_labels` or `eval_labels` of `count` images.
        """
        if labels is None or not self.classes:
            return np.full(count, -1)
        known = np.array(self.classes)
        place = np.searchsorted(known, labels).clip(max=len(known) - 1)
        return np.where(known[place] == labels, place, -1)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.train.shape[1]

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.train.shape[2], self.train.shape[3]


def to_float(pixels: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 pixels to float32 x_0 in [-1, 1] on `device`, of the same shape.

    The values are exactly pixel / 127.5 - 1: the bins of L_0 rely on that (Eq. 13).
    """
    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    return pixels.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1


def resident(pixels: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """The images in a GPU's memory, if they take at most RESIDENT_SHARE of what is free there; otherwise unchanged.

    Args:
        pixels: (N, C, H, W) uint8.
    """
    if device.type != "cuda" or pixels.nbytes > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return pixels
    moved = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    for first in range(0, len(pixels), 4096):  # so that the memory map is never in memory as a whole
        moved[first : first + 4096] = torch.from_numpy(np.array(pixels[first : first + 4096]))
    return moved


def take(pixels: np.ndarray | Tensor, index: np.ndarray) -> np.ndarray | Tensor:
    """The images at (B,) int64 `index` of what `resident` returned, (B, C, H, W) uint8 in the same place."""
    if isinstance(pixels, Tensor):
        return pixels[torch.from_numpy(index).to(pixels.device, non_blocking=True)]
    return pixels[index]
