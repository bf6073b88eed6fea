"""What decides the prepared pixels."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.names import Colour, Size, colour_name, colour_of, size_name, size_of


@dataclass(frozen=True)
class DataOptions:
    """The options of a dataset: train.py's flags of the same names."""

    dataset_name: str = "digits"
    dataset_config_name: str | None = None
    revision: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    resolution: int | str | None = None
    channels: int | None = None
    value_range: tuple[float, float] | None = None
    background: str | None = None
    group_column: str | None = None

    def __post_init__(self) -> None:
        if self.value_range:  # 0 and 0.0, a list of JSON and a tuple: all name the same prepared images
            low, high = self.value_range
            object.__setattr__(self, "value_range", (float(low), float(high)))
        if self.resolution is not None:
            object.__setattr__(self, "resolution", size_name(size_of(self.resolution)))
        object.__setattr__(self, "background", colour_name(self.background_colour))  # one name for each colour

    @property
    def size(self) -> Size | None:
        """What `resolution` says."""
        return None if self.resolution is None else size_of(self.resolution)

    @property
    def background_colour(self) -> Colour:
        """Red, green and blue of what transparent pictures are laid on, 0 to 255; white by default."""
        return colour_of(self.background or "white")
