"""Pictures that are not square: cut at the edges by default, which is said, or taken as they are."""

import re

import numpy as np
import pytest
from PIL import Image

from ddpm.config import parse
from ddpm.data import DataOptions, prepare

WIDE = np.random.default_rng(2).integers(0, 256, (30, 16, 24), np.uint8)  # height 16, width 24


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "d").mkdir()
    for number, pixels in enumerate(WIDE):
        Image.fromarray(pixels).save(tmp_path / f"d/{number:03d}.png")
    return str(tmp_path / "d")


def pixels_of(images):
    return sorted(image.tobytes() for part in (images.train, images.eval) for image in part)


def test_by_default_the_middle_square_is_taken_and_said_with_the_flag_for_more(pictures):
    images = prepare(DataOptions(pictures))
    assert images.size == (16, 16)
    assert pixels_of(images) == sorted(p.tobytes() for p in np.ascontiguousarray(WIDE[:, :, 4:20]))
    assert images.notes[-1] == (
        "30 of 30 images are cut at the edges, by up to 33 %: --resolution 16x24 (height x width) takes them as they are"
    )


def test_with_height_and_width_they_are_taken_as_they_are(pictures):
    images = prepare(DataOptions(pictures, resolution="16x24"))
    assert images.size == (16, 24)
    assert images.train.shape[1:] == (1, 16, 24)
    assert pixels_of(images) == sorted(p.tobytes() for p in WIDE)
    assert "cut" not in " ".join(images.notes)
    assert prepare(DataOptions(pictures, resolution="16X24")).train.filename == images.train.filename
    square = [prepare(DataOptions(pictures, resolution=size)) for size in (8, "8", "8x8")]
    assert len({images.train.filename for images in square}) == 1
    assert "--resolution 8x12 (height x width) takes them as they are" in square[0].notes[-1]


def test_a_picture_turned_by_its_exif_data_and_mixed_sizes(pictures, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # 90 degrees
    for number, pixels in enumerate(WIDE):
        Image.fromarray(np.rot90(pixels)).save(f"{pictures}/{number:03d}.png", exif=exif)
    assert pixels_of(prepare(DataOptions(pictures, resolution="16x24"))) == sorted(p.tobytes() for p in WIDE)
    Image.fromarray(WIDE[0][:12]).save(f"{pictures}/odd.png")
    with pytest.raises(ValueError, match=r"images of mixed sizes: of .*odd.png.* the middle square has 12x12 pixels"):
        prepare(DataOptions(pictures))
    assert prepare(DataOptions(pictures, resolution="8x24")).size == (8, 24)


def test_photographs_as_large_as_a_camera_makes_them_need_a_resolution(tmp_path):
    (tmp_path / "d").mkdir()
    for number in range(20):
        Image.new("L", (1600, 1200), number).save(tmp_path / f"d/{number}.png")
    with pytest.raises(ValueError, match=r"of .*0.png.* the middle square has 1200x1200 pixels: pass --resolution, at most 1024"):  # fmt: skip
        prepare(DataOptions(str(tmp_path / "d")))
    assert prepare(DataOptions(str(tmp_path / "d"), resolution="12x16")).size == (12, 16)


@pytest.mark.parametrize("wrong", ["32x", "x32", "32x48x3", "0", "-3", "32.5", "two", "1025", "32x1025", "٣x٤"])
def test_other_sizes_are_refused_with_what_is_accepted(capsys, wrong):
    with pytest.raises(SystemExit):
        parse(["--resolution", wrong])
    message = capsys.readouterr().err
    assert re.fullmatch(r"train.py: error: --resolution .*: 1 to 1024 pixels, or HEIGHTxWIDTH such as 32x48, is needed\n", message)  # fmt: skip


def test_sides_that_the_network_cannot_halve_are_named_with_what_fits(capsys):
    with pytest.raises(SystemExit):
        parse(["--resolution", "16x25"])
    assert "resolution 16x25 cannot be halved once: take --resolution 16x24 or 16x26, or" in capsys.readouterr().err
    assert parse(["--resolution", "16x24"]).resolution == "16x24"
    assert parse(["--resolution", "16"]).resolution == 16
