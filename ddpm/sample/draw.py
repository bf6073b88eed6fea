"""Draw pictures with a trained model and write them to the disk."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ddpm import hub, plots, tiles
from ddpm.checkpoint import Checkpoint, check_precision
from ddpm.class_names import NO_LABEL
from ddpm.engine import Counted
from ddpm.errors import first_line
from ddpm.files import replacing
from ddpm.inpainting import order_of
from ddpm.launcher import launchers_precision
from ddpm.names import counted
from ddpm.processes import on_main, plain_logging, settle, share
from ddpm.sample.animation import ANIMATED, moments, save_animation
from ddpm.sample.folder import PictureFolder
from ddpm.sample.inpaint import Inpainting
from ddpm.sample.options import PROG, SampleConfig
from ddpm.sampling import reverse_process


def draw(config: SampleConfig, model: Checkpoint | None = None) -> list[str]:
    """Draw the pictures, write everything that the options ask for, and return what was written, in words.

    The processes share the pictures. Each writes its own ones as soon as they are finished, and the main process writes
    everything else.

    Args:
        model: one that is loaded already, instead of `config.model`, which then only names it.
    Raises:
        ValueError: in one line why this cannot be drawn.
        OSError: the disk is full or a folder is not writable; what is there already stays.
    """
    accelerator = Accelerator(mixed_precision=launchers_precision("no", PROG, "pictures are computed in float32"))
    settle(accelerator, config.num_cpu_threads, "-m ddpm.sample ...")
    check_precision(config.precision, accelerator.device.type)
    model = model or hub.pull(config.model, config.revision)
    classes = np.array([model.label(name) for name in config.label] or [NO_LABEL])
    _check(config, model)
    filling = Inpainting.read(config, model)
    folder = PictureFolder(config, model, filling)
    on_main(accelerator, folder.prepare)
    there = on_main(accelerator, folder.there)
    missing = [i for i in range(config.num_images) if i not in there or (config.gif and i < ANIMATED)]
    part = share(len(missing), accelerator.process_index, accelerator.num_processes)
    own = missing[part.start : part.stop]
    with _progress(config, model, own, classes, accelerator.is_main_process) as bar:
        drawn, frames = _draw(config, model, own, classes, filling, folder, bar, accelerator)
    accelerator.wait_for_everyone()
    words = [f"{counted(config.num_images, 'picture')} in {folder.path}"] if folder.path else []
    if there and folder.path:
        words[0] += f", {len(there):,} of which were there already"
    wanted = config.grid or config.npz
    drawn = gather_object(drawn) if wanted or config.gif else []
    frames = gather_object(frames) if config.gif else []
    if accelerator.is_main_process and (wanted or config.gif):
        images = dict(drawn)
        images |= {i: folder.read(i) for i in there if i not in images}
        words += _write(config, np.stack([images[i] for i in range(config.num_images)]), frames, classes)
    return words


def _check(config: SampleConfig, model: Checkpoint) -> None:
    """Check what the options want against the model. Raises ValueError, in one line."""
    T, steps = model.schedule.num_steps, config.num_inference_steps
    if steps is not None and steps > T:
        raise ValueError(f"--num_inference_steps {steps}: 1 to {T} is needed")
    if config.resamplings and config.jump_length is not None and config.jump_length >= (steps or T):
        most = (steps or T) - 1
        raise ValueError(f"--jump_length {config.jump_length}: 1 to {most} is needed with {most + 1} sampling steps")
    if config.sampler == "ddpm_optimal" and model.errors is None:
        measure = f"python -m ddpm.evaluate {shlex.quote(config.model)} --variance_type optimal --record"
        raise ValueError(f"--sampler ddpm_optimal: nobody has measured the errors of {model.name}; `{measure}` does")
    if config.guidance_scale != 1 and model.classes and not model.knows_no_label:
        raise ValueError(
            f"--guidance_scale {config.guidance_scale:g}: {model.name} was trained with labels only, so there is "
            "nothing to guide away from; 1 is needed"
        )


def _progress(config: SampleConfig, model: Checkpoint, own: Sequence[int], classes: np.ndarray, is_main: bool):
    """A progress bar over this process's evaluations of the network, one or two for each picture and step."""
    from tqdm import tqdm

    calls = _steps(config, model) * _evaluations(config, own, classes)
    return tqdm(total=calls, unit=" network evaluations", smoothing=0, disable=not is_main)


def _steps(config: SampleConfig, model: Checkpoint) -> int:
    """How many steps the sampler takes for a picture."""
    steps = config.num_inference_steps or model.schedule.num_steps
    return len(order_of(steps, config.resamplings, config.jump_length))


def _evaluations(config: SampleConfig, numbers: Sequence[int], classes: np.ndarray) -> int:
    """How many evaluations of the network a step takes for pictures of these numbers: where the sampling is guided, two
    for each that has a label."""
    guided = 0 if config.guidance_scale in (0, 1) else int((classes[np.array(numbers, int) % len(classes)] >= 0).sum())
    return len(numbers) + guided


def _draw(
    config: SampleConfig,
    model: Checkpoint,
    own: Sequence[int],
    classes: np.ndarray,
    filling: Inpainting | None,
    folder: PictureFolder,
    bar,
    accelerator: Accelerator,
) -> tuple[list[tuple[int, np.ndarray]], list[tuple[int, list[np.ndarray]]]]:
    """The pictures of this process, and how the first ones came about.

    Args:
        own: their numbers.
        classes: the numbers of the classes that are drawn in turn.
        filling: what is filled in; None: the pictures are new as a whole.
    Returns:
        (number, (H, W, C) uint8) of each picture, if anything but numbered files is wanted, and (number, frames) of
        each that is animated.
    """
    kept, animated = [], []
    steps = _steps(config, model)
    most = max(_evaluations(config, [number], classes) for number in range(len(classes)))  # of a picture
    at_once = max(1, config.batch_size // most)  # with guidance, the network sees each picture twice in a call
    parts = _runs(own, at_once)
    engine = model.engine(accelerator.device, config.precision)
    engine.settle(*{_evaluations(config, part, classes) for part in parts})
    eps_theta, shown = Counted(engine, bar, strict=True), moments(steps)
    for part in parts:
        asked: dict[str, Any] = filling.arguments(config) if filling else {}
        if config.label and config.guidance_scale:
            labels = torch.from_numpy(classes[np.array(part) % len(classes)])
            asked |= {"labels": labels, "guidance_scale": config.guidance_scale}
        wanted = [place for place, number in enumerate(part) if config.gif and number < ANIMATED]
        frames: list[np.ndarray] = []
        last = None
        for last in reverse_process(
            eps_theta,
            model.scheduler,
            (len(part), model.channels, *model.size),
            sampler=config.sampler,
            eta=config.eta,
            num_inference_steps=config.num_inference_steps,
            seed=config.seed,
            first_image=part[0],
            errors=model.errors,
            **asked,
        ):
            if wanted and last.index in shown:
                frames.append(plots.to_pixels(last.xt[wanted]))
        assert last is not None
        finished = plots.to_pixels(last.x_prev)
        folder.write(part, finished)
        if config.grid or config.gif or config.npz:
            kept += zip(part, finished, strict=True)
        for place, index in enumerate(wanted):
            animated.append((part[index], [frame[place] for frame in frames]))
    return kept, animated


def _runs(numbers: Sequence[int], most: int) -> list[list[int]]:
    """Ascending numbers in groups without gaps, of at most `most` each."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and len(runs[-1]) < most and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _write(
    config: SampleConfig, images: np.ndarray, frames: list[tuple[int, list[np.ndarray]]], classes: np.ndarray
) -> list[str]:
    """Write the files that hold all pictures, and return what they are, in words.

    Args:
        images: (N, H, W, C) uint8.
        frames: for each animated picture its number and its frames.
    """
    words = []
    columns = len(classes) if 1 < len(classes) <= 20 else int(np.ceil(len(images) ** 0.5))
    columns = min(columns, len(images))
    if config.grid:
        plots.save_image(tiles.grid(images, columns), Path(config.grid))
        words.append(f"a grid in {config.grid}")
    if config.gif:
        count = min(len(images), ANIMATED)
        ways = [way for _, way in sorted(frames, key=lambda pair: pair[0])]
        save_animation([*np.stack(ways, 1), images[:count]], min(columns, count), Path(config.gif))
        words.append(f"the way of {counted(count, 'picture')} in {config.gif}")
    if config.npz:
        path = Path(config.npz)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            shown = classes[np.arange(len(images)) % len(classes)] if config.guidance_scale else NO_LABEL
            shown = np.broadcast_to(shown, len(images))
            np.savez(file, images, *([shown] if config.label else []))
        words.append(f"an array of shape {images.shape} in {config.npz}")
    return words


def main(config: SampleConfig) -> int:
    """Draw, and say what is on the disk. Returns the exit status; an error is one line on stderr."""
    plain_logging()
    is_main = os.environ.get("RANK", "0") == "0"
    try:
        written = draw(config)
    except (ValueError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        if is_main:
            print(f"{PROG}: error: {first_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if is_main and config.folder:
            count = 0
            with suppress(OSError):
                count = sum(path.stem.isdigit() for path in config.folder.glob("*.png"))
            print(
                f"{PROG}: stopped; {counted(count, 'picture')} in {config.folder}. The same command draws the rest",
                file=sys.stderr,
            )
        return 130
    if is_main:
        print("; ".join(written))
    return 0
