"""Every option of `python -m ddpm.evaluate`, and its command line. The comment above an option is its text in `--help`.

python -m ddpm.evaluate runs/digits
accelerate launch -m ddpm.evaluate you/ddpm --num_images 0 --timesteps 20 --num_samples 2000
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro  # light: --help and wrong usage are answered before torch is loaded

from ddpm.checks import check_common, check_eta
from ddpm.config import OutputOptions
from ddpm.flags import flattened, grouped, need_folder, need_option, parse_flags, usage_errors
from ddpm.names import MAX_SCALE, OPTIMAL, AnyVariance, Precision, Sampler

PROG = "python -m ddpm.evaluate"
NUM_VALIDATION = OutputOptions.num_validation_images  # triples behind val_loss, as in train.py by default


@dataclass(frozen=True)
class ModelOptions:
    """Which model is measured."""

    # Directory or Hub id.
    model: tyro.conf.Positional[str] = "ddpm/assets/mnist"
    # Branch, tag or commit of a Hub model.
    revision: str | None = None


@dataclass(frozen=True)
class DatasetOptions:
    """Which images it is measured on."""

    # As in train.py. Default: what the model was trained on.
    dataset_name: str | None = None
    # Configuration of a Hub dataset.
    dataset_config_name: str | None = None
    # Branch, tag or commit of a Hub dataset.
    dataset_revision: str | None = None
    # Column that holds the images. Default: the only one that does.
    image_column: str | None = None
    # Column that holds the labels. Default: as in train.py.
    label_column: str | None = None
    # Split that samples are compared with. Default: train.
    train_split: str | None = None
    # Split that the bound is computed on. Default: as in train.py.
    eval_split: str | None = None
    # Side of a square in pixels, or HEIGHTxWIDTH. Default: as in train.py.
    resolution: int | str | None = None
    # 1 (grayscale) or 3 (RGB). Default: what the images have.
    channels: int | None = None
    # Pixel values that become black and white. Default: as in train.py.
    value_range: tuple[float, float] | None = None
    # What transparent pictures are laid on: white, black, or R,G,B. Default: as in train.py.
    background: str | None = None
    # Column that says which images are held out together. Default: as in train.py.
    group_column: str | None = None


@dataclass(frozen=True)
class BoundOptions:
    """How the variational bound is computed."""

    # Largest number of held-out images; --seed selects them. 0: all.
    num_images: int = 64
    # Estimate the sum over t from this many timesteps per image. 0: sum all of them.
    timesteps: int = 0
    # Variance of p(x_{t-1} | x_t). Default: that of the model. Only a network that predicts the variance has a learned
    # one; it can be measured with a fixed one, too. optimal: the variance with which the bound of this network is
    # smallest, one for all pixels at each t; training images tell it, and --record keeps it in variance.json.
    variance_type: AnyVariance | None = None
    # Compute the bound of the process with this many evenly spread timesteps, at least 2. Default: all T.
    bound_steps: int | None = None
    # Clip the network's x_0 to [-1, 1].
    clip_denoised: bool = True


@dataclass(frozen=True)
class SampleOptions:
    """How samples are drawn and compared with the training images."""

    # Number of samples to draw and compare. 0: none.
    num_samples: int = 0
    # ddpm: ancestral sampling with the model's own variance; ddpm_optimal: with the one of --variance_type optimal.
    sampler: Sampler = "ddpm"
    # Share of fresh noise in ddim and dpm_solver++, 0 (none) to 1; from about 20 steps on, 1 often draws better. The
    # other samplers do not take it.
    eta: float = 0.0
    # Steps of the sampler. Default: all timesteps.
    num_inference_steps: int | None = None
    # Features for the Fréchet distance: a classifier trained here on the labels, or Inception. none: no distance, only
    # samples beside their nearest training images, for any number of images and without labels.
    feature_network: Literal["auto", "classifier", "inception", "none"] = "auto"
    # Guidance scales s at which a class-conditional model draws samples: 0 is without label, 1 with it and not guided.
    # Default: 0 1 1.5 2 3 5 8.
    guidance_scale: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ClassifierOptions:
    """The bound of a class-conditional model as a classifier."""

    # Largest number of held-out images whose label the bound is to find, over all T timesteps; --seed selects them.
    # 0: none.
    classify: int = 0


@dataclass(frozen=True)
class RunOptions:
    """How the evaluation runs, and where it writes."""

    # Seed of the choice of images, of noise and of samples.
    seed: int = 0
    # Largest number of images in one call of the network.
    batch_size: int = 64
    # What the layers of the network are computed in, on a CPU. bfloat16 is faster where the processor has instructions
    # for it, and less exact: samples hardly differ, and the bound gets worse. The validation loss stays float32.
    precision: Precision = "float32"
    # CPU threads per process. 0: as in train.py.
    num_cpu_threads: int = 0
    # The report. Pictures are written beside it and share its name.
    output: str = "report.json"
    # Also write the figures into the model's metrics.jsonl and card. The model must be a directory.
    record: bool = False


# A dataclass takes the fields of its last base first.
@dataclass(frozen=True)
class EvaluateConfig(RunOptions, ClassifierOptions, SampleOptions, BoundOptions, DatasetOptions, ModelOptions):
    """All options of an evaluation, flat."""

    def validate(self) -> None:
        """Reject impossible values.

        Raises:
            ValueError: the message names the flag, the value, and what is accepted.
        """
        need = functools.partial(need_option, self)
        check_common(self)
        for name in ("num_images", "timesteps", "num_samples", "classify"):
            need(getattr(self, name) >= 0, name, "0 or more")
        need(self.bound_steps is None or self.bound_steps >= 2, "bound_steps", "2 or more")
        need(self.num_images != 1, "num_images", "2 or more (or 0), for a standard error,")
        need(self.num_samples != 1, "num_samples", "2 or more (or 0)")
        for scale in self.guidance_scale or ():
            if not 0 <= scale <= MAX_SCALE:  # which NaN is not, either
                accepted = f"0 (without label) to {MAX_SCALE:g} is needed; 1 is without guidance"
                raise ValueError(f"--guidance_scale {scale:g}: {accepted}")
        need(self.guidance_scale != (), "guidance_scale", "at least one number")
        if self.guidance_scale and not self.num_samples:
            raise ValueError("--guidance_scale: pass --num_samples, too; otherwise no samples are drawn")
        need(self.batch_size >= 1, "batch_size", "1 or more")
        need(self.num_inference_steps is None or self.num_inference_steps >= 1, "num_inference_steps", "1 or more")
        check_eta(self.sampler, self.eta)
        if self.eta and not self.num_samples:
            raise ValueError(f"--eta {self.eta:g}: pass --num_samples, too; otherwise no samples are drawn")
        need(self.output.endswith(".json"), "output", "the name of a .json file")
        if self.record and self.precision != "float32":
            raise ValueError("--record: the figures of a model's card are computed with --precision float32")

    @property
    def needs_errors(self) -> bool:
        """Whether the optimal variance is asked for, which follows from the errors of the network."""
        return OPTIMAL in (self.variance_type, self.sampler.removeprefix("ddpm_") if self.num_samples else None)


@dataclass(frozen=True)
class EvaluateFlags:
    """Measure a model: its bits per dimension and, with --num_samples, the quality of its samples.
    Flags accept _ and -."""

    model: ModelOptions
    data: DatasetOptions
    bound: BoundOptions
    samples: SampleOptions
    classifier: ClassifierOptions
    run: RunOptions


def parse(argv: list[str]) -> EvaluateConfig:
    """Options of the command line. It exits with status 0 after `--help`, and with status 2 after wrong usage."""
    with usage_errors(PROG):
        config = EvaluateConfig(**flattened(parse_flags(argv, grouped(EvaluateFlags, EvaluateConfig()), PROG)))
        config.validate()
        need_folder(config, "output", Path(config.output).parent)
    return config
