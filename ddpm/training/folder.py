"""The folder of a training run: settings, metrics, pictures, model, training state."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm import checkpoint, plots
from ddpm.config import TrainConfig, preset, reference_val_loss
from ddpm.data import Images
from ddpm.engine import Engine
from ddpm.files import claim, write_text
from ddpm.hub import card
from ddpm.metrics import MetricsLog
from ddpm.processes import share
from ddpm.sampling import reverse_process, sample
from ddpm.training import state

log = logging.getLogger(__name__)

PACKAGES = ("torch", "diffusers", "accelerate", "datasets", "numpy")


def find_state(config: TrainConfig, fingerprint: str, slots: int, device_type: str) -> state.State | None:
    """The state to continue from, or None for a fresh start.

    Args:
        fingerprint: of the data.
        slots: micro-batches a step, over all processes.
        device_type: "cpu", "cuda" or "mps".
    Raises:
        ValueError: the run was started with settings that give another result, which are named.
    """
    wanted = config.resume_from_checkpoint
    if wanted == "none":
        return None
    saved = state.load_latest(config.directory / "checkpoints") if wanted == "latest" else state.load(Path(wanted))
    if saved is None:
        return None
    before = TrainConfig.from_json(saved.meta["options"])
    differing = [
        f"--{f.name} ({getattr(before, f.name)}, now {getattr(config, f.name)})"
        for f in dataclasses.fields(config)
        if not f.metadata.get("resume")
        and getattr(before, f.name) != getattr(config, f.name)
        # Micro-batches and processes may be traded for each other.
        and not (f.name == "gradient_accumulation_steps" and saved.meta["slots"] == slots)
    ]
    if config.lr_schedule == "cosine" and before.max_train_steps != config.max_train_steps:
        differing.append(
            f"--max_train_steps ({before.max_train_steps}, now {config.max_train_steps}: "
            "the cosine learning rate ends there)"
        )
    if saved.meta["device"] != device_type:
        log.warning(
            "The run was on %s before: noise is drawn by the device, so it goes on differently", saved.meta["device"]
        )
    if saved.meta["fingerprint"] != fingerprint:
        differing.append("the images of the dataset")
    if saved.meta["slots"] != slots and not differing:
        differing.append(f"processes x gradient_accumulation_steps ({saved.meta['slots']}, now {slots})")
    if differing:
        raise ValueError(
            f"{config.directory} was started with other settings: {', '.join(differing)}. Give those, another "
            "--output_dir, or --resume_from_checkpoint none to start afresh there"
        )
    return saved


class Run:
    """Writes everything that people look at. Only the main process has one."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator,
        scheduler,
        images: Images,
        network: dict[str, Any],
        resumed: state.State | None,
    ) -> None:
        self.config, self.accelerator, self.scheduler, self.images = config, accelerator, scheduler, images
        self.directory = config.directory
        if resumed is None and self.directory.is_dir() and not (self.directory / "train_config.json").exists():
            strangers = sorted(p.name for p in self.directory.iterdir() if p.name != "checkpoints")
            if strangers:
                raise ValueError(
                    f"--output_dir {self.directory} holds other files ({', '.join(strangers[:3])}); "
                    "give a new folder, or one of a run"
                )
        self.lock = claim(self.directory)
        step = resumed.meta["step"] if resumed else 0
        state.forget_after(self.directory / "checkpoints", step)
        for picture in (self.directory / "samples").glob("step-*.png"):
            if int(picture.stem.removeprefix("step-")) > step:
                picture.unlink()
        self.metrics = MetricsLog(self.directory / "metrics.jsonl", *_kept_rows(resumed))
        self.settings = {
            "options": config.to_json(),
            "data": {
                "fingerprint": images.fingerprint,
                "num_train": len(images.train),
                "num_eval": len(images.eval),
                "resolution": images.resolution,
                "channels": images.channels,
                "source": images.source,
                "notes": images.notes,
            },
            "network": network,
            "machine": {
                "device": str(accelerator.device),
                "processor": torch.cuda.get_device_name() if accelerator.device.type == "cuda" else _processor(),
                "processes": accelerator.num_processes,
                "threads": torch.get_num_threads(),
            },
            "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        }
        write_text(self.directory / "train_config.json", json.dumps(self.settings, indent=1) + "\n")
        for note in images.notes:
            log.info("%s", note)
        size = f"{images.resolution}x{images.resolution}x{images.channels}"
        log.info("%d training and %d held-out images, %s", len(images.train), len(images.eval), size)
        if resumed:
            log.info("Resuming at step %d of %d", step, config.max_train_steps)
        self.saved_step = step if resumed else None
        self._warned_of_loss = False
        self._check_settings()
        if config.report_to != "none":
            plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.to_json().items()}
            accelerator.init_trackers("ddpm", plain)

    def _check_settings(self) -> None:
        """Warn of settings that train, but hardly what was meant."""
        alpha_bar_T = float(self.scheduler.alphas_cumprod[-1])
        if alpha_bar_T > 1e-3:
            log.warning(
                "alpha_bar_T is %.2g: x_T keeps %.0f %% of the image, but sampling starts from pure noise",
                alpha_bar_T,
                100 * alpha_bar_T**0.5,
            )
        usual = preset(self.config.preset)
        batch = self.config.train_batch_size * self.config.gradient_accumulation_steps * self.accelerator.num_processes
        expected = usual.learning_rate * (batch / usual.train_batch_size) ** 0.5
        if not expected / 5 <= self.config.learning_rate <= expected * 5:
            log.warning(
                "--learning_rate %g is far from %.2g, the preset's for %d images a step (square-root rule)",
                self.config.learning_rate,
                expected,
                batch,
            )

    def add(self, row: dict[str, Any]) -> None:
        """A row of metrics.jsonl, and of the tracker."""
        warm = row["step"] > max(self.config.lr_warmup_steps, 200)
        if row["kind"] == "train" and warm and (row["loss"] or 0) > 0.9 and not self._warned_of_loss:
            self._warned_of_loss = True
            log.warning("The loss is %.2f after warm-up; predicting no noise at all gives 1.00", row["loss"])
        with _kept_going("metrics.jsonl"):
            self.metrics.append(row)
        numbers = {f"{row['kind']}/{k}": v for k, v in row.items() if isinstance(v, int | float) and k != "step"}
        for i, loss in enumerate(row.get("loss_by_decile", [])):
            if loss is not None:
                numbers[f"{row['kind']}/loss_decile_{i}"] = loss
        self.accelerator.log(numbers, step=row["step"])

    def save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], unet) -> None:
        """State and pipeline."""
        with _kept_going(f"Step {step}"):
            meta = {"step": step, "options": self.config.to_json(), "fingerprint": self.images.fingerprint} | meta
            state.save(self.directory / "checkpoints", state.State(tensors, meta), self.config.checkpoints_total_limit)
            self.saved_step = step
            self.export(unet)

    def export(self, unet) -> None:
        """The DDPMPipeline of `unet` and its card."""
        checkpoint.save(self.directory, unet, dict(self.scheduler.config))
        card.write(self.directory)

    def samples(self, step: int, tiles: Tensor) -> None:
        """samples/step-....png and training.png, and the samples to the tracker."""
        picture = plots.grid(plots.to_pixels(tiles), round(len(tiles) ** 0.5))
        with _kept_going("the samples"):
            plots.save_image(picture, self.directory / f"samples/step-{step:06d}.png")
            if self.config.plots:
                self._plot()
        for tracker in self.accelerator.trackers:
            if tracker.name == "trackio":  # which has no log_images
                import trackio

                tracker.log({"samples": trackio.Image(picture.convert("RGB"))}, step=step)
            else:
                shown = np.asarray(picture.convert("RGB"))[None]  # as (N, H, W, C)
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"samples": shown}, step=step, **options)

    def _plot(self) -> None:
        usual, same = preset(self.config.preset), "block_out_channels layers_per_block attention_levels max_train_steps"
        as_usual = all(getattr(usual, name) == getattr(self.config, name) for name in same.split())
        reference = reference_val_loss(self.config.preset, self.images.fingerprint) if as_usual else None
        plots.save_training_plot(self.metrics.rows, self.directory / "training.png", self.directory.name, reference)

    def finish(self, unet) -> None:
        """strip.png: one trajectory of all T steps, by ancestral sampling. The last validation drew the rest."""
        if not self.config.plots:
            return
        shape = (2, self.images.channels, self.images.resolution, self.images.resolution)
        device = self.accelerator.device
        steps = reverse_process(Engine(unet, self.scheduler, device), self.scheduler, shape, device=device)
        with _kept_going("the strip"):
            plots.save_strip(steps, self.directory / "strip.png")


@contextlib.contextmanager
def _kept_going(what: str) -> Iterator[None]:
    """A full disk costs what was being written, not the run: it is said, and what was saved before stays."""
    try:
        yield
    except OSError as error:
        log.warning("%s could not be saved (%s); training goes on, earlier states are intact", what, error)


def _kept_rows(resumed: state.State | None) -> tuple[int, dict[str, int]]:
    """The last step of metrics.jsonl that a resumed run keeps, and the cadence of its rows by kind."""
    if resumed is None:
        return 0, {}
    options = resumed.meta["options"]
    return resumed.meta["step"], {"train": options["logging_steps"], "validation": options["validation_steps"]}


def sample_tiles(
    unet, scheduler, shape: tuple[int, int, int], config: TrainConfig, rank: int, world: int, device
) -> Tensor:
    """This process's images of the sample grid, (n, C, H, W): every `world`-th share, always from the same noise."""
    mine = share(config.num_samples, rank, world)
    if not mine:
        return torch.empty(0, *shape)
    options = {"num_inference_steps": config.sample_steps, "first_image": mine.start, "device": device}
    return sample(Engine(unet, scheduler, device), scheduler, (len(mine), *shape), **options).cpu()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
