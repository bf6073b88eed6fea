"""Images of any source, prepared once as a uint8 memory map.

A source is scikit-learn's digits, a dataset of the Hub, or a folder (parquet or images, nested or flat). Preparing
decodes it once, with bounded memory, into `train.u8` and `eval.u8` below a cache folder named by a fingerprint of the
source and the settings. The folder appears by one rename, so an interrupted preparation is never taken for a finished
one; a lock lets the first of several processes prepare while the others wait.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.draws import Purpose, generator
from ddpm.errors import first_line
from ddpm.files import cache_folder

log = logging.getLogger(__name__)

FORMAT = 4  # of the prepared files; raise it when what is written changes
HELD_OUT_OF = 20  # one of so many training images is held out where the source has no split for it: 5 %
EVAL_SPLITS = ("test", "validation", "valid", "val", "dev", "eval")
GRAYSCALE_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")


@dataclass(frozen=True)
class DataOptions:
    """What decides the prepared pixels; the flags of the same names."""

    dataset_name: str = "digits"
    dataset_config_name: str | None = None
    revision: str | None = None
    image_column: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    resolution: int | None = None
    channels: int | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """Prepared data. `train` and `eval` are (N, C, H, W) uint8 memory maps; `fingerprint` is of the pixels.

    `train_labels` and `eval_labels` are (N,) int64, -1 where an image has none, or None where no image of the split has
    one. Only evaluation reads them.
    """

    train: np.ndarray
    eval: np.ndarray
    fingerprint: str
    train_labels: np.ndarray | None = None
    eval_labels: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    source: str | None = None  # digits, folder or hub
    eval_split: str | None = None  # name of the split that `eval` is; None if it was held out of the training split

    @property
    def channels(self) -> int:
        return self.train.shape[1]

    @property
    def resolution(self) -> int:
        return self.train.shape[2]


def to_float(pixels: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 pixels to float32 x_0 in [-1, 1], exactly pixel / 127.5 - 1 (the bins of the bound's L_0 rely on it)."""
    moved = torch.as_tensor(np.require(pixels, requirements="CW") if isinstance(pixels, np.ndarray) else pixels)
    return moved.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1


RESIDENT_SHARE = 0.25  # of a GPU's free memory that the training images may take


def resident(pixels: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """The images on a GPU, moved there once, if they take at most RESIDENT_SHARE of what is free; or as they are."""
    if device.type != "cuda" or pixels.nbytes > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return pixels
    moved = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    for first in range(0, len(pixels), 4096):  # the memory map is never in memory as a whole
        moved[first : first + 4096] = torch.from_numpy(np.array(pixels[first : first + 4096]))
    return moved


def take(pixels: np.ndarray | Tensor, index: np.ndarray) -> np.ndarray | Tensor:
    """The images at (B,) int64 `index`, wherever `resident` has put them."""
    if isinstance(pixels, Tensor):
        return pixels[torch.from_numpy(index).to(pixels.device, non_blocking=True)]
    return pixels[index]


def prepare(options: DataOptions, progress: bool = False) -> Images:
    """The images of `options`, prepared if this was not done before.

    Raises:
        ValueError: in one line what is wrong with the source or the options and what would be right.
    """
    from filelock import FileLock

    source = _source(options)
    key = hashlib.sha256(json.dumps([FORMAT, vars(options), source], sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder() / key
    try:
        if not (folder / "meta.json").is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if not (folder / "meta.json").is_file():
                    _prepare_into(folder, options, source, progress)
        return _open(folder)
    except OSError as error:
        raise ValueError(
            f"cannot prepare {options.dataset_name!r} in {folder.parent}: {error}; is the disk full?"
        ) from error


def _open(folder: Path) -> Images:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    splits = {}
    for split in ("train", "eval"):
        shape = (meta[f"num_{split}"], meta["channels"], meta["resolution"], meta["resolution"])
        splits[split] = np.memmap(folder / f"{split}.u8", np.uint8, mode="r", shape=shape)
        if split in meta["labelled"]:
            splits[f"{split}_labels"] = np.fromfile(folder / f"{split}.labels", np.int64)
    about = {name: meta[name] for name in ("fingerprint", "notes", "eval_split")}
    return Images(**splits, **about, source=meta["source"]["kind"])


# --- where the images come from ---------------------------------------------------------------------------------------


def _source(options: DataOptions) -> dict[str, Any]:
    """What identifies the source's present content: cheap to find out, so that a second start is immediate."""
    name = options.dataset_name
    if name == "digits":
        return {"kind": "digits"}
    path = Path(name).expanduser()
    if path.is_dir():
        listing = hashlib.sha256()
        for file in _files(path):
            stat = file.stat()
            listing.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return {"kind": "folder", "path": str(path.resolve()), "listing": listing.hexdigest()}
    if path.exists():
        raise ValueError(f"dataset {name!r} is a file; a folder of images or parquet files is needed")
    if name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        raise ValueError(f"dataset {name!r}: no such folder, and no name of a Hub dataset like ylecun/mnist")
    return {"kind": "hub", "id": name, "commit": _hub_commit(options)}


def _files(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.relative_to(folder).parts)
    )


def _hub_commit(options: DataOptions) -> str:
    """The commit that the Hub has now; where the Hub cannot be reached, the one prepared last."""
    from huggingface_hub import HfApi

    name = options.dataset_name
    try:
        return HfApi().dataset_info(name, revision=options.revision, timeout=20).sha
    except (
        Exception
    ) as error:  # the client's exceptions have no common base: HTTP, connection, offline, malformed answers
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403, 404) or type(error).__name__ in ("RepositoryNotFoundError", "RevisionNotFoundError"):
            at = f" at revision {options.revision!r}" if options.revision else ""
            raise ValueError(
                f"dataset {name!r}{at}: not on the Hub, or not for this login; check the name, "
                "`hf auth login` for a private one, or give a local folder"
            ) from None
        known = [
            meta["source"]["commit"]
            for path in sorted(cache_folder().glob("*/meta.json"), key=lambda p: p.stat().st_mtime)
            if (meta := json.loads(path.read_text()))["source"].get("id") == name and meta["options"] == vars(options)
        ]
        if not known:
            raise ValueError(f"dataset {name!r}: the Hub cannot be reached ({first_line(error)})") from None
        log.warning("The Hub cannot be reached; using %s as prepared earlier, at commit %s", name, known[-1])
        return known[-1]


def _splits(options: DataOptions, source: dict[str, Any]) -> tuple[Iterable, Iterable | None, str | None, list[str]]:
    """(image, label or None) of the training split and of the held-out one, if the source has one, the name of the
    latter, and notes on what was chosen."""
    if source["kind"] == "digits":
        from sklearn.datasets import load_digits

        # 0 ... 16 in the source
        digits = load_digits()
        rows = [np.uint8(np.round(image * (255 / 16))) for image in digits.images]
        return zip(rows, digits.target.tolist(), strict=True), None, None, ["scikit-learn's digits; held out: 5 %"]
    pictures = _picture_files(Path(source["path"])) if source["kind"] == "folder" else None
    dataset = pictures or _load_dataset(options, source)
    names = list(dataset)
    for flag, wanted in (("train_split", options.train_split), ("eval_split", options.eval_split)):
        if wanted and wanted not in names:
            raise ValueError(f"--{flag} {wanted!r}: {options.dataset_name!r} has {', '.join(names)}")
    train = options.train_split or ("train" if "train" in names else names[0])
    if not options.train_split and train != "train" and len(names) > 1:
        raise ValueError(f"--train_split is needed: {options.dataset_name!r} has {', '.join(names)}")
    held_out = options.eval_split or next((s for s in EVAL_SPLITS if s in names and s != train), None)
    chosen = [dataset[name] if name else None for name in (train, held_out)]
    note = f"training on split {train!r}; held out: {f'split {held_out!r}' if held_out else '5 % of it'}"
    if pictures:
        classes = sorted({row["class"] for rows in pictures.values() for row in rows if row["class"]})
        chosen = [rows and [(row, _number(row["class"], classes)) for row in rows] for rows in chosen]
    else:
        column = _image_column(dataset[train], options)
        label = _label_column(dataset[train])
        chosen = [rows and _rows(rows, column, label) for rows in chosen]
        note += f"; images in column {column!r}"
    return *chosen, held_out, [note]


def _number(name: str | None, classes: list[str]) -> int | None:
    return classes.index(name) if name and len(classes) > 1 else None


def _picture_files(folder: Path) -> dict[str, list[dict[str, str | None]]] | None:
    """Image files below a folder, by split; None where tables lie there, which are the business of `datasets`.

    Only folders named train, test, ... at the top make splits, and only if all images lie in such: `datasets` would
    also read a split out of a class named "test" or a file named "test_1.png", and leave the rest out without a word.
    """
    from PIL import Image

    extensions = Image.registered_extensions()
    files = _files(folder)
    if any(file.suffix in (".parquet", ".arrow", ".tar", ".zip", ".csv", ".json", ".jsonl") for file in files):
        return None
    pictures = [file for file in files if file.suffix.lower() in extensions]
    tops = {file.relative_to(folder).parts[0] for file in pictures}
    depth = int("train" in tops and tops <= {"train", *EVAL_SPLITS})  # of the folders that are splits
    by_split: dict[str, list[dict[str, str | None]]] = {}
    for file in pictures:
        parts = file.relative_to(folder).parts
        row = {"path": str(file), "class": parts[-2] if len(parts) > 1 + depth else None}
        by_split.setdefault(parts[0] if depth else "train", []).append(row)
    return by_split or None


def _load_dataset(options: DataOptions, source: dict[str, Any]):
    import datasets

    datasets.disable_progress_bars()
    try:
        if source["kind"] == "folder":
            if not _files(Path(source["path"])):
                raise ValueError("the folder is empty")
            # Streaming reads the files in place; otherwise datasets would copy them into its own cache first.
            return datasets.load_dataset(source["path"], options.dataset_config_name, streaming=True)
        return datasets.load_dataset(source["id"], options.dataset_config_name, revision=source["commit"])
    except Exception as error:  # datasets raises whatever its readers raise
        raise ValueError(f"dataset {options.dataset_name!r} cannot be read: {first_line(error)}") from error


def _image_column(dataset, options: DataOptions) -> str:
    import datasets

    features = dataset.features or {}
    columns = list(features) or list(next(iter(dataset.take(1)), {}))
    if options.image_column:
        if options.image_column not in columns:
            raise ValueError(f"--image_column {options.image_column!r}: the columns are {', '.join(columns)}")
        return options.image_column
    images = [name for name in columns if isinstance(features.get(name), datasets.Image)]
    # Parquet written without the Hub's metadata still holds {"bytes", "path"} records.
    images = images or [name for name in columns if isinstance(features.get(name), dict) and "bytes" in features[name]]
    if len(images) == 1:
        return images[0]
    problem = f"more than one image column ({', '.join(images)})" if images else "no image column"
    raise ValueError(
        f"dataset {options.dataset_name!r} has {problem}; its columns are {', '.join(columns)}: pass --image_column"
    )


def _label_column(dataset) -> str | None:
    """The first column of class labels, by its type or, where only the type of numbers is known, by its name."""
    import datasets

    features = dataset.features or {}
    typed = [c for c, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    named = [c for c in ("label", "labels") if str(getattr(features.get(c), "dtype", "")).startswith("int")]
    return next(iter(typed + named), None)


def _rows(dataset, column: str, label: str | None) -> Iterator[tuple[dict[str, Any], int | None]]:
    import datasets

    if isinstance((dataset.features or {}).get(column), datasets.Image):
        dataset = dataset.cast_column(column, datasets.Image(decode=False))
    for row in dataset.select_columns([column, label] if label else [column]):
        yield row[column], row.get(label)


# --- from encoded images to pixels ------------------------------------------------------------------------------------


class _ColourFoundError(Exception):
    """A colour image after grayscale ones: prepare again with three channels."""


def _decode(row: Any, channels: int | None, resolution: int | None) -> tuple[np.ndarray | tuple[int, int], bool]:
    """One image as (H, W, C) uint8 with C of its own or as asked, and whether it has colour; only its (width, height)
    where it is not square and `resolution` does not say what to do about it."""
    from PIL import Image, ImageOps

    if isinstance(row, np.ndarray):
        image = Image.fromarray(row)
    elif isinstance(row, dict):
        image = Image.open(io.BytesIO(row["bytes"]) if row.get("bytes") is not None else row["path"])
    else:
        raise TypeError(f"not an image but {type(row).__name__}")
    if resolution is None and image.width != image.height:
        return image.size, False  # refused by the caller: no need to decode it
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("pixels are 32-bit floats, whose range is not known")
    if image.mode == "P" and np.ptp(np.reshape(image.getpalette(), (-1, 3)), axis=1).max() == 0:
        image = image.convert("LA" if "transparency" in image.info else "L")
    colour = image.mode not in GRAYSCALE_MODES
    if image.mode.startswith("I"):  # 16 bits a pixel: convert("L") would clip instead of scaling
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")  # transparent parts show white, as on a page
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if (channels or (3 if colour else 1)) == 3 else "L")
    if resolution and image.size != (resolution, resolution):
        image = ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1), colour


def _name(row: Any, index: int) -> str:
    path = row.get("path") if isinstance(row, dict) else None
    return f"{path} (row {index})" if path else f"row {index}"


class _Writer:
    """Appends decoded images to one or two files, all of one size, and keeps the digest of what was written."""

    def __init__(self, options: DataOptions, channels: int | None) -> None:
        self.options, self.channels, self.resolution = options, channels, options.resolution
        self.digest, self.broken, self.total = hashlib.sha256(), [], 0

    def decoded(self, rows: Iterable, pool: ThreadPoolExecutor) -> Iterator[tuple[bytes, int | None]]:
        """(C, H, W) bytes and label of each usable row, in order, with a bounded number of rows in memory."""

        def attempt(row: Any):
            try:
                return _decode(row, self.channels, self.options.resolution)
            except Exception as error:  # Pillow raises a zoo for damaged files
                return error

        rows, start = iter(rows), 0
        while chunk := list(itertools.islice(rows, 64)):  # photographs are large before they are resized
            results = pool.map(attempt, [row for row, _ in chunk])
            for index, ((row, label), result) in enumerate(zip(chunk, results, strict=True), start):
                self.total += 1
                if isinstance(result, Exception):
                    self.broken.append(f"{_name(row, index)}: {first_line(result)}")
                    continue
                yield self._checked(row, index, *result), label
            start += len(chunk)

    def _checked(self, row: Any, index: int, pixels: np.ndarray, colour: bool) -> bytes:
        if isinstance(pixels, tuple):
            size = "x".join(map(str, pixels))
            raise ValueError(f"{_name(row, index)} is {size}, not square: pass --resolution to crop and resize")
        height, width, channels = pixels.shape
        if self.channels is None:
            self.channels = channels
        if colour and self.channels == 1 and self.options.channels is None:
            raise _ColourFoundError
        if channels < self.channels:  # a grayscale image among colour ones
            pixels = np.repeat(pixels, self.channels, axis=2)
        if self.resolution is None:
            self.resolution = height
        if height != self.resolution:
            raise ValueError(
                f"images of mixed sizes: {_name(row, index)} is {width}x{height}, earlier ones are "
                f"{self.resolution}x{self.resolution}: pass --resolution"
            )
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()


def _prepare_into(folder: Path, options: DataOptions, source: dict[str, Any], progress: bool) -> None:
    for leftover in folder.parent.glob(
        f".{folder.name}-*"
    ):  # of a preparation that was killed; this one holds the lock
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        try:
            _write(temporary, options, source, options.channels, progress)
        except _ColourFoundError:
            _write(temporary, options, source, 3, progress)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, options: DataOptions, source: dict[str, Any], channels: int | None, progress: bool) -> None:
    from tqdm import tqdm

    train_rows, eval_rows, eval_split, notes = _splits(options, source)
    writer, labels = _Writer(options, channels), {"train": array("q"), "eval": array("q")}
    held_out = generator(0, Purpose.HELD_OUT)  # fixed: the same images are held out whatever the seed of a run
    lucky = 0
    with (
        open(folder / "train.u8", "wb") as train_file,
        open(folder / "eval.u8", "wb") as eval_file,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(desc="preparing images", unit=" images", disable=None if progress else True, delay=1) as bar,
    ):
        files = {"train": train_file, "eval": eval_file}

        def put(split: str, pixels: bytes, label: int | None) -> None:
            files[split].write(pixels)
            writer.digest.update(pixels)
            labels[split].append(-1 if label is None else label)
            bar.update()

        for number, (pixels, label) in enumerate(writer.decoded(train_rows, pool)):
            if number % HELD_OUT_OF == 0:
                lucky = number + int(held_out.integers(HELD_OUT_OF))
            put("eval" if eval_rows is None and number == lucky else "train", pixels, label)
        if eval_rows is not None:
            for pixels, label in writer.decoded(eval_rows, pool):
                put("eval", pixels, label)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())

    counts = {split: len(values) for split, values in labels.items()}
    if not counts["train"]:
        why = f"; the first: {writer.broken[0]}" if writer.broken else ""
        raise ValueError(f"dataset {options.dataset_name!r}: none of {writer.total} images is usable{why}")
    if not counts["eval"]:
        raise ValueError(
            f"dataset {options.dataset_name!r}: {counts['train']} images are too few to hold any out; "
            f"at least {HELD_OUT_OF} are needed, or an --eval_split"
        )
    if writer.broken:
        shown = "; ".join(writer.broken[:3]) + ("; ..." if len(writer.broken) > 3 else "")
        notes.append(f"skipped {len(writer.broken)} of {writer.total} images that cannot be read: {shown}")
    labelled = [split for split, values in labels.items() if max(values) >= 0]
    for split in labelled:
        np.array(labels[split], np.int64).tofile(folder / f"{split}.labels")
    meta = {
        "format": FORMAT,
        "labelled": labelled,
        "options": vars(options),
        "source": source,
        "num_train": counts["train"],
        "num_eval": counts["eval"],
        "channels": writer.channels,
        "resolution": writer.resolution,
        "fingerprint": writer.digest.hexdigest(),
        "notes": notes,
        "eval_split": eval_split,
    }
    with open(folder / "meta.json", "w", encoding="utf-8") as file:
        json.dump(meta, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
