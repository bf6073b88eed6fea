"""What the page shows of a model before anything is computed with it.

The facts follow from the files of a model, but only torch and diffusers can derive them (`Service.facts`), which takes
longer to import than the page takes to appear. So those of the embedded models are kept in a file, with a digest of the
files that they follow from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.class_names import FILES, ClassNames
from ddpm.errors import first_line
from ddpm.names import Size
from ddpm.ui.server.examples import ASSETS

log = logging.getLogger(__name__)

KEPT = ASSETS / "facts.json"
SOURCES = (
    *("model_index.json", "unet/config.json", "scheduler/scheduler_config.json", *FILES, "variance.json"),
    "metrics.jsonl",
)
WEIGHTS = "unet/*.safetensors"


@dataclass(frozen=True)
class Facts:
    """What is known of a model without its network.

    Args:
        name: by which requests name the model.
        model: what the page calls it where it is alone.
        directory: the folder of its files.
        num_parameters: of the network.
        height, width, channels: of a picture.
        beta: beta_1 ... beta_T.
        classes: their names; None for a model without labels.
        first_class: the number of the one that the page shows at first; None for a model without labels.
        max_images: at most so many pictures are drawn at once.
        example_size: pictures and steps of the trajectory that is drawn before the first click.
        timesteps: 0-based, at which "What the network sees" shows the predicted noise.
        factor: it shows one pixel out of so many along each side.
        variances: of which the bound can be shown, the model's own first.
        optimal_weights: of the KL terms with the optimal variance, (T,); None if it has not been measured.
        own_schedule: the name of its schedule, "own" if it has none.
        schedules: betas of the others, see `schedules.compared`.
        revision: the commit on the Hub; None for a directory.
        offline: this is the cached copy of a model whose Hub could not be reached.
    """

    name: str
    model: str
    directory: Path
    num_parameters: int
    height: int
    width: int
    channels: int
    beta: list[float]
    classes: ClassNames | None
    first_class: int | None
    max_images: int
    example_size: tuple[int, int]
    timesteps: list[int]
    factor: int
    variances: list[str]
    optimal_weights: list[float] | None
    own_schedule: str
    schedules: dict[str, list[int]]
    revision: str | None = None
    offline: bool = False

    @property
    def size(self) -> Size:
        """Height and width of a picture, in pixels."""
        return self.height, self.width

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a picture."""
        return self.height, self.width, self.channels

    @property
    def resolution(self) -> int:
        """Pixels along the longer side of a picture."""
        return max(self.size)

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.beta)

    @property
    def embedded(self) -> bool:
        """Whether the model comes with this program."""
        return self.directory.parent == ASSETS


def digest_of(directory: Path) -> str:
    """A digest of the files from which the facts of a model follow. Of the weights, only their size counts.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for name in SOURCES:
        path = directory / name
        digest.update(f"{name}\n".encode() + (path.read_bytes() if path.is_file() else b"\n"))
    for path in sorted(directory.glob(WEIGHTS)):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def keep(models: Iterable[Facts], path: Path = KEPT) -> None:
    """Write the facts of models into a file, from which `kept` reads them."""
    written = {}
    for each in models:
        values = {name: value for name, value in vars(each).items() if name not in ("directory", "revision", "offline")}
        values["classes"] = each.classes and dataclasses.asdict(each.classes)
        written[each.name] = {"digest": digest_of(each.directory), "facts": values}
    lines = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in written.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def kept(folder: Path = ASSETS, path: Path = KEPT) -> dict[str, Facts] | None:
    """The facts of all models in a folder, by name; None unless they are known of every one as its files are now."""
    try:
        written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(written, dict):
            raise ValueError(f"{path} holds no models by name")
        there = {index.parent.name for index in folder.glob("*/model_index.json")}
        if there != written.keys():
            raise ValueError(f"{path} is about {sorted(written)}, and there are {sorted(there)}")
        found = {}
        for name, entry in written.items():
            if digest_of(folder / name) != entry["digest"]:
                raise ValueError(f"the files of {name} have changed")
            values = entry["facts"]
            if values["classes"]:
                names = values["classes"]
                values["classes"] = ClassNames(tuple(names["names"]), names["unlabelled"])
            values["example_size"] = tuple(values["example_size"])
            found[name] = Facts(directory=folder / name, **values)
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.info("The page waits for its models, since nothing is known of them: %s", first_line(error))
        return None
