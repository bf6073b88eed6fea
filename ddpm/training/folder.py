"""The folder of a training run: settings, metrics, pictures, the model with its card, and the training states."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ddpm import checkpoint, plots
from ddpm.config import TrainConfig, preset
from ddpm.data import Images
from ddpm.engine import Engine
from ddpm.files import claim, write_text
from ddpm.hub import card
from ddpm.metrics import MetricsLog
from ddpm.presets import reference_val_loss
from ddpm.sampling import reverse_process
from ddpm.training import state

log = logging.getLogger(__name__)

PACKAGES = ("torch", "diffusers", "accelerate", "datasets", "numpy")


class RunFolder:
    """Writes everything that a run leaves behind. Only the main process has one, and only one run at a time.

    Args:
        network: the arguments of `build_unet`, for train_config.json.
        resumed: the state that the run continues from, or None for a fresh start. Later states and samples are removed.
    Attributes:
        saved_step: the step whose state was saved last, or None.
    Raises:
        ValueError: the folder holds other files, or another process trains there.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        scheduler: Any,
        images: Images,
        network: dict[str, Any],
        resumed: state.State | None,
    ) -> None:
        self.config, self.scheduler, self.images = config, scheduler, images
        self.device, self.path = accelerator.device, config.directory
        if resumed is None:
            self._refuse_other_files()
        self._lock = claim(self.path)
        step = resumed.meta["step"] if resumed else 0
        self.saved_step = step if resumed else None
        self._remove_newer_than(step)
        self.metrics = MetricsLog(self.path / "metrics.jsonl", *_kept_rows(resumed))
        settings = {
            "options": config.to_json(),
            "data": _about_data(images),
            "network": network,
            "machine": _about_machine(accelerator),
            "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        }
        write_text(self.path / "train_config.json", json.dumps(settings, indent=1) + "\n")

    def _refuse_other_files(self) -> None:
        if not self.path.is_dir() or (self.path / "train_config.json").exists():
            return
        others = sorted(p.name for p in self.path.iterdir() if p.name != "checkpoints")
        if others:
            raise ValueError(
                f"--output_dir {self.path} holds other files ({', '.join(others[:3])}); "
                "give a new folder, or the folder of an earlier run"
            )

    def _remove_newer_than(self, step: int) -> None:
        """Remove states and pictures later than the step that this run resumes from."""
        state.forget_after(self.path / "checkpoints", step)
        for picture in (self.path / "samples").glob("step-*.png"):
            if int(picture.stem.removeprefix("step-")) > step:
                picture.unlink()
        for plot in filter(Path.is_file, (self.path / name for name in ("training.png", "strip.png"))):
            if not step:
                plot.unlink()
                log.info("%s of an earlier run is removed", plot)
            elif not self.config.plots:
                log.info("%s shows the run until step %d or earlier, because of --no_plots", plot, step)

    def add(self, row: dict[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        with _disk_may_be_full("metrics.jsonl"):
            self.metrics.append(row)

    def save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], unet: Any) -> None:
        """Save the training state, then the DDPMPipeline of `unet` and its card."""
        with _disk_may_be_full(f"Step {step}"):
            meta = {"options": self.config.to_json(), "fingerprint": self.images.fingerprint} | meta
            state.save(self.path / "checkpoints", state.State(tensors, meta), self.config.checkpoints_total_limit)
            self.saved_step = step
            checkpoint.save(self.path, unet, dict(self.scheduler.config))
            card.write(self.path)

    def save_samples(self, step: int, grid: Image.Image) -> None:
        """Save samples/step-....png, and training.png with the rows so far."""
        with _disk_may_be_full("the samples"):
            plots.save_image(grid, self.path / f"samples/step-{step:06d}.png")
            if self.config.plots:
                plots.save_training_plot(
                    self.metrics.rows, self.path / "training.png", self.path.name, self._reference_val_loss()
                )

    def _reference_val_loss(self) -> float | None:
        """The held-out loss that the preset reaches, if this run has its network, length and data; otherwise None."""
        usual, same = preset(self.config.preset), "block_out_channels layers_per_block attention_levels max_train_steps"
        if any(getattr(usual, name) != getattr(self.config, name) for name in same.split()):
            return None
        return reference_val_loss(self.config.preset, self.images.fingerprint)

    def save_strip(self, unet: Any, trained: int) -> None:
        """Save strip.png: two images, sampled by ancestral sampling in `plots.strip_steps` steps.

        Args:
            trained: optimizer steps so far.
        """
        if not self.config.plots:
            return
        shape = (2, self.images.channels, self.images.resolution, self.images.resolution)
        eps_theta = Engine(unet, self.scheduler, self.device)
        count = plots.strip_steps(self.scheduler.config["num_train_timesteps"], trained)
        steps = reverse_process(eps_theta, self.scheduler, shape, num_inference_steps=count, device=self.device)
        steps = tqdm(steps, "drawing strip.png", count, leave=False, unit=" steps", dynamic_ncols=True)
        with _disk_may_be_full("the strip"):
            plots.save_strip(steps, self.path / "strip.png")


@contextlib.contextmanager
def _disk_may_be_full(what: str) -> Iterator[None]:
    """If the disk is full, log a warning and let the run continue."""
    try:
        yield
    except OSError as error:
        log.warning("%s could not be saved (%s); training continues, and earlier states are intact", what, error)


def _kept_rows(resumed: state.State | None) -> tuple[int, dict[str, int]]:
    """The last step of metrics.jsonl that a resumed run keeps, and the cadence of its rows by kind."""
    if resumed is None:
        return 0, {}
    options = resumed.meta["options"]
    return resumed.meta["step"], {"train": options["logging_steps"], "validation": options["validation_steps"]}


def _about_data(images: Images) -> dict[str, Any]:
    return {
        "fingerprint": images.fingerprint,
        "num_train": len(images.train),
        "num_eval": len(images.eval),
        "resolution": images.resolution,
        "channels": images.channels,
        "source": images.source,
        "notes": images.notes,
    }


def _about_machine(accelerator: Accelerator) -> dict[str, Any]:
    on_gpu = accelerator.device.type == "cuda"
    return {
        "device": str(accelerator.device),
        "processor": torch.cuda.get_device_name() if on_gpu else _processor(),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
