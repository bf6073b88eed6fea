"""Which label each training image is shown with: its own, or none."""

from __future__ import annotations

import logging

import numpy as np

from ddpm import draws
from ddpm.classes import MAX_CLASSES
from ddpm.config import TrainConfig
from ddpm.data import Images
from ddpm.names import counted

log = logging.getLogger(__name__)


class Labelling:
    """The classes of the training images, and which of them are hidden from the network.

    Attributes:
        num_classes: K.
        classes: (N,) int64 in 0 ... K, the class of each training image; K for an image without a label.
    Raises:
        ValueError: the images have no labels, or fewer than `label_dropout` covers; one line.
    """

    def __init__(self, config: TrainConfig, images: Images) -> None:
        found = images.class_of(images.train_labels, len(images.train))
        self.seed, self.num_classes = config.seed, len(images.classes)
        if not self.num_classes:
            raise ValueError(
                f"--class_conditional: the images of {config.dataset_name!r} have no labels; a column of class labels, "
                "a folder for each class, or a table of file names and labels is needed"
            )
        if self.num_classes > MAX_CLASSES:
            raise ValueError(f"--class_conditional: {self.num_classes:,} different labels; at most {MAX_CLASSES:,}")
        unknown = int((found < 0).sum())
        share, wanted = unknown / len(found), config.label_dropout
        if share > wanted:
            raise ValueError(
                f"--class_conditional: {counted(unknown, 'image')} of {len(found):,} have no label, and "
                f"--label_dropout {wanted:g} covers {int(wanted * len(found)):,}: pass --label_dropout "
                f"{_rounded_up(share):g} or more, or leave these images out"
            )
        self.classes = np.where(found < 0, self.num_classes, found)
        # Images without a label count among those that are to be shown without one.
        self._share = (wanted - share) / (1 - share) if share < 1 else 0.0

    def of(self, index: np.ndarray, step: int, slot: int) -> np.ndarray:
        """(B,) int64 in 0 ... K: the classes that the network is told for the images at `index` (B,)."""
        dropped = draws.dropped_labels(self.seed, step, slot, len(index), self._share)
        return np.where(dropped, self.num_classes, self.classes[index])


def _rounded_up(share: float) -> float:
    """The next multiple of 0.001 from a share on, for a message."""
    return -(-share * 1000 // 1) / 1000
