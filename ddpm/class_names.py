"""The names of a model's classes, without the vectors that tell a network of them (`ddpm.classes`)."""

from __future__ import annotations

from dataclasses import dataclass

NAMES, VECTORS = "labels.json", "labels.safetensors"
FILES = (NAMES, VECTORS)
"""The files of a model's classes."""
NO_LABEL = -1
"""Stands for "no label" among the numbers of classes."""


class Named:
    """Classes by their names.

    Attributes:
        names: of the K classes, all different.
        unlabelled: the name of the class that the network draws where no label is asked for, because it was trained
            with labels only; None for a network that knows "no label".
    """

    names: tuple[str, ...]
    unlabelled: str | None

    def __len__(self) -> int:
        return len(self.names)

    def number(self, name: str | int) -> int:
        """The number of a class by its name, in any case of letters; -1 for "none" and the empty name.

        Raises:
            ValueError: there is no such class; the message lists the names.
        """
        wanted = str(name).strip()
        if wanted in self.names:
            return self.names.index(wanted)
        if wanted.lower() in ("", "none"):
            return NO_LABEL
        lower = [known.strip().lower() for known in self.names]
        if lower.count(wanted.lower()) == 1:
            return lower.index(wanted.lower())
        raise ValueError(f"label {shortened(wanted)!r}: the model knows {self.listed()}, and none for no label")

    def listed(self, most: int = 24) -> str:
        """The names, for messages; a long list is cut and ends with the number of the rest."""
        names = [shortened(name) for name in self.names[:most]]
        return ", ".join(names) + (f" and {len(self) - most} more" if len(self) > most else "")


@dataclass(frozen=True)
class ClassNames(Named):
    """The names alone."""

    names: tuple[str, ...]
    unlabelled: str | None = None


def shortened(text: str) -> str:
    """At most 60 characters of a name, for messages."""
    return text if len(text) <= 60 else f"{text[:57]}..."
