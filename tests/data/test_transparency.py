"""Transparent pictures: what they are laid on, and that their edges stay soft and keep their colour."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from launch import launch
from PIL import Image
from tiny import command

from ddpm.data import DataOptions, prepare
from ddpm.data.decoding import decode

BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "250,128,1": (250, 128, 1)}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def png(pixels, kind, depth, transparent=b"", palette=b""):
    """The bytes of a PNG file, written by hand, because Pillow cannot write all kinds.

    Args:
        pixels: (H, W) or (H, W, channels), whole numbers as they are stored.
        kind: 0 gray, 2 RGB, 3 palette, 4 gray with opacity, 6 RGB with opacity.
        transparent: the content of tRNS. palette: that of PLTE.
    """

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    if depth < 8:
        bits = (pixels[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        lines = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    else:
        lines = [row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in pixels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    parts += [(name, content) for name, content in ((b"PLTE", palette), (b"tRNS", transparent)) if content]
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in parts)


def laid(colour, opacity, background):
    """(H, W, 3) values: the colour where it is opaque, the background where it is not, in proportion to the stored
    values between them, each rounded once.

    Args:
        colour: (H, W, 3), 0 to 255. opacity: (H, W), 0 to 255.
    """
    share = opacity[..., None] / 255
    return np.floor(colour * share + np.array(background) * (1 - share) + 0.5)


def shades(channels, depth=8, size=8):
    return RNG.integers(0, 2**depth, (size, size, channels))


def keyed(gray, key):
    return np.where(gray == key, 0, 255)


def every_kind():
    """For each way to store transparency: the file, and the colour and opacity, 0 to 255, that it stands for."""
    rgba, la = shades(4), shades(2)
    rgba16, la16 = shades(4, 16), shades(2, 16)
    gray, rgb = shades(1)[..., 0], shades(3)
    gray[0, :2], rgb[0, :2] = 9, (1, 2, 3)
    gray16, rgb16 = gray * 256 + 3, rgb * 256 + 5
    four = shades(1, 2)[..., 0]
    palette, opacities = shades(3, size=2).reshape(4, 3), np.array([0, 90, 255, 180])
    grays = np.repeat(shades(1, size=2).reshape(4, 1), 3, axis=1)
    as_colour = lambda values: np.repeat(values[..., None], 3, axis=2)  # noqa: E731
    return {
        "RGBA": (png(rgba, 6, 8), rgba[..., :3], rgba[..., 3]),
        "LA": (png(la, 4, 8), as_colour(la[..., 0]), la[..., 1]),
        "RGBA of 16 bits": (png(rgba16, 6, 16), rgba16[..., :3] >> 8, rgba16[..., 3] >> 8),
        "LA of 16 bits": (png(la16, 4, 16), as_colour(la16[..., 0] >> 8), la16[..., 1] >> 8),
        "palette": (png(four, 3, 8, bytes(opacities.tolist()), palette.astype(np.uint8).tobytes()), palette[four], opacities[four]),
        "gray palette": (png(four, 3, 2, bytes(opacities.tolist()), grays.astype(np.uint8).tobytes()), grays[four], opacities[four]),
        "one gray": (png(gray, 0, 8, struct.pack(">H", 9)), as_colour(gray), keyed(gray, 9)),
        "one gray of 2 bits": (png(four, 0, 2, struct.pack(">H", 2)), as_colour(four * 85), keyed(four, 2)),
        "one gray of 16 bits": (png(gray16, 0, 16, struct.pack(">H", 9 * 256 + 3)), as_colour(np.round(gray16 / 257)), keyed(gray, 9)),
        "one colour": (png(rgb, 2, 8, struct.pack(">3H", 1, 2, 3)), rgb, keyed((rgb == (1, 2, 3)).all(2), True)),
        "one colour of 16 bits": (png(rgb16, 2, 16, struct.pack(">3H", 261, 517, 773)), rgb16 >> 8, keyed((rgb == (1, 2, 3)).all(2), True)),
    }  # fmt: skip


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("kind", every_kind())
def test_every_kind_of_transparency_is_laid_on_the_background(kind, background):
    content, colour, opacity = every_kind()[kind]
    wanted = laid(colour, opacity, BACKGROUNDS[background])
    found = decode({"bytes": content}, 3, None, background=BACKGROUNDS[background])
    assert (found.pixels == wanted).all()
    assert found.laid
    plain = decode({"bytes": content}, None, None, background=BACKGROUNDS[background])
    is_gray = (colour == colour[..., :1]).all() and background != "250,128,1"
    assert plain.pixels.shape[2] == (1 if is_gray else 3), "a gray picture on a coloured background is in colour"


def test_edges_stay_soft_and_keep_their_colour_when_pictures_are_resized():
    """A red disc with a soft edge. What its transparent pixels hide must not be seen, whatever it is."""
    y, x = np.mgrid[:64, :64] - 31.5
    opacity = (np.clip(20.3 - np.hypot(x, y), 0, 1) * 255).round()
    for background in BACKGROUNDS.values():
        small = []
        for hidden in [(0, 255, 0), (0, 0, 0), (255, 255, 255)]:
            pixels = np.where(opacity[..., None] > 0, (200, 30, 60), hidden)
            picture = Image.fromarray(np.dstack([pixels, opacity]).astype(np.uint8))
            file = io.BytesIO()
            picture.save(file, "PNG")
            small.append(decode({"bytes": file.getvalue()}, 3, (32, 32), background=background).pixels.astype(int))
        assert (small[0] == small[1]).all()
        assert (small[0] == small[2]).all()
        # Each pixel lies between the disc and the background: the share of the disc is the same in all channels.
        disc, below = np.array((200, 30, 60)), np.array(background)
        span = np.where(disc == below, 1, disc - below)
        share = ((small[0] - below) / span)[..., np.abs(disc - below) > 50]
        assert np.ptp(share, axis=2).max() < 0.05, "but for rounding"
        soft = ((share > 0.1) & (share < 0.9)).all(2)
        assert 40 < soft.sum() < 200, "a ring of pixels at the edge"
        exact = opacity.reshape(32, 2, 32, 2).mean((1, 3)) / 255
        assert np.abs(share.mean(2) - exact).max() < 0.2, "close to the part of each pixel that the disc covers"


def folder(path, count=30):
    path.mkdir()
    for number in range(count):
        pixels = shades(4, size=12).astype(np.uint8)
        if number < 6:
            pixels[..., 3] = 255
        Image.fromarray(pixels).save(path / f"{number:02d}.png")
    return str(path)


def test_the_background_is_part_of_what_is_prepared(tmp_path):
    name = folder(tmp_path / "d")
    images = {words: prepare(DataOptions(name, background=words)) for words in (None, "white", "black", "1,2,3")}
    assert len({found.fingerprint for found in images.values()}) == 3
    assert images[None].train.filename == images["white"].train.filename
    same = [prepare(DataOptions(name, background=words)) for words in ("255,255,255", " White ", "255, 255,255")]
    assert {found.train.filename for found in same} == {images["white"].train.filename}
    assert "24 of 30 images are transparent in places and laid on white (--background)" in images[None].notes
    assert "24 of 30 images are transparent in places and laid on 1,2,3 (--background)" in images["1,2,3"].notes


@pytest.mark.long
def test_training_and_evaluation_lay_pictures_on_the_same_background(tmp_path):
    name, run = folder(tmp_path / "d", 60), tmp_path / "run"
    words = {"dataset_name": name, "background": "black", "block_out_channels": (8,), "train_batch_size": 8}
    done = launch(*command(run, **words))
    assert done.returncode == 0, done.stderr
    assert "54 of 60 images are transparent in places and laid on black (--background)" in done.stderr
    assert json.loads((run / "train_config.json").read_text())["options"]["background"] == "black"
    assert "--background black" in (run / "README.md").read_text()
    again = launch(*command(run, **(words | {"background": "white"})))
    assert again.returncode == 1
    assert "--background (black, now white), the images of the dataset" in again.stderr
    few = ("--timesteps", 2, "--num_images", 2)
    report = tmp_path / "report.json"
    done = launch("-m", "ddpm.evaluate", run, *few, "--output", report)
    assert done.returncode == 0, done.stderr
    on_black = json.loads(report.read_text())
    done = launch("-m", "ddpm.evaluate", run, *few, "--background", "white", "--output", report)
    assert done.returncode == 0, done.stderr
    on_white = json.loads(report.read_text())
    assert on_white["bits_per_dim"] != on_black["bits_per_dim"]
    assert "--background white" in on_white["command"]
