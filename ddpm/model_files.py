"""The files of a model directory: which ones there must be, and which values in them this project can compute with.

Everything here is known before weights are loaded or downloaded, and nothing here runs code from a model.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel

from ddpm.errors import first_line
from ddpm.names import MAX_RESOLUTION, MAX_TIMESTEPS, PREDICTION_TYPES, VARIANCE_TYPES
from ddpm.schedule import NoiseSchedule

log = logging.getLogger(__name__)

WEIGHTS = "diffusion_pytorch_model.safetensors"
PIPELINES = ("DDPMPipeline", "DDIMPipeline")  # whose networks draw pixels; that of an LDMPipeline draws latents
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack")
UNET_SETTINGS = set(inspect.signature(UNet2DModel.__init__).parameters) - {"self"}
SPACINGS = ("linspace", "leading", "trailing")


@dataclass(frozen=True)
class Layout:
    """The files that a model consists of, relative to its directory.

    An older, flat layout has config.json beside the weights; it may have no index and no scheduler_config.
    """

    index: str | None
    unet_config: str
    weights: str
    scheduler_config: str | None

    @classmethod
    def of(cls, names: Collection[str]) -> Layout:
        """The layout of a model with these files: that of a DDPMPipeline, or the flat one.

        Raises:
            ValueError: a file is missing, or the only weights are pickled.
        """
        folder = "" if "config.json" in names and not any(name.startswith("unet/") for name in names) else "unet/"
        index = None if not folder and "model_index.json" not in names else "model_index.json"
        schedulers = [f"{f}scheduler_config.json" for f in (("", "scheduler/") if not folder else ("scheduler/",))]
        scheduler = next((name for name in schedulers if name in names), schedulers[0] if folder else None)
        layout = cls(index, f"{folder}config.json", f"{folder}{WEIGHTS}", scheduler)
        for part in (layout.index, layout.unet_config, layout.scheduler_config):
            if part is not None and part not in names:
                raise ValueError(f"no {part}; a DDPMPipeline directory as train.py writes it is needed")
        if layout.weights not in names:
            pickles = sorted(name for name in names if name.startswith(folder) and name.endswith(PICKLES))
            if pickles:
                raise ValueError(
                    f"no {layout.weights}, only {', '.join(pickles[:3])}: pickled weights can run code, so they are "
                    "not read; somebody who trusts them must convert them to safetensors"
                )
            raise ValueError(f"no {layout.weights}; other formats are not read")
        return layout


def read_configs(directory: Path, layout: Layout, where: str) -> tuple[dict[str, Any], DDPMScheduler]:
    """The network's configuration and the scheduler, checked. This needs no weights, so it can precede their download.

    Args:
        where: what messages call the model.
    Raises:
        ValueError: the files are damaged, or this project cannot compute with such a model.
    """
    try:
        index = read_json(directory, layout.index) if layout.index else None
        unet = read_json(directory, layout.unet_config)
        scheduler = read_json(directory, layout.scheduler_config) if layout.scheduler_config else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if index is not None:
        _check_index(index, where)
    if scheduler is None:
        log.warning("%s: no scheduler_config.json; the paper's betas are assumed, 1e-4 to 0.02 in 1000 steps", where)
        scheduler = dict(DDPMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02).config)
        scheduler["_class_name"] = "DDPMScheduler"
    _check_network(Settings(where, unet))
    _check_scheduler(Settings(where, scheduler))
    _check_embedding(Settings(where, unet), scheduler.get("num_train_timesteps", 1000))
    try:
        made = DDPMScheduler.from_config(scheduler)
        assert isinstance(made, DDPMScheduler)
        NoiseSchedule.from_scheduler(made)
    except Exception as error:  # whatever diffusers raises
        raise ValueError(f"{where}: its scheduler cannot be made ({first_line(error)})") from None
    return unet, made


def check_weights(unet_config: dict[str, Any], size: int, layout: Layout, where: str) -> UNet2DModel:
    """Reject a network that cannot be built, and a file of weights that cannot belong to it, before weights are loaded.

    Args:
        unet_config: as `read_configs` returns it.
        size: bytes in the file of weights.
        where: what messages call the model.
    Returns:
        The network on the meta device, which has shapes but no weights.
    Raises:
        ValueError: the reason; one line.
    """
    pixels = (1, unet_config["in_channels"], *[unet_config["sample_size"]] * 2)
    try:
        with torch.device("meta"), torch.no_grad():
            unet = UNet2DModel.from_config(unet_config)
            assert isinstance(unet, UNet2DModel)
            expected = sum(p.numel() for p in unet.parameters())
            fits = 2 * expected <= size <= 8 * expected + 2**20  # 16 to 64 bits per weight, and a header
            shape = tuple(unet(torch.empty(pixels), torch.zeros(1, dtype=torch.int64)).sample.shape) if fits else pixels
        if shape != pixels:
            raise ValueError(f"it turns {pixels[2]}x{pixels[3]} pixels into {shape[2]}x{shape[3]}")
    except Exception as error:  # whatever diffusers raises for a configuration that makes no network
        raise ValueError(f"{where}: {layout.unet_config} makes no network ({first_line(error)[:200]})") from None
    if not fits:
        raise ValueError(
            f"{where}: {layout.weights} has {size:,} bytes, and the network {expected:,} parameters; they do not "
            "belong together"
        )
    return unet


def read_json(directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not readable as JSON ({first_line(error)[:200]})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name}: a JSON object is needed")
    return content


def _shown(value: object) -> str:
    """A value from a stranger's file, short and in one line."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:100])


def _check_index(index: dict[str, Any], where: str) -> None:
    """Reject pipelines of other kinds, and pipelines that bring code of their own. Raises ValueError."""
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        own = ", with code of its own, which is never run" if isinstance(kind, list) else ""
        raise ValueError(f"{where}: the pipeline is a {_shown(kind)}{own}; a DDPMPipeline is needed")
    parts = {name: part for name, part in index.items() if not name.startswith("_")}
    for name, part in parts.items():
        library = part[0] if isinstance(part, list) and len(part) == 2 else None
        if name not in ("unet", "scheduler") or library != "diffusers":
            raise ValueError(
                f"{where}: the pipeline's {_shown(name)} is {_shown(part)}; only a unet and a scheduler of diffusers "
                "are read"
            )


class Settings:
    """The values of a stranger's JSON file, and what this project requires of them.

    Every method raises a ValueError in one line, which names the model and the value and says what is accepted.
    """

    def __init__(self, where: str, values: dict[str, Any]) -> None:
        self.where, self.values = where, values

    def need(self, ok: bool, message: str) -> None:
        """Require a condition."""
        if not ok:
            raise ValueError(f"{self.where}: {''.join(c if c.isprintable() else '?' for c in message[:300])}")

    def need_class(self, what: str, expected: str) -> None:
        """Require that the file describes this class of diffusers."""
        kind = self.values.get("_class_name")
        self.need(kind == expected, f"the {what} is a {kind}; a {expected} is needed")

    def need_whole(self, name: str, low: int, high: int, default: int | None, accepted: str, of: str = "") -> None:
        """Require a whole number from `low` to `high`; `default` is the value of a file that does not have it."""
        value = self.values.get(name, default)
        self.need(is_whole(value, low, high), f"{name} {value}{of}: {accepted} is needed")

    def need_one_of(self, name: str, accepted: Collection[str], default: str) -> None:
        """Require one of these names; `default` is the value of a file that does not have it."""
        value = self.values.get(name, default)
        self.need(value in accepted, f"{name} {value!r}: one of {', '.join(accepted)} is needed")


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a value is an integer (and no bool) from `low` to `high`."""
    return type(value) is int and low <= value <= high


def _check_network(unet: Settings) -> None:
    """Reject networks that this project cannot compute with, and those too large to build on this machine.

    The limits are far above any real network. Without them, only counting the parameters of a made-up one could exhaust
    the memory.
    """
    unet.need_class("network", "UNet2DModel")
    unet.need_whole("sample_size", 1, MAX_RESOLUTION, None, f"a square of 1 to {MAX_RESOLUTION} pixels")
    channels = (unet.values.get("in_channels"), unet.values.get("out_channels"))
    unet.need(channels in ((1, 1), (3, 3)), f"in and out channels {channels}: 1 or 3, both the same, are needed")
    labels = unet.values.get("num_class_embeds") or unet.values.get("class_embed_type")
    unet.need(not labels, "the network needs class labels; an unconditional one is needed")
    unknown = sorted(key for key in unet.values if not key.startswith("_") and key not in UNET_SETTINGS)
    names = ", ".join(unknown[:3])
    unet.need(not unknown, f"the network's configuration has {names}, which a UNet2DModel does not know")
    unet.need_whole("downsample_padding", 0, 1, 1, "0 or 1")
    widths = unet.values.get("block_out_channels", [])
    unet.need(
        isinstance(widths, list) and len(widths) <= 12 and all(is_whole(w, 1, 8192) for w in widths),
        f"block_out_channels {widths}: at most 12 widths of at most 8192 are read",
    )
    unet.need_whole("layers_per_block", 1, 32, 2, "1 to 32")


def _check_scheduler(scheduler: Settings) -> None:
    """Reject schedulers whose steps this project does not compute."""
    scheduler.need_class("scheduler", "DDPMScheduler")
    scheduler.need_whole("num_train_timesteps", 2, MAX_TIMESTEPS, 1000, f"2 to {MAX_TIMESTEPS}")
    scheduler.need_one_of("prediction_type", PREDICTION_TYPES, "epsilon")
    scheduler.need_one_of("variance_type", VARIANCE_TYPES, "fixed_small")
    scheduler.need_one_of("timestep_spacing", SPACINGS, "leading")
    betas, steps = scheduler.values.get("trained_betas"), scheduler.values.get("num_train_timesteps", 1000)
    scheduler.need(
        betas is None or (isinstance(betas, list) and len(betas) == steps),
        f"trained_betas: as many as num_train_timesteps, {steps}, are needed",
    )
    scheduler.need(not scheduler.values.get("thresholding"), "the scheduler thresholds x_0, which is not computed here")


def _check_embedding(unet: Settings, num_train_timesteps: int) -> None:
    """Reject a network with a learned embedding for each timestep that has fewer of them than the scheduler."""
    if unet.values.get("time_embedding_type") == "learned":
        accepted = f"{num_train_timesteps} to {MAX_TIMESTEPS}"
        unet.need_whole("num_train_timesteps", num_train_timesteps, MAX_TIMESTEPS, None, accepted, " of the network")
