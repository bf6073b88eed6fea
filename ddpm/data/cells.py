"""One image as a source holds it, opened: a file, or what people write into a column of a table instead of a file.

A column may hold the bytes of image files or of .npy files, base64 text, or lists of numbers. What it holds instead is
said in a few words, with what to do about it.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm.data.wording import listed
from ddpm.errors import first_line
from ddpm.settings import LFS_POINTER

if TYPE_CHECKING:
    from PIL.Image import Image

NPY = b"\x93NUMPY"
# How content begins that people store, and that Pillow does not read.
TIFF = "a kind of TIFF that cannot be read; of floating-point numbers, only one channel of 32 bits can"
FOREIGN = {
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
    b"\x80\x03": "a Python pickle, which could run code",
    b"\x80\x04": "a Python pickle, which could run code",
    b"\x80\x05": "a Python pickle, which could run code",
    b"PK\x03\x04": "a .zip or .npz archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "gzip-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"%PDF": "a PDF file",
    b"<svg": "an SVG drawing",
    b"<!doctype html": "a web page, which a failed download leaves",
    b"<html": "a web page, which a failed download leaves",
    b"<?xml": "an XML file",
    b"\x89hdf": "an HDF5 file",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cjxl ": "a JPEG XL picture",
}
MEDIA = re.compile(rb"....ftyp(hei|hev|mif1|msf1|avi[fs])?", re.DOTALL)
HEAD = 64  # bytes that tell what a file is
NUMBERS = re.compile(r"\d+(?:\.\d+)?(?:[\s,;]+\d+(?:\.\d+)?)+")  # such as "218 76 239", as FER2013 has its pixels


def open_image(cell: Any) -> Image | np.ndarray:
    """Open an image. Pillow's images are read no further than to their size.

    Args:
        cell: bytes, text, (nested) lists, an array, or a record with the "bytes" or the "path" of a file.
    Returns:
        an image of Pillow's, or an array of numbers: (H, W) or (H, W, C) with C 1, 3 or 4.
    Raises:
        ValueError: what the cell holds instead, and what to do.
        Exception: whatever Pillow raises for a damaged file.
    """
    from PIL.Image import DecompressionBombError

    try:
        return _opened(cell)
    except DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise ValueError(f"it has {pixels:,} pixels, more than Pillow reads; make it smaller") from None


def what_it_is(beginning: bytes) -> str | None:
    """What content is that Pillow does not read, in words, by its first HEAD bytes; None if that is not known."""
    if beginning.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the file itself: run `git lfs pull` in the clone"
    if found := MEDIA.match(beginning):
        return "a HEIC or AVIF picture" if found[1] else "a video"
    lower = beginning.lstrip().lower()
    return next((name for start, name in FOREIGN.items() if lower.startswith(start.lower())), None)


def what_lies_at(path: str) -> str | None:
    """`what_it_is` of a file; None also if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return what_it_is(file.read(HEAD))
    except OSError:
        return None


def _opened(cell: Any) -> Image | np.ndarray:
    """See `open_image`."""
    if isinstance(cell, Mapping):
        return _from_record(cell)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(cell))
    if isinstance(cell, str):
        return _from_text(cell)
    if isinstance(cell, (list, tuple, np.ndarray)):
        return _from_numbers(cell)
    if cell is None:
        raise ValueError("it is empty")
    raise ValueError(f"it is {type(cell).__name__} {str(cell)[:30]!r}, and no image")


def _from_record(cell: Mapping[str, Any]) -> Image | np.ndarray:
    from PIL import Image, UnidentifiedImageError

    content, path = cell.get("bytes"), cell.get("path")
    if content is not None:
        return _opened(content)
    if path is None:
        if {"bytes", "path"} & set(cell):
            raise ValueError("it is empty")
        raise ValueError(f"it is a record of {listed(cell)}; a record of bytes and path, or bytes alone, are needed")
    if not os.path.isfile(path):
        raise ValueError(
            "it holds only the path of a file, which is not there: store the files' bytes, or pass their folder"
        )
    try:
        return Image.open(path)
    except UnidentifiedImageError:  # whose message repeats the path
        with open(path, "rb") as file:
            beginning = file.read(HEAD)
    if not beginning:
        raise ValueError("it is empty")
    what = what_it_is(beginning)
    raise ValueError(f"not an image of a known kind, but {what}" if what else "not an image of a known kind")


def _from_bytes(content: bytes) -> Image | np.ndarray:
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise ValueError("it is empty")
    if content.startswith(NPY):
        try:
            array = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"it is a .npy file that cannot be read ({first_line(error)})") from None
        return _from_numbers(array)
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        decoded = _decoded_base64(content)
    if decoded:
        return _from_bytes(decoded)
    what = what_it_is(content[:HEAD])
    if what:
        raise ValueError(f"it is {what}{'' if ':' in what else ': store the bytes of PNG or JPEG files instead'}")
    raise ValueError(
        f"it is {len(content)} bytes of no known image format (of raw pixels, the shape is not known): "
        "store the bytes of PNG or JPEG files, or lists of rows"
    )


def _decoded_base64(text: bytes) -> bytes | None:
    """What base64 text of either alphabet stands for; None if it is none, or too short for an image."""
    text = b"".join(text.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        decoded = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) > 24 else None


def _from_text(text: str) -> Image | np.ndarray:
    from PIL import UnidentifiedImageError

    text = text.strip()
    if not text:
        raise ValueError("it is empty")
    if text.startswith("["):
        try:
            return _from_numbers(json.loads(text))
        except json.JSONDecodeError:
            raise ValueError(f"it is the text {text[:30]!r}, and no image") from None
    if NUMBERS.fullmatch(text):
        values = np.array(re.split(r"[\s,;]+", text), np.float64)
        return _from_numbers(values if "." in text else values.astype(np.int64))
    if re.match(r"https?://", text):
        raise ValueError(f"it is the web address {text[:60]!r}: download the pictures, and pass their folder")
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise ValueError(f"it is a data: URI that is not base64 ({head[:30]!r})")
    content = _decoded_base64(text.encode("ascii", "replace"))
    try:
        if content:
            return _from_bytes(content)
    except (ValueError, UnidentifiedImageError):
        pass  # many words are base64, too
    raise ValueError(
        f"it is the text {text[:30]!r}, and no image in base64; if it is the path of a file, pass the folder of the "
        "files, or store their bytes"
    )


def _from_numbers(values: Any) -> np.ndarray:
    """(H, W) or (H, W, C) numbers of lists or of an array of any usual layout."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError("it is lists of different lengths, and no image") from None
    if array.dtype.kind not in "buif":
        if array.dtype.kind in "SO" and array.ndim == 1 and any(isinstance(v, (bytes, dict)) for v in values):
            raise ValueError(f"it is a list of {len(array)} files; each row needs one image")
        raise ValueError("it is lists that hold something else than numbers")
    if not array.size:
        raise ValueError("it is empty")
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 1:
        array = _squared(array)
    if array.ndim == 3:
        array = _channels_last(array)
    elif array.ndim != 2:
        raise ValueError(f"it is numbers of shape {_shape(array)}; (H, W) or (H, W, 3) is needed")
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _squared(array: np.ndarray) -> np.ndarray:
    """A flat list as a square image of one channel."""
    side = math.isqrt(len(array))
    if side * side == len(array):
        return array.reshape(side, side)
    side = math.isqrt(len(array) // 3)
    if 3 * side * side == len(array):
        raise ValueError(
            f"it is a flat list of {len(array)} numbers, {side}x{side} pixels of 3 channels in an unknown order: "
            f"store lists of the shape ({side}, {side}, 3)"
        )
    raise ValueError(f"it is a flat list of {len(array)} numbers, which is no square image: store lists of rows")


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(H, W, C) of either order of the axes. If both are possible, the one with a square image is meant."""
    last, first = [shape in (1, 3, 4) for shape in (array.shape[2], array.shape[0])]
    squares = array.shape[0] == array.shape[1], array.shape[1] == array.shape[2]
    if first and (not last or squares == (False, True)):
        return array.transpose(1, 2, 0)
    if not last:
        raise ValueError(f"it is numbers of shape {_shape(array)}; (H, W), (H, W, 3) or (3, H, W) is needed")
    return array


def _shape(array: np.ndarray) -> str:
    return f"({', '.join(map(str, array.shape))})"
