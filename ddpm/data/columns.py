"""Which column of a table holds the images, where its type does not tell: by its name and what its first rows hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm.data.cells import open_image
from ddpm.errors import first_line

NAMES = {"image", "images", "img", "imgs", "image_bytes", "image_data", "picture", "photo", "pixels", "pixel_values"}
NAMES |= {"x", "data", "bytes", "content", "png", "jpg", "jpeg", "webp", "npy"}
LOOKED_AT = 16  # rows, for the case that the first ones are empty or damaged
SMALLEST = 8  # pixels: shorter lists in a column of another name are boxes, points or labels


def images_in_columns(dataset: Any, columns: list[str], only_named: bool = False) -> tuple[list[str], str | None]:
    """The columns that may hold the images, by what their first rows hold.

    Args:
        dataset: of the `datasets` library.
        columns: the names of all columns.
        only_named: numbers are images only in a column that is named like images. Tables beside pictures often hold
            token ids and other lists.
    Returns:
        the names of the likeliest columns: those that are named like images come first, then files before lists of
        lists before flat lists. If there are none, why a column that is named like images holds none.
    """
    features = dataset.features or {}
    asked = [name for name in columns if name not in features or _may_hold_images(features[name])]
    if not asked:
        return [], None
    rows = list(dataset.select_columns(asked).take(LOOKED_AT))
    ranks, reasons = {}, {}
    for name in asked:
        named = name.lower() in NAMES
        cells = [row.get(name) for row in rows if row.get(name) is not None]
        rank, reason = _rank(cells, named, only_named)
        if rank is not None:
            ranks[name] = (not named, rank)
        elif named:
            reasons[name] = f"column {name!r} holds no images: {reason}"
    return [name for name in ranks if ranks[name] == min(ranks.values())], next(iter(reasons.values()), None)


def _may_hold_images(kind: Any) -> bool:
    dtype = str(getattr(kind, "dtype", ""))
    is_value = type(kind).__name__ == "Value"
    texts_and_bytes = dtype.removeprefix("large_") in ("binary", "string") or dtype.startswith("fixed_size_binary")
    return texts_and_bytes if is_value else type(kind).__name__ != "ClassLabel"


def _rank(cells: list[Any], named: bool, only_named: bool) -> tuple[int | None, str]:
    """How likely cells are images, 0 is the likeliest; or None, and what the first one is."""
    reason = f"its first {LOOKED_AT} rows are empty; if later ones are not, pass --image_column"
    for number, cell in enumerate(cells):
        try:
            opened = open_image(cell)
        except Exception as error:  # for damaged files Pillow raises exceptions of many kinds
            reason = first_line(error) if number == 0 else reason
            continue
        if not isinstance(opened, np.ndarray) or isinstance(cell, bytes):
            return 0, ""
        flat = not (isinstance(cell, list) and isinstance(cell[0], list)) and str(cell)[:2] != "[["
        large = min(opened.shape[:2]) >= SMALLEST and not (flat and opened.dtype.kind == "f")  # no embedding
        if named or (large and not only_named):
            return 1 + flat, ""
        return None, "its lists are too short"
    return None, reason
