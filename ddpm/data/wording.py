"""Lists and file names in messages about data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names with commas between them. A list longer than `most` is cut, and ends with the number of the rest."""
    names = [readable(name) for name in names]
    if len(names) <= most + 1:  # "and 1 more" would not be shorter
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def readable(name: str) -> str:
    r"""A file name for messages. Bytes that are not UTF-8, which Python keeps as lone surrogates, become "\xca"."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown(name: str | tuple[str, ...]) -> str:
    """A file name, or the parts of one, readable and in quotes."""
    return f"'{readable(name if isinstance(name, str) else '/'.join(name))}'"


def by_ending(endings: Iterable[str], most: int = 8) -> str:
    """Counts by ending, the largest first: "30 .heic, 2 .txt, 1 without ending"."""
    counts = sorted(Counter(endings).items(), key=lambda item: (-item[1], not item[0], item[0]))
    return listed((f"{number} {ending or 'without ending'}" for ending, number in counts), most)
