"""metrics.jsonl: one JSON object per line. Importing this loads nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddpm.files import write_text


def to_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as the text that `read_metrics` reads."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, each with a kind and a step; no rows if there is no file.

    Reading ends at the first line that is not JSON, such as a last line that was cut off by a crash. In other people's
    files, lines that are not such rows are ignored.

    Raises:
        ValueError: the file is not text, or a line is nested too deeply.
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
    """Writes metrics.jsonl in the order of steps. After a restart no row is missing and none comes twice.

    Args:
        resumed_step: the step from which a run is resumed; rows of later steps are dropped, since it does them again.
        cadence: steps between rows, by kind. The row at `resumed_step` is dropped if it is off this schedule: it was
            written because the run ended there.
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
        """Add a row. Its floats are rounded to 6 significant digits."""
        row = {k: _short(v) for k, v in row.items()}
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(to_lines([row]))


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
