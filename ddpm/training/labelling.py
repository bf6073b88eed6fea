"""Which label each training image is shown with: its own, or none."""

from __future__ import annotations

import hashlib
import logging
import math

import numpy as np

from ddpm import draws
from ddpm.class_names import shortened
from ddpm.classes import MAX_CLASSES
from ddpm.config import TrainConfig
from ddpm.data import Images
from ddpm.names import counted
from ddpm.training.sheet import MAX_COLUMNS

log = logging.getLogger(__name__)


class Labelling:
    """The classes of the training images, and which of them are hidden from the network.

    Attributes:
        num_classes: K.
        classes: (N,) int64 in 0 ... K, the class of each training image; K for an image without a label.
    Raises:
        ValueError: the images have no labels, or more of them have none than `label_dropout` covers; one line.
    """

    def __init__(self, config: TrainConfig, images: Images) -> None:
        found = images.class_of(images.train_labels, len(images.train))
        self.seed, self.num_classes, self._names = config.seed, len(images.classes), images.class_names
        if not self.num_classes:
            hint = next((f"; {note}" for note in images.notes if "--label_column takes" in note), "")
            raise ValueError(
                f"--class_conditional: the images of {config.dataset_name!r} have no labels; a column of class labels, "
                f"a folder for each class, or a table of file names and labels is needed{hint}"
            )
        if self.num_classes > MAX_CLASSES:
            raise ValueError(f"--class_conditional: {self.num_classes:,} different labels; at most {MAX_CLASSES:,}")
        self._unknown = unknown = int((found < 0).sum())
        share, wanted = unknown / len(found), config.label_dropout
        self._wanted = wanted
        if share > wanted:
            raise ValueError(
                f"--class_conditional: {counted(unknown, 'image')} of {len(found):,} have no label, and "
                f"--label_dropout {wanted:g} covers {math.floor(wanted * len(found) + 1e-9):,}: pass --label_dropout "
                f"{_rounded_up(share):g} or more, or leave these images out"
            )
        self.classes = np.where(found < 0, self.num_classes, found)
        # Images without a label count among those that are to be shown without one.
        self._share = (wanted - share) / (1 - share) if share < 1 else 0.0

    @property
    def fingerprint(self) -> str:
        """A digest of the classes of all training images, and of their names."""
        content = hashlib.sha256("\n".join(self._names).encode())
        content.update(self.classes.astype("<i8").tobytes())
        return content.hexdigest()

    def say(self) -> None:
        """Log what is learned, and warn about a dropout that leaves one half of it untrained."""
        first, last = (shortened(name) for name in (self._names[0], self._names[-1]))
        line = f"labels: {counted(self.num_classes, 'class')}, {first}{f' to {last}' if self.num_classes > 1 else ''}; "
        line += f"{100 * self._wanted:g} % of the images are trained without their label"
        if self._unknown:
            line += f", {counted(self._unknown, 'image')} of {len(self.classes):,} among them that have none"
        if self.num_classes > MAX_COLUMNS:
            line += f"; the sample grids show the first {MAX_COLUMNS} classes"
        log.info("%s", line)
        if self._wanted == 0:
            log.warning(
                "--label_dropout 0: the network never sees an image without a label, so it can neither draw without "
                "one nor be guided; 0.1 is usual"
            )
        elif self._wanted == 1:
            log.warning("--label_dropout 1: every image is trained without its label, so no label is learned")

    def of(self, index: np.ndarray, step: int, slot: int) -> np.ndarray:
        """(B,) int64 in 0 ... K: the classes that the network is told for the images at `index` (B,)."""
        dropped = draws.dropped_labels(self.seed, step, slot, len(index), self._share)
        return np.where(dropped, self.num_classes, self.classes[index])


def _rounded_up(share: float) -> float:
    """The next multiple of 0.001 from a share on, for a message."""
    return -(-share * 1000 // 1) / 1000
