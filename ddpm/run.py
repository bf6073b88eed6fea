"""The folder of a training run: settings, metrics, pictures, model, training state."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import checkpoint, hub, report, state
from .config import TrainConfig
from .data import Images
from .engine import Engine
from .sampling import reverse_process, sample

log = logging.getLogger(__name__)

PACKAGES = ("torch", "diffusers", "accelerate", "datasets", "numpy")


def find_state(config: TrainConfig, fingerprint: str, slots: int) -> state.State | None:
    """The state to continue from, or None for a fresh start.

    Args:
        fingerprint: of the data.
        slots: micro-batches a step, over all processes.
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
        if not f.metadata["resume"]
        and getattr(before, f.name) != getattr(config, f.name)
        # Micro-batches and processes may be traded for each other.
        and not (f.name == "gradient_accumulation_steps" and saved.meta["slots"] == slots)
    ]
    if config.lr_schedule == "cosine" and before.max_train_steps != config.max_train_steps:
        differing.append(
            f"--max_train_steps ({before.max_train_steps}, now {config.max_train_steps}: the cosine learning rate ends there)"
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
        if resumed is None:
            for stale in ("checkpoints", "samples"):
                shutil.rmtree(self.directory / stale, ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.metrics = report.MetricsLog(self.directory / "metrics.jsonl", *_kept_rows(resumed))
        self.settings = {
            "options": config.to_json(),
            "data": {
                "fingerprint": images.fingerprint,
                "num_train": len(images.train),
                "num_eval": len(images.eval),
                "resolution": images.resolution,
                "channels": images.channels,
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
        if config.report_to != "none":
            plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.to_json().items()}
            accelerator.init_trackers("ddpm", plain)

    def add(self, row: dict[str, Any]) -> None:
        """A row of metrics.jsonl, and of the tracker."""
        self.metrics.append(row)
        numbers = {f"{row['kind']}/{k}": v for k, v in row.items() if isinstance(v, int | float) and k != "step"}
        for i, loss in enumerate(row.get("loss_by_decile", [])):
            if loss is not None:
                numbers[f"{row['kind']}/loss_decile_{i}"] = loss
        self.accelerator.log(numbers, step=row["step"])

    def save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], unet) -> None:
        """State and pipeline. A full disk costs this save, not the run: it is said, and earlier states stay."""
        try:
            meta = {"step": step, "options": self.config.to_json(), "fingerprint": self.images.fingerprint} | meta
            state.save(self.directory / "checkpoints", state.State(tensors, meta), self.config.checkpoints_total_limit)
            self.export(unet)
        except OSError as error:
            log.warning("Step %d could not be saved (%s); training goes on, earlier states are intact", step, error)

    def export(self, unet) -> None:
        """The DDPMPipeline of `unet` and its card."""
        checkpoint.save(self.directory, unet, dict(self.scheduler.config))
        write_text(self.directory / "README.md", hub.model_card(self.directory, self.settings, self.metrics.rows, unet))

    def samples(self, step: int, tiles: Tensor) -> None:
        """samples/step-....png and training.png."""
        columns = round(len(tiles) ** 0.5)
        report.save_image(
            report.grid(report.to_pixels(tiles), columns), self.directory / f"samples/step-{step:06d}.png"
        )
        report.save_training_plot(self.metrics.rows, self.directory / "training.png", self.directory.name)

    def finish(self, unet) -> None:
        """training.png and strip.png: one trajectory of all T steps, by ancestral sampling."""
        report.save_training_plot(self.metrics.rows, self.directory / "training.png", self.directory.name)
        shape = (2, self.images.channels, self.images.resolution, self.images.resolution)
        device = self.accelerator.device
        steps = reverse_process(Engine(unet, self.scheduler, device), self.scheduler, shape, device=device)
        report.save_strip(steps, self.directory / "strip.png")
        self.export(unet)


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
    share = -(-config.num_samples // world)
    first = min(rank * share, config.num_samples)
    count = min(share, config.num_samples - first)
    if not count:
        return torch.empty(0, *shape)
    options = {"sampler": "ddim", "num_inference_steps": config.sample_steps, "first_image": first, "device": device}
    return sample(Engine(unet, scheduler, device), scheduler, (count, *shape), **options).cpu()


def write_text(path: Path, text: str) -> None:
    """Replaced as a whole."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
