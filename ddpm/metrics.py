"""metrics.jsonl: one JSON object per line. Importing this loads nothing heavy."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ddpm.files import write_text

log = logging.getLogger(__name__)

SHOWN = ("train_loss_ema", "loss_gap_se", "val_bits", "val_loss_ema_with_labels")  # in training.png, if they are there
FEW_IMAGES = 500  # to train on; with fewer, samples are mostly copies of them
GAP = 3.0  # standard errors, of which the difference between two means exceeds so many by chance in 1 case of 700


def to_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as the text that `read_metrics` reads."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, each with a kind and a step; no rows if there is no file.

    A line that is not JSON is skipped, and a warning names it: a crash or a full disk may have cut it off. If another
    row was appended to such a line, that row is kept. In other people's files, lines of JSON that are not such rows are
    ignored.
    """
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    if path.is_file():
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                bad.append(number)
                row = _appended(line)
            if isinstance(row, dict) and isinstance(row.get("kind"), str) and isinstance(row.get("step"), int):
                rows.append(row)
    if bad:
        which = f"line {bad[0]} is" if len(bad) == 1 else f"{len(bad)} lines, the first of them line {bad[0]}, are"
        log.warning("%s: %s not JSON and skipped; all other rows are kept", path, which)
    return rows


def commonest_class(names: Sequence[str], rows: Iterable[dict[str, Any]]) -> int | None:
    """The number of the class that a model draws most, if it stands out: if, in the last evaluation of the model, more
    samples show it than twice an equal share. None if no class does, or if nothing was measured.

    Args:
        names: of the model's classes.
        rows: of its metrics.jsonl.
    """
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    shares = evaluations[-1].get("sample_class_shares") if evaluations else None
    if not isinstance(shares, dict):
        return None
    known = {name: share for name, share in shares.items() if name in names and isinstance(share, float)}
    most = max(known, key=known.__getitem__, default=None)
    return names.index(most) if most is not None and known[most] > 2 / len(names) else None


def _appended(line: bytes) -> Any:
    """The row that was appended to a line that had been cut off, or None."""
    start = line.rfind(b'{"kind"')
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line[start:]) if start > 0 else None
    return None


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a row has the numbers that a training writes into it, from which its pictures are drawn."""
    if row["kind"] == "train":
        parts = row.get("loss_by_decile", [])
        numbers = [row.get("loss", ""), *(parts if isinstance(parts, list) and len(parts) in (0, 10) else [""])]
    elif row["kind"] == "validation":
        numbers = [row.get("val_loss", ""), row.get("val_loss_ema", ""), *(row[name] for name in SHOWN if name in row)]
        numbers = ["" if number is None else number for number in numbers]
    else:
        numbers = []
    return all(number is None or type(number) in (int, float) for number in numbers)


def memorises(row: dict[str, Any]) -> bool:
    """Whether a network had begun to memorise its training images, by a row of validation: the loss of the averaged
    weights on held-out images was larger than on training images by more than GAP standard errors of the difference.

    Between other images of the same kind, so large a difference is due to chance in one case of 700.
    """
    if row.get("train_loss_ema") is None or row.get("loss_gap_se") is None:
        return False  # it is of an earlier version, or there were too few images to tell
    return row["val_loss_ema"] - row["train_loss_ema"] > GAP * row["loss_gap_se"]


class MetricsLog:
    """Writes metrics.jsonl in the order of steps. After a restart no row is missing and none comes twice.

    Args:
        resumed_step: the step from which a run is resumed; rows of later steps are dropped, since it does them again.
        cadence: steps between rows, by kind. The row at `resumed_step` is dropped if it is off this schedule: it was
            written because the run ended there.
    Attributes:
        rows: all rows, those included that could not be written yet.
        waiting: how many of them are not in the file yet.
    Raises:
        OSError: the file cannot be written; an earlier one is unchanged.
    """

    def __init__(self, path: Path, resumed_step: int = 0, cadence: dict[str, int] | None = None) -> None:
        self.path, self.waiting, self._size = path, 0, 0
        found = read_metrics(path)
        whole = [row for row in found if _is_whole(row)]
        if left := len(found) - len(whole):
            log.warning("%s: rows without the numbers of their kind are left out: %d of %d", path, left, len(found))
        self.rows = [
            row
            for row in whole
            if row["step"] < resumed_step
            or (row["step"] == resumed_step and row["step"] % (cadence or {}).get(row["kind"], 1) == 0)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()

    def append(self, row: dict[str, Any]) -> None:
        """Add a row. Its floats are rounded to 6 significant digits.

        Raises:
            OSError: the file cannot be written. The row is kept, and the next call of `append` or `flush` writes it.
        """
        self.rows.append({k: _short(v) for k, v in row.items()})
        self.waiting += 1
        self.flush()

    def flush(self) -> None:
        """Write the rows that are not in the file yet. Raises as `append`."""
        if not self.waiting:
            return
        lines = to_lines(self.rows[-self.waiting :]).encode()
        try:
            with open(self.path, "r+b", buffering=0) as file:
                if file.seek(0, os.SEEK_END) < self._size:  # somebody has cut or emptied it
                    raise FileNotFoundError
                file.truncate(self._size)  # half a row may be there, of a moment when the disk was full
                file.seek(self._size)
                written = 0
                while written < len(lines):  # a disk that fills up takes a part, and only the next call fails
                    written += file.write(lines[written:])
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._rewrite()
            return
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, self._size)
            raise
        self.waiting, self._size = 0, self._size + len(lines)

    def _rewrite(self) -> None:
        text = to_lines(self.rows)
        write_text(self.path, text)
        self.waiting, self._size = 0, len(text.encode())


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
