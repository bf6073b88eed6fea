"""What is measured: a model and the images that it is measured on, checked against each other."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ddpm.checkpoint import Checkpoint
from ddpm.class_names import NO_LABEL, shortened
from ddpm.classes import Classes
from ddpm.data import DataOptions, Images, prepare
from ddpm.data.wording import listed
from ddpm.engine import Engine
from ddpm.evaluate.options import EvaluateConfig
from ddpm.names import LEARNED_VARIANCES, VARIANCE_TYPES, counted, size_name
from ddpm.schedule import Errors

log = logging.getLogger("evaluate")

SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Guidance scales at which the samples of a class-conditional model are measured."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, images, and the options of the evaluation."""

    config: EvaluateConfig
    model: Checkpoint
    options: DataOptions
    images: Images

    def engine(self, device: torch.device) -> Engine:
        """The network, computed as the options ask for. Raises as `Checkpoint.engine`."""
        return self.model.engine(device, self.config.precision)

    @property
    def num_images(self) -> int:
        """How many held-out images the bound is computed on."""
        return min(self.config.num_images or len(self.images.eval), len(self.images.eval))

    @property
    def bound_steps(self) -> int:
        """How many timesteps the process has whose bound is computed; T unless the options ask for fewer."""
        return self.config.bound_steps or self.model.schedule.num_steps

    @property
    def num_timesteps(self) -> int:
        """How many timesteps per image the bound is computed from; `bound_steps` if all of them."""
        return self.config.timesteps or self.bound_steps

    @property
    def errors(self) -> Errors | None:
        """The errors of the network that the model knows. They are those of an x_0 that is clipped, and no others."""
        return self.model.errors if self.config.clip_denoised else None

    @property
    def num_inference_steps(self) -> int:
        """How many steps the sampler takes."""
        return self.config.num_inference_steps or self.model.schedule.num_steps

    @property
    def scales(self) -> tuple[float, ...]:
        """The guidance scales at which samples are drawn, each once and in order; none for a model without labels."""
        if not self.model.classes:
            return ()
        compared = self.config.feature_network != "none"
        usual = SCALES if self.model.knows_no_label and compared else (1.0,)
        return tuple(sorted(set(self.config.guidance_scale or usual)))

    @cached_property
    def numbers(self) -> np.ndarray:
        """(K,) int64: for each class of the images, in the order of `Images.classes`, the number that the model knows
        it by; -1 if the model does not know it. A class is found by its name."""
        return np.array([_number(self.model.classes, name) for name in self.images.class_names], np.int64)

    @cached_property
    def held_out_classes(self) -> np.ndarray:
        """(N,) int64: the number of the class of each held-out image; -1 if it has no label that the model knows."""
        place = self.images.class_of(self.images.eval_labels, len(self.images.eval))
        return np.append(self.numbers, NO_LABEL)[place]

    @property
    def images_to_classify(self) -> int:
        """How many held-out images the bound is to find the label of."""
        return min(self.config.classify, int((self.held_out_classes >= 0).sum()))

    @property
    def split(self) -> str:
        """Name of the split that is held out, or "held out" if it is a part of the training split."""
        return self.images.eval_split or "held out"

    @property
    def trained_on_these(self) -> bool:
        """Whether the model was trained on images with exactly these pixels."""
        return self.model.config.get("data", {}).get("fingerprint") == self.images.fingerprint

    @property
    def public_dataset_name(self) -> str:
        """The dataset's name for others: a local copy goes by the name that the model was trained under."""
        return self.model.config["options"]["dataset_name"] if self.trained_on_these else self.options.dataset_name


def find_subject(config: EvaluateConfig, model: Checkpoint, progress: bool) -> Subject:
    """Prepare the images for a model, and check that they fit together.

    Raises:
        ValueError: the images are unknown, cannot be read, have another size, or are too few; or the model has fewer
            timesteps than the options ask for.
    """
    options = _data_options(config, model)
    subject = Subject(config, model, options, prepare(options, progress=progress))
    size, needed = ((*i.size, i.channels) for i in (subject.images, model))
    if size != needed:
        have, want = ("x".join(map(str, s)) for s in (size, needed))
        raise ValueError(
            f"the images of {options.dataset_name!r} are {have}, {model.name} makes {want}: pass "
            f"--resolution {size_name(model.size)} --channels {needed[2]}, or another --dataset_name"
        )
    T = model.schedule.num_steps
    if subject.bound_steps > T:
        raise ValueError(f"--bound_steps {config.bound_steps}: 2 to {T} is needed")
    if config.timesteps >= subject.bound_steps:
        most = subject.bound_steps - 1
        raise ValueError(f"--timesteps {config.timesteps}: 1 to {most} is needed, or 0 to sum all timesteps exactly")
    if subject.num_inference_steps > T:
        raise ValueError(f"--num_inference_steps {subject.num_inference_steps}: 1 to {T} is needed")
    asked, own = config.variance_type, model.schedule.variance_type
    if asked in LEARNED_VARIANCES and asked != own:
        accepted = ", ".join(dict.fromkeys((*VARIANCE_TYPES, own)))
        raise ValueError(f"--variance_type {asked}: the variance of {model.name} is {own}; one of {accepted} is needed")
    _check_labels(subject, progress)
    return subject


def _number(known: Classes | None, name: str) -> int:
    """The number of the class of this name; -1 if there is none."""
    try:
        return known.number(name) if known else NO_LABEL
    except ValueError:
        return NO_LABEL


def _check_labels(subject: Subject, speaks: bool) -> None:
    """Check what the options want of labels, and say which images have none that the model knows.

    Args:
        speaks: whether this process logs.
    Raises:
        ValueError: the model has no labels, or it knows none of those that the images have.
    """
    config, model, images = subject.config, subject.model, subject.images
    if not model.classes:
        for wish, flag in ((config.classify, "classify"), (config.guidance_scale, "guidance_scale")):
            if wish:
                shown = wish if isinstance(wish, int) else " ".join(f"{scale:g}" for scale in wish)
                raise ValueError(f"--{flag} {shown}: {model.name} has no labels; train with --class_conditional")
        return
    if not model.knows_no_label and set(config.guidance_scale or ()) - {1.0}:
        scale = min(set(config.guidance_scale or ()) - {1.0})
        raise ValueError(
            f"--guidance_scale {scale:g}: {model.name} was trained with labels only, so there is nothing to guide away "
            "from; 1 is needed"
        )
    if len(images.classes) and (subject.numbers < 0).all():
        theirs, ours = (listed(map(shortened, names), 6) for names in (images.class_names, model.classes.names))
        raise ValueError(
            f"the images of {subject.options.dataset_name!r} have the labels {theirs}, and {model.name} knows {ours}: "
            "no name is the same"
        )
    unknown = int((subject.held_out_classes < 0).sum())
    if config.classify and unknown == len(images.eval):
        raise ValueError(
            f"--classify {config.classify}: no held-out image of {subject.options.dataset_name!r} has a label that "
            f"{model.name} knows"
        )
    if unknown and speaks:
        which = f"{counted(unknown, 'held-out image')} of {len(images.eval):,}"
        log.info("Measured without label, because the model knows none for them: %s", which)


def _data_options(config: EvaluateConfig, model: Checkpoint) -> DataOptions:
    """The images of the flags, or those that the model was trained on.

    Raises:
        ValueError: neither names a dataset.
    """
    names = [name for name in DataOptions.__dataclass_fields__ if name != "revision"]
    given = {name: getattr(config, name) for name in names} | {"revision": config.dataset_revision}
    trained = model.config.get("options") or {}
    if config.dataset_name is None:
        if not trained.get("dataset_name"):
            raise ValueError(f"{model.name} does not say what it was trained on: pass --dataset_name")
        given = {name: trained.get(name) if value is None else value for name, value in given.items()}
    return DataOptions(**given)
