"""What visitors ask for on the tab "Labels": rows with one label at several guidance scales, from the same noise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ddpm.class_names import Named
from ddpm.metrics import commonest_class
from ddpm.ui.server.requests import SampleRequest, check_label, no_such_label

SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)  # s of each row
STEPS = 25  # of DDIM without fresh noise: the rows differ in nothing but s
IMAGES = 4  # pictures in a row at first, and ...
MAX_IMAGES = 6  # ... at most
SEED = 1  # of their noise at first
FIRST_CLASS = 3  # the class of the stored example, if there are so many and none stands out


@dataclass(frozen=True)
class GuidedRow(SampleRequest):
    """One row: pictures with one label and one s, whose eps_0 and eps_c are kept beside them."""

    @property
    def key(self) -> str:
        return f"guided-{super().key}"


def check_guided(raw: object, num_steps: int, max_images: int, classes: Named | None) -> list[GuidedRow]:
    """The rows that a visitor asks for, one for each of SCALES. Without a label they are all the same.

    Args:
        raw: from the browser: `label`, the number of a class or -1, `num_images` of each row, and `seed`.
    Raises:
        InputError: a value is missing or out of range, or the model has no labels; the error states what is accepted.
    """
    raw = raw if isinstance(raw, dict) else {}
    if classes is None:
        raise no_such_label(raw.get("label"), classes)
    check_label(raw.get("label"), classes)
    fixed = {"sampler": "ddim", "num_inference_steps": min(STEPS, num_steps)}
    asked = {name: raw.get(name) for name in ("label", "num_images", "seed")}
    most = most_images(max_images)
    checked = [SampleRequest.check({**asked, **fixed, "guidance_scale": s}, num_steps, most, classes) for s in SCALES]
    return [GuidedRow(**row.as_json()) for row in checked]


def most_images(max_images: int) -> int:
    """How many pictures a row may have, where one sampling of another tab may have `max_images`."""
    return max(1, min(MAX_IMAGES, max_images // 2))


def first_class(classes: Named, metrics: Iterable[dict[str, Any]]) -> int:
    """The class that the page shows at first.

    Args:
        metrics: the rows of the model's metrics.jsonl.
    """
    commonest = commonest_class(classes.names, metrics)
    return min(FIRST_CLASS, len(classes) - 1) if commonest is None else commonest
