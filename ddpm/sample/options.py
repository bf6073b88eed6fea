"""Every option of `python -m ddpm.sample`, and its command line. The comment above an option is its text in `--help`.

python -m ddpm.sample runs/digits --num_images 36 --grid digits.png
python -m ddpm.sample runs/digits --inpaint digit.png --mask mask.png --num_inference_steps 100
accelerate launch -m ddpm.sample you/ddpm --num_images 10000 --npz samples.npz
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro  # light: --help and wrong usage are answered before torch is loaded

from ddpm.checks import check_eta, check_run
from ddpm.flags import at_home, flattened, grouped, need_folder, need_option, parse_flags, usage_errors
from ddpm.names import FILLING_SAMPLERS, JUMPS, MAX_SCALE, Precision, Sampler

PROG = "python -m ddpm.sample"


@dataclass(frozen=True)
class ModelOptions:
    """Which model draws."""

    # Directory or Hub id.
    model: tyro.conf.Positional[str] = "ddpm/assets/mnist"
    # Branch, tag or commit of a Hub model.
    revision: str | None = None


@dataclass(frozen=True)
class PictureOptions:
    """What it draws."""

    # Number of pictures.
    num_images: int = 16
    # Names of the classes to draw, in turn: picture i shows class i modulo their number. Default: no label.
    label: tuple[str, ...] = ()
    # s in eps_0 + s (eps_c - eps_0): 1 is the plain class-conditional model, more follows the label more closely.
    guidance_scale: float = 1.0
    # ddpm: ancestral sampling with the model's own variance; ddpm_optimal: with the one that suits the network best, if
    # variance.json has it (`python -m ddpm.evaluate MODEL --variance_type optimal --record`).
    sampler: Sampler = "ddpm"
    # Share of fresh noise in ddim and dpm_solver++, 0 (none) to 1; from about 20 steps on, 1 often draws better. The
    # other samplers do not take it.
    eta: float = 0.0
    # Steps of the sampler. Default: all timesteps.
    num_inference_steps: int | None = None
    # Picture i of a seed is the same, however many are drawn, in batches of whatever size and by however many
    # processes; its last bit may differ by rounding.
    seed: int = 0


@dataclass(frozen=True)
class InpaintOptions:
    """A picture that it completes (RePaint, Lugmayr et al. 2022)."""

    # A picture as large as the model's. Where the mask is white, it is filled in, each time differently; all other
    # pixels stay as they are.
    inpaint: str | None = None
    # A picture of the same size: white is filled in, black is kept. Gray counts as white from 128 on.
    mask: str | None = None
    # How often the sampler jumps back and takes the same steps again, so that the filling comes to fit what is around
    # it: r - 1 in the paper's notation. It takes about so many times longer. Default: 10.
    jumps: int | None = None
    # Steps of a jump, j in the paper. Default: 10, or fewer if there are fewer steps.
    jump_length: int | None = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the pictures go."""

    # Folder for 00000.png, 00001.png and so on. If it holds a part of these pictures already, the others are drawn.
    # Default: samples/MODEL, unless --grid, --gif or --npz is given.
    output: str | None = None
    # One PNG with all pictures, magnified; with several labels it has a column for each.
    grid: str | None = None
    # The way of the first pictures from noise to the end, at most 16 of them, as an animation.
    gif: str | None = None
    # arr_0: all pictures, (N, H, W, C) uint8, as other programs read them; arr_1: (N,) the numbers of their classes.
    npz: str | None = None


@dataclass(frozen=True)
class RunOptions:
    """How it runs."""

    # Largest number of pictures that are drawn at a time.
    batch_size: int = 64
    # What the layers of the network are computed in, on a CPU. bfloat16 is faster where the processor has instructions
    # for it, and less exact.
    precision: Precision = "float32"
    # CPU threads per process. 0: as in train.py.
    num_cpu_threads: int = 0


# A dataclass takes the fields of its last base first.
@dataclass(frozen=True)
class SampleConfig(RunOptions, OutputOptions, InpaintOptions, PictureOptions, ModelOptions):
    """All options, flat."""

    @property
    def resamplings(self) -> int:
        """How often the sampler jumps back from each place."""
        if self.inpaint is None:
            return 0
        return JUMPS if self.jumps is None else self.jumps

    @property
    def folder(self) -> Path | None:
        """The folder of the numbered pictures; None if only other files are wanted."""
        if self.output is None and (self.grid or self.gif or self.npz):
            return None
        return Path(self.output or Path("samples", Path(self.model).absolute().name))

    def validate(self) -> None:
        """Reject impossible values.

        Raises:
            ValueError: the message names the flag, the value, and what is accepted.
        """
        need = functools.partial(need_option, self)
        check_run(self)
        for name in ("num_images", "batch_size"):
            need(getattr(self, name) >= 1, name, "1 or more")
        need(self.num_inference_steps is None or self.num_inference_steps >= 1, "num_inference_steps", "1 or more")
        if not 0 <= self.guidance_scale <= MAX_SCALE:  # which NaN is not, either
            need(False, "guidance_scale", f"0 (without label) to {MAX_SCALE:g}")
        need(self.guidance_scale == 1 or bool(self.label), "guidance_scale", "a --label")
        check_eta(self.sampler, self.eta)
        self._validate_inpainting(need)
        for name, ending in (("grid", ".png"), ("gif", ".gif"), ("npz", ".npz")):
            path = getattr(self, name)
            need(path is None or Path(path).suffix.lower() == ending, name, f"the name of a {ending} file")

    def _validate_inpainting(self, need: Callable[[bool, str, str], None]) -> None:
        """Reject options of inpainting that do not go together. Raises as `validate`."""
        for name, other in (("inpaint", "mask"), ("mask", "inpaint"), ("jumps", "inpaint"), ("jump_length", "inpaint")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                need(False, name, f"--{other}")
        if self.inpaint is None:
            return
        fits = self.sampler in FILLING_SAMPLERS
        need(fits, "sampler", f"with --inpaint, one of {', '.join(FILLING_SAMPLERS)}")
        need(self.resamplings >= 0, "jumps", "0 (none) or more")
        need(self.jump_length is None or self.jump_length >= 1, "jump_length", "1 or more")
        steps = self.num_inference_steps
        if steps is not None and self.resamplings:
            need(steps >= 2, "num_inference_steps", "with jumps, 2 or more")
            longest = self.jump_length is None or self.jump_length < steps
            need(longest, "jump_length", f"with {steps} sampling steps, 1 to {steps - 1}")


@dataclass(frozen=True)
class SampleFlags:
    """Draw pictures with a trained model, from a directory or the Hub, and write them to the disk.
    Flags accept _ and -."""

    model: ModelOptions
    pictures: PictureOptions
    inpainting: InpaintOptions
    output: OutputOptions
    run: RunOptions


def parse(argv: list[str]) -> SampleConfig:
    """Options of the command line. It exits with status 0 after `--help`, and with status 2 after wrong usage."""
    with usage_errors(PROG):
        given = flattened(parse_flags(argv, grouped(SampleFlags, SampleConfig()), PROG))
        for name in ("model", "inpaint", "mask", "output", "grid", "gif", "npz"):
            given[name] = given[name] and at_home(given[name])
        config = SampleConfig(**given)
        config.validate()
        if config.folder:
            need_folder(config, "output", config.folder)
        for name in ("grid", "gif", "npz"):
            if path := getattr(config, name):
                need_folder(config, name, Path(path).parent)
    return config
