"""metrics.jsonl: one JSON object a line. Importing this module loads nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddpm.files import write_text


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


class MetricsLog:
    """metrics.jsonl: one JSON object a line, in the order of steps, without gap or double row after a restart.

    Args:
        resumed_step: later rows are of work that a resumed run does again, and are dropped.
        cadence: steps between rows, by kind; a row off it at `resumed_step` marked the run's end there, and is dropped.
    """

    def __init__(self, path: Path, resumed_step: int = 0, cadence: dict[str, int] | None = None) -> None:
        self.path = path
        self.rows = [
            row
            for row in read_metrics(path)
            if row["step"] < resumed_step
            or (row["step"] == resumed_step and row["step"] % (cadence or {}).get(row["kind"], 1) == 0)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, to_lines(self.rows))

    def append(self, row: dict[str, Any]) -> None:
        """Add a row, its numbers to 6 digits."""
        row = {k: _short(v) for k, v in row.items()}
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(to_lines([row]))


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
