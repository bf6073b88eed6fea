"""metrics.jsonl: one JSON object a line. Imports nothing heavy: a push reads it, too."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def to_lines(rows: Iterable[dict[str, Any]]) -> str:
    """The text of rows, which `read_metrics` reads."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl, which all have a kind and a step; empty where there is no file.

    A last line that a crash cut off is left out, and in other people's files whatever is no row.

    Raises:
        ValueError: it is no text, or nested without end.
    """
    rows: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except RecursionError:
                raise ValueError(f"{path.name} is nested too deeply") from None
            except ValueError:
                break
            if isinstance(row, dict) and isinstance(row.get("kind"), str) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows
