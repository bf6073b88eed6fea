"""Groups of images that belong together, such as one emoji in five skin tones: none is trained on in part and held out
in part, because a network that has seen one of them knows the others.

Groups are a column of a table, or they are found in the names of files: collections of emoji name a picture by the code
points of its emoji, such as "1f44b-1f3fb.png" for a waving hand in a light skin tone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm.draws import Purpose, generator

HELD_OUT_OF = 20  # without a held-out split, one of so many training images is held out: 5 %
LARGEST = 0.1  # of the held-out images: a group that is larger is held out only if there are no others

SKIN_TONES = range(0x1F3FB, 0x1F400)
# Besides skin tones: joiner, emoji style, woman, man, facing right. They make a variant of the emoji before them.
VARIANTS = {*SKIN_TONES, 0x200D, 0xFE0F, 0x2640, 0x2642, 0x27A1}
PERSON, CHILD, HEART, HANDS, KISS = 0x1F9D1, 0x1F9D2, 0x2764, 0x1F91D, 0x1F48B
NEUTRAL = {0x1F468: PERSON, 0x1F469: PERSON, 0x1F466: CHILD, 0x1F467: CHILD}  # man, woman, boy, girl
# Emoji of two people and of two hands have a code point of their own, and are spelled out where the tones differ.
SPELLED: dict[tuple[int, ...], tuple[int, ...]] = {
    (0x1F46B,): (PERSON, HANDS, PERSON),
    (0x1F46C,): (PERSON, HANDS, PERSON),
    (0x1F46D,): (PERSON, HANDS, PERSON),
    (0x1F48F,): (PERSON, HEART, KISS, PERSON),
    (0x1F491,): (PERSON, HEART, PERSON),
    (HANDS,): (0x1FAF1, 0x1FAF2),
}
# Where emoji and the marks that join them lie: keycaps, signs, symbols, pictures, and tags that spell a region's flag.
EMOJI = ((0x23, 0x39), (0xA9, 0xAE), (0x200D, 0x3299), (0xFE0F, 0xFE0F), (0x1F000, 0x1FAFF), (0xE0020, 0xE007F))
NAME = re.compile(r"(?:.*/)?(?:emoji_)?u?([0-9a-f]{2,6}(?:[-_ ][0-9a-f]{2,6})*)(?:\.[a-z]+)?", re.IGNORECASE)


def base_of(name: str) -> str | None:
    """The emoji of which a picture shows a skin tone, a gender or a direction, by the name of its file.

    Args:
        name: code points in hexadecimal, as Google's, Twitter's and OpenMoji's collections write them, perhaps with
            folders before it and an ending.
    Returns:
        code points, the same for all variants of an emoji; None if the name is not made of code points of emoji.
    """
    found = NAME.fullmatch(name)
    points = [int(part, 16) for part in re.split("[-_ ]", found[1])] if found else []
    if not points or not all(any(low <= point <= high for low, high in EMOJI) for point in points):
        return None
    kept = tuple(NEUTRAL.get(point, point) for point in points if point not in VARIANTS) or tuple(points)
    return "-".join(f"{point:x}" for point in SPELLED.get(kept, kept))


def by_code_points(names: Iterable[str | None]) -> list[str | None] | None:
    """The group of each image by the name of its file; None unless the names are those of a collection of emoji.

    Names of whole numbers may look like code points. So nearly all names must be emoji, some of them in skin tones.
    """
    names = list(names)
    groups = [base_of(name) if name else None for name in names]
    tones = {f"{tone:x}" for tone in SKIN_TONES}
    toned = sum(not tones.isdisjoint(re.split("[-_ .]", name.lower())) for name in names if name)
    return groups if toned and sum(group is not None for group in groups) >= 0.9 * len(groups) else None


def as_group(cell: Any) -> str | None:
    """A cell of a table as the name of a group; None if it is empty."""
    text = "" if cell is None or cell != cell else str(cell).strip()
    return text or None


@dataclass(frozen=True, eq=False)
class Apart:
    """Which images are held out, whole groups of them.

    Attributes:
        held_out: (N,) bool.
        groups: (N,) int64, equal for images that belong together, -1 for an image that belongs to no group.
    """

    held_out: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str | None]) -> Apart | None:
        """Hold out about one image of HELD_OUT_OF.

        Args:
            names: the group of each image; None for one that belongs to no group.
        Returns:
            None if no two images belong together, or all of them do.
        """
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names)) if name is not None}
        groups = np.array([-1 if name is None else numbers[name] for name in names], np.int64)
        apart = by_itself(groups)
        if not len(groups) > len(np.unique(apart)) > 1:
            return None
        return cls(hold_out(groups, round(len(groups) / HELD_OUT_OF)), groups)


def by_itself(groups: np.ndarray) -> np.ndarray:
    """The same groups, (N,) int64, in which an image that belongs to none, a -1, is a group by itself."""
    return np.where(groups < 0, -2 - np.arange(len(groups)), groups)


def hold_out(groups: np.ndarray, wanted: int) -> np.ndarray:
    """Which images are held out: whole groups, about as many images as wanted, and at least one group.

    Groups are drawn in an order that depends on their number alone. Large groups stay for training, so that no group
    decides the held-out loss by itself.

    Args:
        groups: as in `Apart`.
    Returns:
        (N,) bool.
    """
    _, group, sizes = np.unique(by_itself(groups), return_inverse=True, return_counts=True)
    order = generator(0, Purpose.HELD_OUT).permutation(len(sizes))
    small = order[sizes[order] <= max(1, LARGEST * wanted)]
    if sizes[small].sum() < 2 * wanted:  # so the groups are large in general
        small = order
    held_out, count = np.zeros(len(sizes), bool), 0
    for number in small:
        if abs(count + sizes[number] - wanted) < abs(count - wanted):
            held_out[number] = True
            count += sizes[number]
    if not count:
        held_out[order[sizes[order].argmin()]] = True
    return held_out[group]
