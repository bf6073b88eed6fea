"""Values of pixels: gray stored in colour, ranges that are hardly used, and the flag that says which range is meant."""

import struct

import numpy as np
import pytest
from PIL import Image

from ddpm.data import DataOptions, prepare

RNG = np.random.default_rng(0)
SHADES = RNG.integers(0, 256, (30, 12, 12), np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def folder(path, pictures, ending="png", **save):
    path.mkdir()
    for number, image in enumerate(pictures):
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
            path / f"{number:03d}.{ending}", **save
        )
    return DataOptions(dataset_name=str(path))


def warnings_of(images):
    return [note for note in images.notes if note.startswith("Warning")]


def pixels_of(images):
    return sorted(image.tobytes() for split in (images.train, images.eval) for image in split)


def sorted_bytes(images):
    return sorted(image.astype(np.uint8).tobytes() for image in images)


@pytest.mark.parametrize(("ending", "save"), [("png", {}), ("jpg", {"quality": 90}), ("webp", {"quality": 90})])
def test_gray_stored_as_colour_is_said_with_its_flag(tmp_path, ending, save):
    smooth = [Image.fromarray(s[:3, :3]).resize((12, 12), Image.Resampling.BICUBIC) for s in SHADES]
    options = folder(tmp_path / "d", [s.convert("RGB") for s in smooth], ending, **save)
    images = prepare(options)
    assert images.channels == 3
    assert "all images are gray, but stored in colour: --channels 1 makes them one channel" in images.notes[-1]
    one = prepare(DataOptions(options.dataset_name, channels=1))
    assert one.channels == 1
    assert "gray" not in " ".join(one.notes)
    assert np.abs(one.train.astype(int) - images.train[:, :1]).max() <= 3
    assert "gray" not in " ".join(prepare(DataOptions(options.dataset_name, channels=3)).notes), "3 were asked for"


def test_gray_among_colour_is_not_said_but_gray_of_both_kinds_is(tmp_path):
    gray = [Image.fromarray(s) for s in SHADES]
    tinted = Image.merge("RGB", [gray[0], gray[0], gray[1]])
    mixed = prepare(folder(tmp_path / "a", [*gray, gray[1].convert("RGB"), gray[2].convert("RGBA")]))
    assert "all images are gray, but 2 of 32 are stored in colour: --channels 1" in mixed.notes[-1]
    assert "gray" not in " ".join(prepare(folder(tmp_path / "b", [*gray, tinted])).notes)
    assert "gray" not in " ".join(prepare(folder(tmp_path / "c", gray)).notes)


@pytest.mark.parametrize(
    ("kind", "ending", "values", "found"),
    [
        (np.uint16, "png", lambda s: s, "16- or 32-bit pixel values are 0 to 255, a small part of 0 to 65535"),
        (np.uint16, "tiff", lambda s: s * 16 + 15, "values are 15 to 4095, a small part of 0 to 65535"),
        (np.int32, "tiff", lambda s: s * 4, "values are 0 to 1020, a small part of 0 to 65535"),
        (np.uint16, "png", lambda s: 30000 + s * 20, "values are 30000 to 35100, a small part of 0 to 65535"),
        (np.int16, "tiff", lambda s: s * 16 - 1024, "values are -1024 to 3056: those outside of 0 to 65535, in 30 of 30 images, are clipped"),
        (np.int32, "tiff", lambda s: s * 1000, "values are 0 to 255000: those outside of 0 to 65535, in 30 of 30 images, are clipped"),
        (np.uint8, "png", lambda s: s // 16, "8-bit pixel values are 0 to 15, a small part of 0 to 255"),
    ],
)  # fmt: skip
def test_values_in_a_small_part_of_their_range_are_a_warning_and_value_range_mends_it(
    tmp_path, kind, ending, values, found
):
    SHADES[0, 0, :2] = 0, 255
    stored = values(SHADES.astype(np.int64))
    options = folder(tmp_path / "d", stored.astype(kind), ending)
    (warning,) = warnings_of(prepare(options))
    low, high = stored.min(), stored.max()
    assert found in warning
    assert f"--value_range {low} {high}" in warning
    mended = prepare(DataOptions(options.dataset_name, value_range=(low, high)))
    assert not warnings_of(mended)
    assert f"pixel values from {low} (black) to {high} (white)" in mended.notes
    expected = np.round((stored - low) / (high - low) * 255)
    assert pixels_of(mended) == sorted_bytes(expected)


def test_full_ranges_are_no_warning(tmp_path):
    deep = folder(tmp_path / "deep", SHADES.astype(np.uint16) * 257, "png")
    assert not warnings_of(prepare(deep))
    assert pixels_of(prepare(deep)) == sorted_bytes(SHADES), "16 bits are scaled to 8"
    assert not warnings_of(prepare(folder(tmp_path / "masks", [Image.fromarray(s > 99) for s in SHADES])))
    assert not warnings_of(prepare(DataOptions()))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (lambda s: s / 255, (0, 1)),
        (lambda s: s * 1.0, (0, 255)),
        (lambda s: s / 127.5 - 1, (-1, 1)),
        (lambda s: s * 100.0, (0, 25500)),
        (lambda s: s / 1000 + 7, (7, 7.255)),  # no usual range: the smallest and the largest value of all images
    ],
)
def test_the_range_of_floats_is_found_over_all_images_and_said(tmp_path, values, found):
    SHADES[0, 0, :2] = 0, 255
    options = folder(tmp_path / "d", values(SHADES).astype(np.float32), "tiff")
    images = prepare(options)
    assert pixels_of(images) == sorted_bytes(SHADES)
    assert not warnings_of(images)
    low, high = found
    assert f"{low:g} becomes black and {high:g} white (--value_range sets another range)" in images.notes[-1]
    darker = prepare(DataOptions(options.dataset_name, value_range=(low, 2 * high - low)))
    assert max(image.max() for image in darker.train) <= 128, "what the flag says comes first"


def test_floats_beside_images_of_8_bits_have_a_range_of_their_own(tmp_path):
    SHADES[29, 0, :2] = 0, 255
    options = folder(tmp_path / "d", SHADES[:20])
    for number, shades in enumerate(SHADES[20:]):
        Image.fromarray((shades / 255).astype(np.float32)).save(tmp_path / f"d/float{number}.tiff")
    images = prepare(options)
    assert pixels_of(images) == sorted_bytes(SHADES)
    assert "0 becomes black and 1 white" in images.notes[-1]


def test_signed_floats_and_nan(tmp_path):
    signed = (SHADES / 127.5 - 1).astype(np.float32)
    broken = signed[0].copy()
    broken[3, 3] = np.nan
    options = folder(tmp_path / "d", [*signed, broken], "tiff")
    assert pixels_of(prepare(options)) == sorted_bytes(SHADES), "the range is found among the others"
    images = prepare(DataOptions(options.dataset_name, value_range=(-1, 1)))
    assert pixels_of(images) == sorted_bytes(SHADES)
    assert "skipped 1 of 31 images" in images.notes[-1]
    assert "NaN or infinite" in images.notes[-1]


def test_a_kind_of_tiff_that_cannot_be_read_is_said(tmp_path):
    options = folder(tmp_path / "d", [s.astype(np.float32) for s in SHADES], "tiff")
    for path in (tmp_path / "d").iterdir():  # 64 bits per sample instead of 32
        path.write_bytes(path.read_bytes().replace(struct.pack("<HHII", 258, 3, 1, 32), struct.pack("<HHII", 258, 3, 1, 64)))  # fmt: skip
    with pytest.raises(ValueError, match="a kind of TIFF that cannot be read; of floating-point numbers, only one"):
        prepare(options)


def test_values_outside_of_a_given_range_are_clipped_and_said(tmp_path):
    """A window of a CT picture, as radiologists set it; transparent parts stay white in any range."""
    options = folder(tmp_path / "d", [s.astype(np.int32) * 16 - 1024 for s in SHADES], "tiff")
    images = prepare(DataOptions(options.dataset_name, value_range=(-160, 240)))
    expected = np.clip(np.round((SHADES.astype(int) * 16 - 1024 + 160) / 400 * 255), 0, 255)
    assert pixels_of(images) == sorted_bytes(expected)
    assert "those outside of -160 to 240, in 30 of 30 images, are clipped" in images.notes[-1]
    assert not warnings_of(images), "it was asked for"

    half = Image.fromarray(np.stack([SHADES[0] // 2, np.tile([0, 255], (12, 6)).astype(np.uint8)], -1))
    clear = prepare(DataOptions(folder(tmp_path / "clear", [half] * 20).dataset_name, value_range=(0, 127)))
    assert (clear.train[0, 0, :, ::2] == 255).all()
    assert np.array_equal(clear.train[0, 0, :, 1::2], np.round(SHADES[0][:, 1::2] // 2 * (255 / 127)))


def test_the_range_is_part_of_what_was_prepared(tmp_path):
    options = folder(tmp_path / "d", SHADES.astype(np.uint16), "png")
    wide = prepare(options)
    narrow, same = (prepare(DataOptions(options.dataset_name, value_range=r)) for r in [(0, 255), [0.0, 255.0]])
    assert wide.fingerprint != narrow.fingerprint == same.fingerprint
    assert narrow.train.filename == same.train.filename
