"""The files of a model directory: which ones there must be, and which values in them this project can compute with.

Everything here is known before weights are loaded or downloaded, and nothing here runs code from a model.
"""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel

from ddpm import variance
from ddpm.class_names import FILES as LABEL_FILES
from ddpm.classes import MAX_CLASSES
from ddpm.errors import first_line
from ddpm.names import LEARNED_VARIANCES, MAX_RESOLUTION, MAX_TIMESTEPS, VARIANCE_TYPES
from ddpm.schedule import NoiseSchedule
from ddpm.scheduler_files import read_scheduler
from ddpm.settings import Settings, is_whole, read_json, refuse_lfs_pointer, shown

log = logging.getLogger(__name__)

STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
HALVES = ("fp16", "bf16")  # half precision in the names of files, as `save_pretrained(..., variant="fp16")` writes them
SHARD = re.compile(rf"{STEM}(?:\.(\w+))?-(\d{{5}})-of-(\d{{5}})\.safetensors")
PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")  # their networks draw pixels; an LDMPipeline's, latents
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack")
UNET_SETTINGS = set(inspect.signature(UNet2DModel.__init__).parameters) - {"self"}
SMALL = 1024  # bytes; a file of weights is larger, and a Git LFS pointer smaller


@dataclass(frozen=True)
class Layout:
    """The files that a model consists of, relative to its directory.

    An older, flat layout has config.json beside the weights; it may have no index and no scheduler_config.

    Attributes:
        weights: one file, or the shards in which it was saved.
        shards: the file that says which weight is in which shard; None if there are none.
        variant: None, or one of HALVES: the weights are in half precision, by the names of their files.
        unread: what else lies there that looks like weights, each with the reason why it is not read.
        labels: the files of the classes of a class-conditional model, see `ddpm.classes`; none of any other.
        variance: the file of `ddpm.variance`, if there is one.
    """

    index: str | None
    unet_config: str
    scheduler_config: str | None
    weights: tuple[str, ...]
    shards: str | None = None
    variant: str | None = None
    unread: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    variance: str | None = None

    @classmethod
    def of(cls, names: Collection[str], model: str) -> Layout:
        """The layout of a model with these files: that of a DDPMPipeline, or the flat one.

        Args:
            model: the directory or the name on the Hub, for the line of code that converts pickled weights.
        Raises:
            ValueError: a file is missing, or the only weights are pickled.
        """
        folder = "" if "config.json" in names and not any(name.startswith("unet/") for name in names) else "unet/"
        index = None if not folder and "model_index.json" not in names else "model_index.json"
        schedulers = [f"{f}scheduler_config.json" for f in (("", "scheduler/") if not folder else ("scheduler/",))]
        scheduler = next((name for name in schedulers if name in names), schedulers[0] if folder else None)
        for part in (index, f"{folder}config.json", scheduler):
            if part is not None and part not in names:
                raise ValueError(f"no {part}; a DDPMPipeline directory as train.py writes it is needed")
        for variant in (None, *HALVES):
            weights, shards = _weights_of(names, folder, variant)
            if weights:
                unread = tuple(_unread(names, folder, {*weights, shards}))
                labels = tuple(name for name in LABEL_FILES if name in names)
                more = variance.FILE if variance.FILE in names else None
                return cls(index, f"{folder}config.json", scheduler, weights, shards, variant, unread, labels, more)
        raise ValueError(_without_weights(names, folder, model))

    @property
    def small(self) -> tuple[str, ...]:
        """The JSON files that decide whether the weights are read at all."""
        return tuple(filter(None, (self.index, self.unet_config, self.scheduler_config, self.shards, self.variance)))

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the model."""
        return (*self.small, *self.weights, *self.labels)


def _weights_of(names: Collection[str], folder: str, variant: str | None) -> tuple[tuple[str, ...], str | None]:
    """The files with the weights of a variant, and the index of its shards; nothing if they are not complete.

    Where both are there, diffusers reads the shards, and so does this project.
    """
    dotted = f".{variant}" if variant else ""
    index = f"{folder}{WEIGHTS}.index{dotted}.json"
    if index in names:
        shards = _shards(names, folder, variant)
        if shards and len(shards) == int(shards[0][-17:-12]):
            return tuple(shards), index
        return (), None
    single = f"{folder}{STEM}{dotted}.safetensors"
    return ((single,), None) if single in names else ((), None)


def _shards(names: Iterable[str], folder: str, variant: str | None) -> list[str]:
    """The shards of a variant, in order."""
    found = [(name, SHARD.fullmatch(name.removeprefix(folder))) for name in names if name.startswith(folder)]
    return sorted(name for name, match in found if match and match[1] == variant)


def _unread(names: Iterable[str], folder: str, read: Collection[str | None]) -> list[str]:
    """What lies beside the weights that are read, each with the reason why it is not."""
    reasons = []
    for name in sorted(names):
        inside = name.startswith(folder) and "/" not in name.removeprefix(folder)
        if name in read or not inside:
            continue
        bare = name.removeprefix(folder)
        shard = SHARD.fullmatch(bare)
        if any(f".{half}" in bare for half in HALVES) and ".safetensors" in bare:
            reasons.append(f"{name} (half precision, beside the full weights)")
        elif shard:
            reasons.append(f"{name} (a shard)")
        elif bare.endswith(".safetensors"):
            reasons.append(f"{name} ({'one file, beside shards' if bare == WEIGHTS else 'another name'})")
        elif bare.endswith(PICKLES):
            reasons.append(f"{name} (pickled)")
    return reasons


def _without_weights(names: Collection[str], folder: str, model: str) -> str:
    """Why there are no weights to read, by what lies in their place."""
    for variant in (None, *HALVES):
        index = f"{folder}{WEIGHTS}.index{f'.{variant}' if variant else ''}.json"
        shards = _shards(names, folder, variant)
        if index in names or shards:
            total = shards[0][-17:-12].lstrip("0") if shards else "all"
            lacking = "" if index in names else f", and no {index}"
            return f"the weights are sharded and incomplete: {len(shards)} of {total} shards are there{lacking}"
    pickles = sorted(name for name in names if name.startswith(folder) and name.endswith(PICKLES))
    if f"{folder}{STEM}.bin" in pickles:
        if Path(model).is_dir():
            place = f'"{model}", subfolder="unet"' if folder else f'"{model}"'
            line = f'UNet2DModel.from_pretrained({place}, use_safetensors=False).save_pretrained("{model}/{folder}")'
        else:
            line = f'DDPMPipeline.from_pretrained("{model}", use_safetensors=False).save_pretrained("converted")'
        how = f"whoever trusts them converts them with diffusers: {line}"
    else:
        how = "somebody who trusts them must convert them to safetensors"
    if pickles:
        few = ", ".join(pickles[:3])
        return f"no {folder}{WEIGHTS}, only {few}: pickled weights can run code, so they are not read; {how}"
    others = [reason.replace(", beside the full weights", "") for reason in _unread(names, folder, ())]
    return f"no {folder}{WEIGHTS}; other formats are not read" + (f": {', '.join(others[:3])}" if others else "")


def read_configs(
    directory: Path, layout: Layout, where: str, tell: bool = True
) -> tuple[dict[str, Any], DDPMScheduler, float | None]:
    """The network's configuration, the scheduler and what variance.json says (see `ddpm.variance.read`), checked.

    This needs no weights, so it can precede their download.

    Args:
        where: what messages call the model.
        tell: log what is assumed, or not taken over.
    Raises:
        ValueError: the files are damaged, or this project cannot compute with such a model.
    """
    try:
        index = read_json(directory, layout.index) if layout.index else None
        unet = read_json(directory, layout.unet_config)
        scheduler = read_json(directory, layout.scheduler_config) if layout.scheduler_config else None
        if layout.shards:
            _check_shards(read_json(directory, layout.shards), layout)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if index is not None:
        _check_index(index, where)
    if scheduler is None:
        if tell:
            assumed = "the paper's betas are assumed, 1e-4 to 0.02 in 1000 steps"
            log.warning("%s: no scheduler_config.json; %s", where, assumed)
        scheduler = dict(DDPMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02).config)
        scheduler["_class_name"] = "DDPMScheduler"
    if isinstance(size := unet.get("sample_size"), list) and len(size) == 2 and size[0] == size[1]:
        unet["sample_size"] = size[0]  # a square in the other way that diffusers has to write one
    _check_network(Settings(where, unet))
    made = read_scheduler(where, scheduler, tell)
    _check_embedding(Settings(where, unet), made.config["num_train_timesteps"])
    _check_variance(Settings(where, unet), made.config["variance_type"])
    try:
        return unet, made, variance.read(directory, NoiseSchedule.from_scheduler(made)) if layout.variance else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def check_files(directory: Path, layout: Layout) -> None:
    """Reject links that lead out of a model directory, and what a clone has in the place of large files.

    Raises:
        ValueError: names the file and the reason.
    """
    for name in layout.files:
        if not is_inside(directory / name, directory):
            raise ValueError(
                f"{name} is a link to {(directory / name).resolve()}, out of the model's directory, and is not "
                "followed; copy the file there"
            )
        refuse_lfs_pointer(directory, name)


def is_inside(path: Path, directory: Path) -> bool:
    """Whether a file lies in a model directory after all links.

    The cache of the Hub's client consists of links: from snapshots/<commit> to the blobs of the repository, and from
    there to those that several repositories share. These count as inside.
    """
    root, real = directory.resolve(), path.resolve()
    allowed = [root]
    if root.parent.name == "snapshots" and root.parents[1].name.startswith("models--"):
        allowed += [root.parents[1] / "blobs", root.parents[2] / "blobs"]
    return any(real.is_relative_to(folder) for folder in allowed)


def _check_shards(index: dict[str, Any], layout: Layout) -> None:
    """Reject an index that names other files than the shards that are there. Raises ValueError."""
    places, folder = index.get("weight_map"), layout.shards.rpartition("/")[0] if layout.shards else ""
    named = set(map(str, places.values())) if isinstance(places, dict) else set()
    there = {name.removeprefix(f"{folder}/") for name in layout.weights}
    if named != there or not isinstance(index.get("metadata"), dict):
        odd = ", ".join(map(shown, sorted(named ^ there)[:3])) or "no metadata"
        raise ValueError(f"{layout.shards} and the shards beside it do not belong together ({odd})")


def check_weights(unet_config: dict[str, Any], size: int, layout: Layout, where: str) -> UNet2DModel:
    """Reject a network that cannot be built, and weights that cannot belong to it, before they are loaded.

    Args:
        unet_config: as `read_configs` returns it.
        size: bytes in all files of weights.
        where: what messages call the model.
    Returns:
        The network on the meta device, which has shapes but no weights.
    Raises:
        ValueError: the reason; one line.
    """
    side = unet_config["sample_size"]
    sides = (side, side) if isinstance(side, int) else side
    pixels, expected_shape = ((1, unet_config[f"{way}_channels"], *sides) for way in ("in", "out"))
    try:
        with torch.device("meta"), torch.no_grad():
            unet = UNet2DModel.from_config(unet_config)
            assert isinstance(unet, UNet2DModel)
            expected = sum(p.numel() for p in unet.parameters())
            fits = 2 * expected <= size <= 8 * expected + 2**20  # 16 to 64 bits per weight, and a header
            number = torch.zeros(1, dtype=torch.int64)
            label = number if unet_config.get("num_class_embeds") else None
            shape = tuple(unet(torch.empty(pixels), number, label).sample.shape) if fits else expected_shape
        if shape != expected_shape:
            raise ValueError(f"it turns {pixels[2]}x{pixels[3]} pixels into {shape[2]}x{shape[3]}")
    except Exception as error:  # whatever diffusers raises for a configuration that makes no network
        raise ValueError(f"{where}: {layout.unet_config} makes no network ({first_line(error)[:200]})") from None
    if not fits:
        weights = layout.weights[0] if len(layout.weights) == 1 else f"{len(layout.weights)} shards"
        pointer = "; so small a file may be a Git LFS pointer" if size < SMALL else ""
        raise ValueError(
            f"{where}: {weights} has {size:,} bytes, and the network {expected:,} parameters; they do not belong "
            f"together{pointer}"
        )
    return unet


def _check_index(index: dict[str, Any], where: str) -> None:
    """Reject pipelines of other kinds, and pipelines that bring code of their own. Raises ValueError."""
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        own = ", with code of its own, which is never run" if isinstance(kind, list) else ""
        raise ValueError(f"{where}: the pipeline is a {shown(kind)}{own}; a DDPMPipeline is needed")
    parts = {name: part for name, part in index.items() if not name.startswith("_")}
    for name, part in parts.items():
        library = part[0] if isinstance(part, list) and len(part) == 2 else None
        if name not in ("unet", "scheduler") or library != "diffusers":
            raise ValueError(
                f"{where}: the pipeline's {shown(name)} is {shown(part)}; only a unet and a scheduler of diffusers "
                "are read"
            )


def _check_network(unet: Settings) -> None:
    """Reject networks that this project cannot compute with, and those too large to build on this machine.

    The limits are far above any real network. Without them, only counting the parameters of a made-up one could exhaust
    the memory.
    """
    unet.need_class("network", "UNet2DModel")
    sides = unet.values.get("sample_size")
    sides = sides if isinstance(sides, list) and len(sides) == 2 else [sides]
    unet.need(
        all(is_whole(side, 1, MAX_RESOLUTION) for side in sides),
        f"sample_size {shown(unet.values.get('sample_size'))}: 1 to {MAX_RESOLUTION} pixels, or a height and a width, "
        "is needed",
    )
    channels = (unet.values.get("in_channels"), unet.values.get("out_channels"))
    unet.need(
        channels in ((1, 1), (3, 3), (1, 2), (3, 6)),
        f"in and out channels {channels}: 1 or 3 in are needed, and as many out, or twice as many for a network that "
        "predicts the variance, too",
    )
    kind = unet.values.get("class_embed_type")
    unet.need(
        kind is None,
        f"class_embed_type {kind}: what the network takes for a class is not in its files; null is needed, with "
        "labels.safetensors or num_class_embeds",
    )
    if unet.values.get("num_class_embeds") is not None:
        unet.need_whole("num_class_embeds", 1, MAX_CLASSES, None, f"1 to {MAX_CLASSES}")
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
    for name, default in (("norm_eps", 1e-5), ("mid_block_scale_factor", 1.0)):
        unet.need_positive(name, default)
    for name, value in unet.values.items():  # whatever is computed with it would be NaN
        unet.need(not isinstance(value, float) or math.isfinite(value), f"{name} {value}: a finite number is needed")


def _check_variance(unet: Settings, variance_type: str) -> None:
    """Reject a network whose output does not fit the scheduler's variance."""
    taken, given = unet.values["in_channels"], unet.values["out_channels"]
    learned = variance_type in LEARNED_VARIANCES
    why = "predicts the variance, too" if given == 2 * taken else "predicts no variance"
    needed = VARIANCE_TYPES if learned else LEARNED_VARIANCES
    unet.need(
        learned == (given == 2 * taken),
        f"variance_type {variance_type} of the scheduler: the network, with {given} channels out of {taken}, {why}; "
        f"one of {', '.join(needed)} is needed",
    )


def _check_embedding(unet: Settings, num_train_timesteps: int) -> None:
    """Reject a network with a learned embedding for each timestep that has fewer of them than the scheduler."""
    if unet.values.get("time_embedding_type") == "learned":
        accepted = f"{num_train_timesteps} to {MAX_TIMESTEPS}"
        unet.need_whole("num_train_timesteps", num_train_timesteps, MAX_TIMESTEPS, None, accepted, " of the network")
