"""Small pictures in folders and archives, as people have them, and what `prepare` makes of these."""

import io
import logging
import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm.data import DataOptions, prepare


def picture(seed):
    """A gray picture of 12x12 pixels, another one for every seed."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8))


def png(seed):
    """The bytes of its PNG file."""
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def fill(folder, seeds, name="{:03d}.png"):
    """Write a picture for each seed into a folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        with open(os.fsencode(folder) + b"/" + os.fsencode(name.format(seed)), "wb") as file:
            file.write(png(seed))
    return folder


def archive(path, members):
    """Write a zip archive of a dict: the content by the member's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def seeds_in(pixels):
    """The seeds of prepared pictures, in order, for seeds below 200."""
    of = {np.asarray(picture(seed)).tobytes(): seed for seed in range(200)}
    return [of[image.tobytes()] for image in pixels]


def load(folder, output_dir=None, **options):
    """The prepared images of a folder, and their seeds, those held out at the end."""
    images = prepare(DataOptions(dataset_name=str(folder), **options), output_dir=output_dir)
    return images, seeds_in(images.train) + seeds_in(images.eval)


def labels_of(images):
    """Label by seed."""
    seeds = seeds_in(images.train) + seeds_in(images.eval)
    parts = [(images.train, images.train_labels), (images.eval, images.eval_labels)]
    labels = [label for pixels, part in parts for label in (part if part is not None else [-1] * len(pixels))]
    return dict(zip(seeds, map(int, labels), strict=True))


def note(images, word):
    """The only note with this word in it. Every note is one line that any terminal and file can take."""
    (found,) = (note for note in images.notes if word in note)
    assert "\n" not in found
    assert found.encode("utf-8")
    logging.getLogger("test").info(found)
    return found
