"""What is measured: a model and the images that it is measured on, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.checkpoint import Checkpoint
from ddpm.data import DataOptions, Images, prepare
from ddpm.evaluate.options import EvaluateConfig


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, images, and the options of the evaluation."""

    config: EvaluateConfig
    model: Checkpoint
    options: DataOptions
    images: Images

    @property
    def num_images(self) -> int:
        """How many held-out images the bound is computed on."""
        return min(self.config.num_images or len(self.images.eval), len(self.images.eval))

    @property
    def num_timesteps(self) -> int:
        """How many timesteps per image the bound is computed from; T if all of them."""
        return self.config.timesteps or self.model.schedule.num_steps

    @property
    def num_inference_steps(self) -> int:
        """How many steps the sampler takes."""
        return self.config.num_inference_steps or self.model.schedule.num_steps

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
    size, needed = ((i.resolution, i.resolution, i.channels) for i in (subject.images, model))
    if size != needed:
        have, want = ("x".join(map(str, s)) for s in (size, needed))
        raise ValueError(
            f"the images of {options.dataset_name!r} are {have}, {model.name} makes {want}: pass "
            f"--resolution {needed[0]} --channels {needed[2]}, or another --dataset_name"
        )
    T = model.schedule.num_steps
    if config.timesteps >= T:
        raise ValueError(f"--timesteps {config.timesteps}: 1 to {T - 1} is needed, or 0 to sum all timesteps exactly")
    if subject.num_inference_steps > T:
        raise ValueError(f"--num_inference_steps {subject.num_inference_steps}: 1 to {T} is needed")
    if subject.num_images < 2:
        raise ValueError(
            f"there is only {len(subject.images.eval)} held-out image, and a standard error needs 2: pass --eval_split"
        )
    return subject


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
