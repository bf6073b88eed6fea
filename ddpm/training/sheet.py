"""Which samples a sample grid shows, and where."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.classes import NO_LABEL

MAX_COLUMNS = 20


@dataclass(frozen=True)
class Sheet:
    """The places of a sample grid, row by row.

    Attributes:
        columns: places in a row.
        labels: for each place the number of its class, -1 for "no label".
    """

    columns: int
    labels: tuple[int, ...]

    @classmethod
    def of(cls, num_samples: int, num_classes: int) -> Sheet:
        """A square of samples without label; with classes, a row without label above at least one row with a column
        for each class. Of more than MAX_COLUMNS classes, the first ones are shown.

        Args:
            num_samples: at least so many are shown if there are classes, and just so many if there are none.
        """
        if not num_classes:
            return cls(round(num_samples**0.5), (NO_LABEL,) * num_samples)
        columns = min(num_classes, MAX_COLUMNS)
        rows = max(1, -(-num_samples // columns) - 1)
        return cls(columns, (NO_LABEL,) * columns + tuple(range(columns)) * rows)
