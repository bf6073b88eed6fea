"""At which steps sample grids are drawn besides those of the validations: after so many images or epochs.

An epoch is as many training images as there are; the network has seen them in shuffled order, each once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from ddpm.config import TrainConfig

log = logging.getLogger(__name__)


def grid_moments(config: TrainConfig, num_images: int, global_size: int) -> dict[int, str]:
    """The steps after which `sample_at_images` and `sample_at_epochs` ask for a sample grid: for each the first step
    after which so many images have been seen, and the flag that names it.

    Args:
        num_images: training images.
        global_size: images of an optimizer step.
    """
    wanted = [(images, f"--sample_at_images {images}") for images in config.sample_at_images]
    wanted += [(epoch * num_images, f"--sample_at_epochs {epoch:g}") for epoch in config.sample_at_epochs]
    # Rounded first, since 0.1 of 70 images is 7.000000000000001 in binary.
    steps = [(math.ceil(round(images / global_size, 9)), flag) for images, flag in wanted]
    return dict(sorted({max(1, step): flag for step, flag in reversed(steps)}.items()))


def warn_about(moments: Mapping[int, str], first: int, last: int) -> None:
    """Log a warning about moments that never come.

    Args:
        moments: as `grid_moments` returns them.
        first: steps that were done before this training began or was resumed.
        last: step at which it ends.
    """
    late = {step: flag for step, flag in moments.items() if step > last}
    if late:
        flags = ", ".join(late.values())
        log.warning(
            "%s: no sample grid is drawn there, because the training ends at step %d; --max_train_steps %d reaches %s",
            flags,
            last,
            max(late),
            "it" if len(late) == 1 else "all of them",
        )
    if first and (gone := [flag for step, flag in moments.items() if step < first]):
        log.info("Resuming after %s, where no sample grid is drawn any more", ", ".join(gone))
