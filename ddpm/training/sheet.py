"""Which samples a sample grid shows, and where."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.class_names import NO_LABEL

MAX_COLUMNS = 20  # of classes; more would make the picture wider than a screen
MIN_ROWS = 10  # that a picture may have although the square of as many samples has fewer


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
            num_samples: just so many are shown if there are no classes. If there are some, the rows are filled up; few
                classes get fewer samples, so that the picture is no higher than the square would be, or MIN_ROWS.
        """
        side = round(num_samples**0.5)
        if not num_classes:
            return cls(side, (NO_LABEL,) * num_samples)
        columns = min(num_classes, MAX_COLUMNS)
        rows = max(2, min(-(-num_samples // columns), max(side, MIN_ROWS)))
        return cls(columns, (NO_LABEL,) * columns + tuple(range(columns)) * (rows - 1))
