"""Measure a checkpoint: the variational bound in bits per dimension, term by term, and the quality of its samples.

python -m ddpm.evaluate runs/digits
accelerate launch -m ddpm.evaluate you/ddpm --num_images 0 --timesteps 20 --num_samples 2000
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import tyro  # light: --help and wrong usage answer before torch is loaded

from ddpm.config import check_common, need_option, option

PROG = "python -m ddpm.evaluate"


@dataclass(frozen=True)
class EvaluateConfig:
    """Bits per dimension of a checkpoint and, with --num_samples, how good its samples are. Flags accept _ and -."""

    model: tyro.conf.Positional[str] = option("ddpm/assets/mnist", "model", "directory or Hub id")
    revision: str | None = option(None, "model", "branch, tag or commit of a Hub model")

    dataset_name: str | None = option(None, "data", "as in train.py; default: what the model was trained on")
    dataset_config_name: str | None = option(None, "data", "configuration of a Hub dataset")
    dataset_revision: str | None = option(None, "data", "branch, tag or commit of a Hub dataset")
    image_column: str | None = option(None, "data", "default: the column that holds images")
    train_split: str | None = option(None, "data", "reference of the sample quality; default: train")
    eval_split: str | None = option(None, "data", "what the bound is computed on; default: as in train.py")
    resolution: int | None = option(None, "data", "pixels; default: the data's own")
    channels: int | None = option(None, "data", "1 or 3; default: the data's own")

    num_images: int = option(64, "bound", "held-out images at most, drawn by --seed; 0: all")
    timesteps: int = option(0, "bound", "estimate the sum from this many timesteps an image; 0: all, exactly")
    variance_type: Literal["fixed_small", "fixed_large"] | None = option(None, "bound", "default: the model's own")
    clip_denoised: bool = option(True, "bound", "clip the network's x_0 to [-1, 1]")

    num_samples: int = option(0, "samples", "images to draw and compare with the training split; 0: none")
    sampler: Literal["ddpm", "ddpm_fixed_small", "ddpm_fixed_large", "ddim", "dpm_solver++"] = option(
        "ddpm", "samples", "ddpm: ancestral with the model's own variance"
    )
    num_inference_steps: int | None = option(None, "samples", "default: every timestep")
    feature_network: Literal["auto", "classifier", "inception"] = option(
        "auto", "samples", "of the Fréchet distance: a classifier trained here on the labels, or Inception"
    )

    seed: int = option(0, "run", "of images, noise and samples")
    batch_size: int = option(64, "run", "most images in one call of the network")
    num_cpu_threads: int = option(0, "run", "per process on the CPU; 0: physical cores / local processes")
    output: str = option("plots.json", "run", "the report; pictures are written beside it under its name")
    record: bool = option(False, "run", "also write the numbers into the model's metrics.jsonl and card (a directory)")

    def validate(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: names the flag, the value, and what is accepted.
        """

        need = functools.partial(need_option, self)
        check_common(self)
        for name in ("num_images", "timesteps", "num_samples"):
            need(getattr(self, name) >= 0, name, "0 or more")
        need(self.num_images != 1, "num_images", "2 or more (or 0), for a standard error,")
        need(self.num_samples != 1, "num_samples", "2 or more (or 0)")
        need(self.batch_size >= 1, "batch_size", "1 or more")
        need(self.num_inference_steps is None or self.num_inference_steps >= 1, "num_inference_steps", "1 or more")
        need(self.output.endswith(".json"), "output", "the name of a .json file")
