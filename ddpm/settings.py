"""The values of a stranger's JSON file, and what this project requires of them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ddpm.errors import first_line

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


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

    def need_positive(self, name: str, default: float) -> None:
        """Require a finite number above 0; `default` is the value of a file that does not have it."""
        value = self.values.get(name, default)
        ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
        self.need(ok, f"{name} {value}: a finite number above 0 is needed")

    def need_one_of(self, name: str, accepted: Collection[Any], default: object, why: str = "") -> None:
        """Require one of these values; `default` is the value of a file that does not have it.

        Args:
            why: ends the message where the value itself says too little.
        """
        value = self.values.get(name, default)
        ok = any(type(value) is type(choice) and value == choice for choice in accepted)
        choices = ", ".join(str(choice) for choice in accepted)
        needed = f"one of {choices}" if len(accepted) > 1 else choices
        self.need(ok, f"{name} {value!r}: {needed} is needed{why}")


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a value is an integer (and no bool) from `low` to `high`."""
    return type(value) is int and low <= value <= high


def shown(value: object) -> str:
    """A value from a stranger's file, short and in one line."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:100])


def read_json(directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    refuse_lfs_pointer(directory, name)
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not readable as JSON ({first_line(error)[:200]})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name}: a JSON object is needed")
    return content


def refuse_lfs_pointer(directory: Path, name: str) -> None:
    """Reject the small text file that a clone without Git LFS has in the place of a large one.

    Raises:
        ValueError: the file is such a pointer. If it cannot be read, whoever reads it next reports that.
    """
    try:
        with open(directory / name, "rb") as file:
            pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return
    if pointer:
        raise ValueError(f"{name} is a Git LFS pointer, not the file itself: run `git lfs pull` in the clone")
