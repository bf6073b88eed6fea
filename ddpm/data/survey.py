"""What the pixel values of a dataset tell: gray stored in colour, values that fill a small part of their range, and the
range of floating-point numbers; and how much of its images is cut off."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ddpm.data.decoding import Decoded, NoRangeError
from ddpm.data.options import DataOptions
from ddpm.names import Size, counted

SMALL_PART = 0.25  # of a range: below it, pictures show hardly any contrast
CUT_OFF = 0.02  # of an image: a smaller share is due to rounding, or nobody misses it
USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))  # ranges of floating-point numbers
KINDS = {255: "8-bit", 65535: "16- or 32-bit"}  # by what becomes white


@dataclass
class _Found:
    """The values of several images: the smallest and largest one, and how many images hold some that are clipped."""

    low: float = math.inf
    high: float = -math.inf
    images: int = 0
    clipped: int = 0

    def add(self, low: float, high: float, black: float = -math.inf, white: float = math.inf) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.images += 1
        self.clipped += low < black or high > white

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass
class Survey:
    """The values of the images of a dataset, added one after another.

    Args:
        options: those of the dataset.
        float_range: the values of floating-point numbers that become black and white, found by an earlier survey.
    Attributes:
        images: how many were added.
        unknown: the values of images that cannot be used, because nothing says which of them are black and white.
    """

    options: DataOptions
    float_range: tuple[float, float] | None = None
    images: int = 0
    unknown: _Found = field(default_factory=_Found)
    _gray: int = 0  # in colour
    _plain: int = 0  # of one channel
    _halved: int = 0
    _several: int = 0
    _whole: bool = False
    _laid: int = 0
    _cut: int = 0
    _lost: float = 0.0  # the largest share of an image that is cut off
    _sizes: set[Size] = field(default_factory=set)
    _floats: _Found = field(default_factory=_Found)
    _found: dict[int, _Found] = field(default_factory=dict)  # by what becomes white

    def add(self, image: Decoded) -> None:
        """Add an image that can be used."""
        values = image.values
        self.images += 1
        self._gray += image.gray
        self._plain += not image.colour
        self._laid += image.laid
        self._halved += values.halved
        self._several += image.several
        self._cut += image.lost > CUT_OFF
        self._lost = max(self._lost, image.lost)
        self._sizes = {*self._sizes, image.size} if len(self._sizes) < 2 else self._sizes
        if values.floats and self.options.value_range is None:
            return self._floats.add(values.low, values.high)
        black, white = self.options.value_range or (0, values.white)
        self._found.setdefault(values.white, _Found()).add(values.low, values.high, black, white)

    def add_unknown(self, error: NoRangeError) -> None:
        """Add an image that cannot be used, because nothing says which of its values are black and white."""
        self.unknown.add(error.low, error.high)
        self._whole |= error.whole

    def check(self) -> None:
        """Reject a dataset of which a part cannot be used, although all of it is of the same kind.

        Raises:
            ValueError: some lists of numbers fit the range of 8 bits, and others do not.
        """
        if self._whole and self.images:
            raise ValueError(
                f"dataset {self.options.dataset_name!r}: {counted(self.unknown.images, 'image')} of "
                f"{self.images + self.unknown.images} {'holds' if self.unknown.images == 1 else 'hold'} integers that "
                f"do not fit 0 to 255{self.advice()}"
            )

    def advice(self) -> str:
        """What to do about images whose range is not known, as the end of a sentence; nothing if there are none."""
        if not self.unknown.images:
            return ""
        return f"; the values are {self.unknown}: pass --value_range {self.unknown.low:g} {self.unknown.high:g}"

    @property
    def found_range(self) -> tuple[float, float] | None:
        """The values that become black and white, of the floating-point numbers that cannot be used without: the first
        usual range of which they fill a good part, or their smallest and largest one. None if there are none, or whole
        numbers among them."""
        if not self.unknown.images or self._whole:
            return None
        low, high = self.unknown.low, self.unknown.high
        fits = ((a, b) for a, b in USUAL if a <= low and high <= b)
        fits = ((a, b) for a, b in fits if high - low >= SMALL_PART * (b - a) or low == high)
        return next(fits, (low, high if high > low else low + 1))

    def notes(self) -> list[str]:
        """What was found, in sentences for the log; warnings begin with "Warning"."""
        notes, given = [], self.options.value_range
        if self._several:
            notes.append(self.about_frames())
        if self._cut:
            notes.append(self._about_cutting())
        if self._floats.images and self.float_range:
            low, high = self.float_range
            notes.append(
                f"the pixel values are floating-point numbers from {self._floats}: {low:g} becomes black and {high:g} "
                "white (--value_range sets another range)"
            )
        if self._laid:
            what = f"{self._laid:,} of {counted(self.images, 'image')} {'is' if self._laid == 1 else 'are'} transparent"
            notes.append(f"{what} in places and laid on {self.options.background} (--background)")
        if given:
            notes.append(f"pixel values from {given[0]:g} (black) to {given[1]:g} (white)")
        for largest, found in sorted(self._found.items()):
            black, white = given or (0, largest)
            kind = f"the {KINDS[largest]} pixel values are {found}"
            part = (found.high - found.low) / (white - black)
            if found.clipped:
                where = f"in {found.clipped} of {counted(self.images, 'image')}"
                advice = "" if given else f"; --value_range {found.low:g} {found.high:g} takes all of them"
                notes.append(
                    f"{'' if given else 'Warning: '}{kind}: those outside of {black:g} to {white:g}, {where}, "
                    f"are clipped{advice}"
                )
            elif part < SMALL_PART and self._halved:
                notes.append(
                    f"Warning: {kind}, a small part of {black:g} to {white:g}; of pictures with 16 bits per channel in "
                    "colour only the upper 8 are read, so convert them to 8 bits"
                )
            elif part < SMALL_PART and found.high > found.low:
                notes.append(
                    f"Warning: {kind}, a small part of {black:g} to {white:g}, so the images have hardly any contrast; "
                    f"--value_range {found.low:g} {found.high:g} makes these values black and white"
                )
        if self._gray and self._gray + self._plain == self.images and self.options.channels is None:
            whose = "all images are gray" if self._plain else "all images are gray, but stored in colour"
            some = f", but {self._gray} of {self.images} are stored in colour" if self._plain else ""
            notes.append(f"{whose}{some}: --channels 1 makes them one channel instead of three")
        return notes

    def about_frames(self) -> str:
        """That files hold several pictures, of which one is taken; empty if none does."""
        if not self._several:
            return ""
        files = f"{self._several:,} of {counted(self.images, 'file')} {'holds' if self._several == 1 else 'hold'}"
        return f"{files} several frames or pages, of which the first is taken"

    def _about_cutting(self) -> str:
        """That images are cut, and what takes them as they are."""
        what = f"{self._cut:,} of {counted(self.images, 'image')}"
        line = f"{what} {'is' if self._cut == 1 else 'are'} cut at the edges, by up to {100 * self._lost:.0f} %"
        if len(self._sizes) > 1:
            return line
        ((height, width),) = self._sizes
        if (wanted := self.options.size) and min(wanted) != min(height, width):  # in steps that networks can halve
            height, width = (max(4, round(side * min(wanted) / min(height, width) / 4) * 4) for side in (height, width))
        return f"{line}: --resolution {height}x{width} (height x width) takes them as they are"
