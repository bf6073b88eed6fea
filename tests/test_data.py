"""Real files of every kind on disk, through the same door as a user's."""

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.data import DataOptions, prepare, to_float
from ddpm.files import cache_folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def picture(seed, size=(12, 12), channels=1):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)


def folder_of_images(root, count=40, nested=False, **options):
    for i in range(count):
        folder = root / f"class{i % 2}" if nested else root
        folder.mkdir(parents=True, exist_ok=True)
        picture(i, **options).save(folder / f"{i:04d}.png")
    return root


def parquet(path, images, column="image", extra=None, typed=True):
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {column: images} | (extra or {})
    dataset = datasets.Dataset.from_dict(rows)
    if typed:
        dataset = dataset.cast_column(column, datasets.Image())
    dataset.to_parquet(str(path))


def pixel_set(*splits):
    return sorted(image.tobytes() for split in splits for image in split)


def test_digits():
    from sklearn.datasets import load_digits

    images = prepare(DataOptions())
    assert images.train.shape == (1707, 1, 8, 8)
    assert images.eval.shape == (90, 1, 8, 8)
    source = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert pixel_set(images.train, images.eval) == pixel_set(source)
    assert images.eval_split is None


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_folder_of_images(tmp_path, nested, channels):
    root = folder_of_images(tmp_path / "pictures", nested=nested, channels=channels)
    images = prepare(DataOptions(dataset_name=str(root)))
    assert images.train.shape == (38, channels, 12, 12)
    assert images.eval.shape == (2, channels, 12, 12)
    expected = [
        np.asarray(picture(i, channels=channels)).reshape(12, 12, channels).transpose(2, 0, 1) for i in range(40)
    ]
    assert pixel_set(images.train, images.eval) == pixel_set(np.stack(expected))


def test_folder_with_splits(tmp_path):
    folder_of_images(tmp_path / "d/train", 24)
    folder_of_images(tmp_path / "d/test", 6)
    images = prepare(DataOptions(dataset_name=str(tmp_path / "d")))
    assert (len(images.train), len(images.eval)) == (24, 6)
    assert "held out: split 'test'" in images.notes[0]
    assert images.eval_split == "test"


def test_a_class_named_test_is_not_a_split(tmp_path):
    """`datasets` would train on the folder "test" alone, and read splits out of file names, too."""
    folder_of_images(tmp_path / "d/test", 20)
    folder_of_images(tmp_path / "d/good", 20)
    for file in list((tmp_path / "d/good").iterdir())[:5]:
        file.rename(file.with_name(f"test_{file.name}"))
    (tmp_path / "d/Thumbs.db").write_bytes(b"not an image and not called one")
    images = prepare(DataOptions(dataset_name=str(tmp_path / "d")))
    assert len(images.train) + len(images.eval) == 40


def test_parquet_with_named_columns_and_splits(tmp_path):
    pictures = [picture(i) for i in range(30)]
    parquet(tmp_path / "d/train-0.parquet", pictures[:25], "img", {"label": list(range(25))})
    parquet(tmp_path / "d/test-0.parquet", pictures[25:], "img", {"label": list(range(5))})
    images = prepare(DataOptions(dataset_name=str(tmp_path / "d")))
    assert np.array_equal(images.train[:, 0], np.stack([np.asarray(p) for p in pictures[:25]]))
    assert np.array_equal(images.eval[:, 0], np.stack([np.asarray(p) for p in pictures[25:]]))


def test_the_names_of_class_labels(tmp_path):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "eel"])})
    rows = {"image": [picture(i) for i in range(40)], "label": [i % 2 * 2 for i in range(40)]}
    (tmp_path / "d").mkdir()
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "d/train-0.parquet")
    images = prepare(DataOptions(str(tmp_path / "d")))
    assert (images.classes, images.class_names) == ((0, 2), ("cat", "eel")), "those that occur"
    assert set(images.class_of(images.train_labels, len(images.train))) == {0, 1}


def test_labels_of_digits_parquet_and_class_folders(tmp_path):
    """They stay beside their images, also where images are held out or left out as damaged."""
    from sklearn.datasets import load_digits

    source = load_digits()
    of = {
        np.round(i * 255 / 16).astype(np.uint8).tobytes(): int(t)
        for i, t in zip(source.images, source.target, strict=True)
    }
    images = prepare(DataOptions())
    for pixels, labels in ((images.train, images.train_labels), (images.eval, images.eval_labels)):
        assert [of[p.tobytes()] for p in pixels] == labels.tolist()

    parquet(
        tmp_path / "d/train-0.parquet", [picture(i) for i in range(40)], "img", {"label": [i % 7 for i in range(40)]}
    )
    images = prepare(DataOptions(dataset_name=str(tmp_path / "d")))
    of = {np.asarray(picture(i)).tobytes(): i % 7 for i in range(40)}
    for pixels, labels in ((images.train, images.train_labels), (images.eval, images.eval_labels)):
        assert [of[p.tobytes()] for p in pixels] == labels.tolist()

    for split, start in (("train", 0), ("test", 100)):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / "c" / split / name).mkdir(parents=True)
            for i in range(12):
                picture(start + 20 * number + i).save(tmp_path / "c" / split / name / f"{i:02d}.png")
    (tmp_path / "c/train/cat/00.png").write_bytes(b"damaged")
    images = prepare(DataOptions(dataset_name=str(tmp_path / "c")))
    assert images.train_labels.tolist() == [0] * 11 + [1] * 12
    assert images.eval_labels.tolist() == [0] * 12 + [1] * 12
    assert images.train[11].tobytes() == np.asarray(picture(20)).tobytes()

    folder_of_images(tmp_path / "flat/train", 24)
    folder_of_images(tmp_path / "flat/test", 6)
    assert prepare(DataOptions(dataset_name=str(tmp_path / "flat"))).train_labels is None, "a split is no class"


def test_resolution_and_channels(tmp_path):
    root = folder_of_images(tmp_path / "mixed", 24, size=(20, 30), channels=3)
    picture(99, size=(17, 17), channels=3).save(root / "other.png")
    images = prepare(DataOptions(dataset_name=str(root), resolution=8, channels=1))
    assert images.train.shape[1:] == (1, 8, 8)


def test_colour_after_grayscale_makes_all_colour(tmp_path):
    root = folder_of_images(tmp_path / "d", 30)
    picture(1, channels=3).save(root / "9999.png")
    images = prepare(DataOptions(dataset_name=str(root)))
    assert images.channels == 3
    gray = [image for image in images.train if (image[0] == image[1]).all() and (image[1] == image[2]).all()]
    assert len(gray) >= 27


def test_alpha_sixteen_bits_and_orientation(tmp_path):
    root = folder_of_images(tmp_path / "d", 30, size=(4, 4))
    Image.new("LA", (4, 4), (0, 0)).save(root / "zz_transparent.png")
    Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)).save(root / "zz_deep.png")
    sideways = Image.new("L", (4, 4), 0)
    sideways.putpixel((0, 0), 255)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 77, 77, 77])
    palette.save(root / "zz_palette.png")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(root / "zz_float.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to view
    sideways.save(root / "zz_sideways.png", exif=exif)
    images = prepare(DataOptions(dataset_name=str(root)))
    pixels = pixel_set(images.train, images.eval)
    assert bytes([255] * 16) in pixels
    assert bytes([100] * 16) in pixels
    assert bytes([77] * 16) in pixels
    assert images.channels == 1
    assert bytes([128] * 16) in pixels, "0.5 of 0 to 1"
    assert "floating-point numbers from 0.5 to 0.5: 0 becomes black and 1 white" in " ".join(images.notes)
    assert bytes([0, 0, 0, 255] + [0] * 12) in pixels


def test_broken_images_are_skipped_counted_and_named(tmp_path):
    root = folder_of_images(tmp_path / "d", 30)
    (root / "0007.png").write_bytes(b"not an image")
    whole = (root / "0008.png").read_bytes()
    (root / "0008.png").write_bytes(whole[: len(whole) // 2])
    images = prepare(DataOptions(dataset_name=str(root)))
    assert len(images.train) + len(images.eval) == 28
    note = images.notes[-1]
    assert "skipped 2 of 30" in note
    assert "0007.png" in note
    assert "0008.png" in note


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda d: None, {"dataset_name": "./nowhere"}, "'./nowhere': no such folder"),
        (lambda d: None, {"dataset_name": "a b/c"}, "'a b/c': no such folder, and no name"),
        (lambda d: None, {"dataset_name": "nobody/nothing"}, "'nobody/nothing'.*Hub cannot be reached"),
        (lambda d: None, {}, "the folder is empty"),
        (lambda d: (folder_of_images(d, 30), picture(1, (9, 14)).save(d / "z.png")), {}, "mixed sizes.*9x9.*12x12.*--resolution"),
        (lambda d: (folder_of_images(d, 30), picture(1, (9, 9)).save(d / "z.png")), {}, "mixed sizes.*9x9.*12x12.*--resolution"),
        (lambda d: [(d / f"{i}.png").write_bytes(b"x") for i in range(25)], {}, "none of 25 images is usable; the first: .*0.png"),
        (lambda d: folder_of_images(d, 1), {}, "too few"),
        (lambda d: parquet(d / "train.parquet", [1, 2], "number", {"text": ["a", "b"]}, typed=False), {}, "no image column.*number, text"),
        (lambda d: parquet(d / "train.parquet", [picture(1)] * 25, "a"), {"image_column": "b"}, "--image_column 'b': the columns are a"),
        (lambda d: parquet(d / "train.parquet", [picture(1)] * 25), {"train_split": "big"}, "--train_split 'big': .* has train"),
        (lambda d: parquet(d / "train.parquet", [picture(1)] * 25), {"eval_split": "big"}, "--eval_split 'big': .* has train"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, make, options, message):
    folder = tmp_path / "d"
    folder.mkdir()
    make(folder)
    with pytest.raises(ValueError, match=message) as error:
        prepare(DataOptions(**{"dataset_name": str(folder), **options}))
    assert "\n" not in str(error.value)


def test_second_start_reads_what_the_first_prepared(tmp_path):
    root = folder_of_images(tmp_path / "d")
    first = prepare(DataOptions(dataset_name=str(root)))
    for file in root.iterdir():  # as if nothing had changed, but whoever reads the pictures again finds none
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        file.write_bytes(bytes(file.stat().st_size))
        os.utime(file, ns=times)
    again = prepare(DataOptions(dataset_name=str(root)))
    assert first.fingerprint == again.fingerprint
    assert isinstance(again.train, np.memmap)
    assert np.array_equal(first.train, again.train)


def test_changed_files_and_settings_are_noticed(tmp_path):
    root = folder_of_images(tmp_path / "d")
    fingerprints = {prepare(DataOptions(dataset_name=str(root))).fingerprint}
    fingerprints.add(prepare(DataOptions(dataset_name=str(root), resolution=8)).fingerprint)
    picture(1234).save(root / "0000.png")
    fingerprints.add(prepare(DataOptions(dataset_name=str(root))).fingerprint)
    assert len(fingerprints) == 3


def test_the_fingerprint_is_of_the_pixels_not_the_path(tmp_path):
    one, two = (prepare(DataOptions(dataset_name=str(folder_of_images(tmp_path / name)))) for name in ("a", "b"))
    assert one.fingerprint == two.fingerprint


def test_the_hub_going_down_does_not_take_prepared_data_away(monkeypatch, caplog):
    """First with a Hub that answers, then without one: the commit prepared last is used, and said."""
    import datasets
    import huggingface_hub

    info = type("Info", (), {"sha": "c0ffee"})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *args, **kwargs: info)
    rows = datasets.Dataset.from_dict({"image": [picture(i) for i in range(25)]}).cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: datasets.DatasetDict({"train": rows}))
    first = prepare(DataOptions(dataset_name="somebody/pictures"))

    def down(*args, **kwargs):
        raise ConnectionError("connection refused")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", down)
    with caplog.at_level(logging.WARNING):
        again = prepare(DataOptions(dataset_name="somebody/pictures"))
    assert again.fingerprint == first.fingerprint
    assert "c0ffee" in caplog.text


def _prepare_in_process(queue, root):
    queue.put(prepare(DataOptions(dataset_name=str(root))).fingerprint)


@pytest.mark.slow
def test_two_preparations_at_once(tmp_path):
    root = folder_of_images(tmp_path / "d", 200)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_prepare_in_process, args=(queue, root)) for _ in range(2)]
    for process in processes:
        process.start()
    assert queue.get(timeout=120) == queue.get(timeout=120)
    for process in processes:
        process.join()
    assert [p.name for p in cache_folder().iterdir() if p.is_dir()] == [
        p.parent.name for p in cache_folder().glob("*/meta.json")
    ]


@pytest.mark.slow
def test_a_killed_preparation_is_not_taken_for_a_finished_one(tmp_path):
    root = folder_of_images(tmp_path / "d", 3000, size=(32, 32))
    code = f"from ddpm.data import *; prepare(DataOptions(dataset_name={str(root)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    deadline = time.monotonic() + 120
    while not any(f.stat().st_size > 200_000 for f in cache_folder().glob(".*/train.u8")):
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(cache_folder().glob("*/meta.json"))
    images = prepare(DataOptions(dataset_name=str(root)))
    assert len(images.train) == 2850
    assert not list(cache_folder().glob(".*/"))


def test_values_are_exactly_the_bins_of_the_bound():
    x = to_float(np.arange(256, dtype=np.uint8))
    assert x.dtype == torch.float32
    assert (x[0], x[255]) == (-1, 1)
    torch.testing.assert_close(x, torch.arange(256) / 127.5 - 1, rtol=0, atol=0)


def test_prepared_files_say_what_they_are(tmp_path):
    prepare(DataOptions())
    meta = json.loads(next(cache_folder().glob("*/meta.json")).read_text())
    assert (meta["num_train"], meta["num_eval"], meta["resolution"], meta["channels"]) == (1707, 90, 8, 1)
