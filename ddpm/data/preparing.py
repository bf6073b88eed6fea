"""From a source to files in the cache: train.u8, eval.u8, their labels and groups, and meta.json.

Decoding takes bounded memory. The folder is named after a digest of the source and the options, and it appears by one
rename, so an interrupted preparation is never mistaken for a finished one. A lock lets the first of several processes
prepare while the others wait.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.data import cache
from ddpm.data.cache import FORMAT
from ddpm.data.decoding import Decoded, Encoded, NoRangeError, decode
from ddpm.data.groups import HELD_OUT_OF
from ddpm.data.images import Images
from ddpm.data.labels import Numbering
from ddpm.data.options import DataOptions
from ddpm.data.sources import Rows, Splits, identify, open_splits
from ddpm.data.survey import Survey
from ddpm.data.wording import readable
from ddpm.draws import Purpose, generator
from ddpm.errors import first_line
from ddpm.files import cache_folder, write_synced
from ddpm.names import MAX_RESOLUTION, counted, size_name
from ddpm.threads import physical_cores

log = logging.getLogger(__name__)

CHUNK = 64  # images that are decoded at a time; photographs are large before they are resized


def prepare(options: DataOptions, progress: bool = False, output_dir: Path | None = None) -> Images:
    """The images of `options`. They are prepared if that was not done before.

    Args:
        progress: show a progress bar.
        output_dir: where training writes, which is no data.
    Raises:
        ValueError: one line that says what is wrong with the source or the options, and what would be right.
    """
    source = identify(options, output_dir)
    key = hashlib.sha256(json.dumps([FORMAT, vars(options), source], sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder() / key
    try:
        try:
            return _open_or_prepare(folder, options, source, progress)
        except FileNotFoundError:  # another process has just removed it, because the folder of the images has changed
            return _open_or_prepare(folder, options, source, progress)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "the disk is full; free some space, or" if full else "it must be writable;"
        raise ValueError(
            f"cannot prepare {options.dataset_name!r} in {folder.parent}: {error}; {advice} "
            "name another folder by the environment variable DDPM_CACHE"
        ) from error


def _open_or_prepare(folder: Path, options: DataOptions, source: dict[str, Any], progress: bool) -> Images:
    from filelock import FileLock

    if cache.damage(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if problem := cache.damage(folder):
                if folder.exists():
                    log.warning("The prepared images in %s are damaged (%s); they are prepared again", folder, problem)
                _prepare_into(folder, options, source, progress)
                cache.remove_old(folder, source)
    return Images.open(folder)


class _ColourFoundError(Exception):
    """A colour image came after grayscale ones: everything must be prepared again, with three channels."""


class _RangeFoundError(Exception):
    """The images are floating-point numbers, whose range is known now: everything must be prepared again.

    Attributes:
        range: the values that become black and white.
    """

    def __init__(self, low: float, high: float) -> None:
        self.range = low, high
        super().__init__(f"{low:g} to {high:g}")


class _Decoder:
    """Decodes rows, and makes sure that all images have one size and one number of channels.

    Attributes:
        channels, size: of the images so far; None before the first one, unless the options give them.
        total: rows so far.
        broken: one line for each image that cannot be decoded.
        survey: the values of all images.
    """

    def __init__(
        self,
        options: DataOptions,
        channels: int | None,
        float_range: tuple[float, float] | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.channels, self.size = channels, options.size
        self.total, self.broken, self.survey = 0, [], Survey(options, float_range)
        self._options, self._pool = options, pool

    def images(self, rows: Rows) -> Iterator[tuple[bytes, Any]]:
        """(C, H, W) bytes and the label of each image that can be decoded, in order.

        Raises:
            ValueError: the images do not have one size.
            _ColourFoundError: see there.
        """
        rows, start = iter(rows), 0
        while chunk := list(itertools.islice(rows, CHUNK)):
            results = self._pool.map(self._attempt, [row for row, _ in chunk])
            for index, ((row, label), result) in enumerate(zip(chunk, results, strict=True), start):
                self.total += 1
                if isinstance(result, NoRangeError):
                    self.survey.add_unknown(result)
                if isinstance(result, Exception):
                    unknown = type(result).__name__ == "UnidentifiedImageError"  # whose message repeats the path
                    reason = _kind(row) if unknown else first_line(result)
                    self.broken.append(f"{_name(row, index)}: {reason}")
                else:
                    self.survey.add(result)
                    yield self._uniform(row, index, result.pixels, result.colour), label
            start += len(chunk)

    def _attempt(self, row: Encoded) -> Decoded | Exception:
        try:
            options, float_range = self._options, self.survey.float_range
            colour = options.background_colour
            return decode(row, self.channels, options.size, options.value_range, colour, float_range)
        except Exception as error:  # for damaged files Pillow raises exceptions of many kinds
            return error

    def _uniform(self, row: Encoded, index: int, pixels: np.ndarray, colour: bool) -> bytes:
        """(H, W, C) pixels as (C, H, W) bytes, with as many channels as all images have."""
        height, width, channels = pixels.shape
        if self.channels is None:
            self.channels = channels
        if colour and self.channels == 1 and self._options.channels is None:
            raise _ColourFoundError
        if channels < self.channels:  # a grayscale image among colour ones
            pixels = np.repeat(pixels, self.channels, axis=2)
        if self.size is None:
            if height > MAX_RESOLUTION:
                raise ValueError(
                    f"of {_name(row, index)} the middle square has {width}x{height} pixels: pass --resolution, at most "
                    f"{MAX_RESOLUTION}"
                )
            self.size = height, width
        if (height, width) != self.size:
            raise ValueError(
                f"images of mixed sizes: of {_name(row, index)} the middle square has {width}x{height} pixels, of "
                f"earlier ones {self.size[1]}x{self.size[0]}: pass --resolution"
            )
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()


def _name(row: Encoded, index: int) -> str:
    """What messages call an image."""
    path = row.get("path") if isinstance(row, Mapping) else None
    return f"{readable(str(path))} (row {index})" if path else f"row {index}"


def _kind(row: Encoded) -> str:
    """What is wrong with an image that Pillow does not know."""
    path = str(row.get("path")) if isinstance(row, Mapping) else ""
    if path.lower().endswith((".tif", ".tiff")):
        return "a kind of TIFF that cannot be read; of floating-point numbers, only one channel of 32 bits can"
    return "not an image of a known kind"


class _SplitFile:
    """The pixels of one split, appended to NAME.u8, its labels, and its groups."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.labels, self.groups = name, array("q"), array("q")
        self._folder, self._file = folder, open(folder / f"{name}.u8", "wb")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> _SplitFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.labels)

    def append(self, pixels: bytes, label: int, group: int = -1) -> None:
        self._file.write(pixels)
        self.labels.append(label)
        self.groups.append(group)

    def sync(self) -> None:
        """Return when the pixels are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def save_labels(self) -> bool:
        """Write NAME.labels, unless no image has a label; returns whether it did."""
        if max(self.labels) < 0:
            return False
        write_synced(self._folder / f"{self.name}.labels", np.array(self.labels, np.int64).tobytes())
        return True

    def save_groups(self) -> None:
        """Write NAME.groups."""
        write_synced(self._folder / f"{self.name}.groups", np.array(self.groups, np.int64).tobytes())


def _prepare_into(folder: Path, options: DataOptions, source: dict[str, Any], progress: bool) -> None:
    """Prepare beside `folder`, then rename. The caller holds the lock."""
    cache.remove_leftovers(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    channels, float_range, done = options.channels, None, False
    try:
        while not done:  # at most three times
            try:
                _write(temporary, options, source, channels, float_range, progress)
                done = True
            except _ColourFoundError:
                channels = 3
            except _RangeFoundError as found:
                float_range = found.range
        cache.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path,
    options: DataOptions,
    source: dict[str, Any],
    channels: int | None,
    float_range: tuple[float, float] | None,
    progress: bool,
) -> None:
    """Write all files of a prepared dataset into `folder`.

    Raises:
        ValueError: there are too few images, or as `_Decoder.images`.
        _ColourFoundError, _RangeFoundError: see there.
    """
    from tqdm import tqdm

    splits = open_splits(options, source)
    digest, numbering = hashlib.sha256(), Numbering(splits.label_names, bool(options.label_column))
    with (
        _SplitFile(folder, "train") as train,
        _SplitFile(folder, "eval") as evaluation,
        ThreadPoolExecutor(min(8, physical_cores())) as pool,
        tqdm(desc="preparing images", unit=" images", disable=None if progress else True, delay=1) as bar,
    ):
        decoder = _Decoder(options, channels, float_range, pool)

        def put(file: _SplitFile, pixels: bytes, label: Any, group: int = -1) -> None:
            file.append(pixels, numbering.number(label), group)
            digest.update(pixels)
            bar.update()

        if apart := splits.apart:  # what is known of a row goes with it, because some rows cannot be read
            known = zip(splits.train, apart.held_out.tolist(), apart.groups.tolist(), strict=True)
            rows = ((row, (label, *more)) for (row, label), *more in known)
            for pixels, (label, is_held_out, group) in decoder.images(rows):
                put(evaluation if is_held_out else train, pixels, label, group)
            digest.update(np.packbits(apart.held_out).tobytes())
        else:
            images = decoder.images(splits.train)
            for (pixels, label), is_held_out in zip(images, _every_so_often(splits), strict=False):
                put(evaluation if is_held_out else train, pixels, label)
        for pixels, label in decoder.images(splits.eval or ()):
            put(evaluation, pixels, label)
        for file in (train, evaluation):
            file.sync()
    if decoder.survey.found_range:
        raise _RangeFoundError(*decoder.survey.found_range)
    _check_counts(options, decoder, len(train), len(evaluation))
    label_names = numbering.finish(train.labels, evaluation.labels)
    for file in (train, evaluation) if splits.apart else ():
        file.save_groups()
    notes = [*splits.notes, *decoder.survey.notes()]
    if decoder.broken:
        shown = "; ".join(decoder.broken[:3]) + ("; ..." if len(decoder.broken) > 3 else "")
        notes.append(f"skipped {len(decoder.broken)} of {counted(decoder.total, 'image')}, unreadable: {shown}")
    meta = {
        "format": FORMAT,
        "labelled": [file.name for file in (train, evaluation) if file.save_labels()],
        "grouped": splits.apart is not None,
        "options": vars(options),
        "source": source,
        "num_train": len(train),
        "num_eval": len(evaluation),
        "channels": decoder.channels,
        "resolution": decoder.size and size_name(decoder.size),
        "fingerprint": digest.hexdigest(),
        "notes": notes,
        "eval_split": splits.eval_split,
        "label_names": label_names,  # JSON turns the numbers into text
    }
    with open(folder / "meta.json", "w", encoding="utf-8") as file:
        json.dump(meta, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _every_so_often(splits: Splits) -> Iterator[bool]:
    """Whether the next image of the training split is held out: one at random of each HELD_OUT_OF in a row, if there is
    no held-out split. The seed is 0, so that they are the same whatever the seed of a run."""
    draw = generator(0, Purpose.HELD_OUT)
    while True:
        held_out = int(draw.integers(HELD_OUT_OF))
        yield from (splits.eval is None and place == held_out for place in range(HELD_OUT_OF))


def _check_counts(options: DataOptions, decoder: _Decoder, num_train: int, num_eval: int) -> None:
    """Reject a dataset with too few images.

    Raises:
        ValueError: there is no image to train on, or none to hold out.
    """
    decoder.survey.check()
    why = f"; the first: {decoder.broken[0]}{decoder.survey.advice()}" if decoder.broken else ""
    if not num_train:
        raise ValueError(f"dataset {options.dataset_name!r}: none of {counted(decoder.total, 'image')} is usable{why}")
    if not num_eval:
        skipped = f" ({len(decoder.broken)} more cannot be read{why})" if decoder.broken else ""
        raise ValueError(
            f"dataset {options.dataset_name!r}: {counted(num_train, 'image')}{skipped}, too few to hold any out; "
            f"at least {HELD_OUT_OF} are needed, or an --eval_split"
        )
