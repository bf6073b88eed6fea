"""Images in .npy and .npz files: which arrays are images and labels, which are splits, and what is refused and why."""

import re

import numpy as np
import pytest
from picture_files import fill

from ddpm.data import DataOptions, prepare

RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 256, (40, 12, 12), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 12, 12, 3), np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def load(path, **options):
    return prepare(DataOptions(str(path), **options))


def by_label(images):
    """The label of each image, by its bytes."""
    parts = [(images.train, images.train_labels), (images.eval, images.eval_labels)]
    return {pixels.tobytes(): int(label) for part, labels in parts for pixels, label in zip(part, labels, strict=True)}


def first(array):
    """(N, H, W[, C]) as the bytes of (C, H, W) images."""
    array = array if array.ndim == 4 else array[..., None]
    return [image.tobytes() for image in np.ascontiguousarray(array.transpose(0, 3, 1, 2))]


@pytest.mark.parametrize("array", [GRAY, COLOUR, GRAY[..., None], np.asfortranarray(GRAY), GRAY[:, :, :8]])
def test_an_array_of_a_npy_file_is_the_images(tmp_path, array):
    np.save(tmp_path / "pictures.npy", array)
    images = load(tmp_path / "pictures.npy")
    side = min(array.shape[1:3])
    middle = array[:, (array.shape[1] - side) // 2 :, (array.shape[2] - side) // 2 :][:, :side, :side]
    assert sorted(p.tobytes() for part in (images.train, images.eval) for p in part) == sorted(first(middle))
    assert images.notes[0] == "training on array 'pictures'; held out: 5 %; in 'pictures.npy'"
    assert images.train_labels is None


@pytest.mark.parametrize(
    "names",
    [("images", "labels"), ("x", "y"), ("arr_0", "arr_1"), ("data", "target"), ("pictures", "class_ids")],
)
def test_labels_come_from_an_array_of_the_same_npz_where_it_fits(tmp_path, names):
    more = {"mean": np.float32(3), "codes": np.arange(7)}
    np.savez(tmp_path / "set.npz", **dict(zip(names, (GRAY, LABELS.reshape(-1, 1)), strict=True)), **more)
    images = load(tmp_path / "set.npz")
    assert by_label(images) == dict(zip(first(GRAY), LABELS.tolist(), strict=True))
    assert f"array '{names[0]}' with labels '{names[1]}'" in images.notes[0]
    assert images.notes[1] == "arrays that are not used: codes (int64, 7), mean (float32, a single value)"


def test_text_is_a_label_too_and_flags_choose_among_several(tmp_path):
    names = np.array(["cat", "dog", "eel", "fox"])[LABELS]
    np.savez(tmp_path / "set.npz", a=GRAY, b=255 - GRAY, kind=names, colour=LABELS // 2)
    with pytest.raises(ValueError, match=r"has several arrays of images \(a, b\): pass --image_column$"):
        load(tmp_path / "set.npz")
    images = load(tmp_path / "set.npz", image_column="b", label_column="kind")
    assert images.class_names == ("cat", "dog", "eel", "fox")
    assert by_label(images) == dict(zip(first(255 - GRAY), LABELS.tolist(), strict=True))
    assert load(tmp_path / "set.npz", image_column="a").train_labels is None, "two arrays fit, and none is called so"
    with pytest.raises(ValueError, match=r"--label_column 'size': .*the arrays are a \(uint8, 40 x 12 x 12\), b "):
        load(tmp_path / "set.npz", image_column="a", label_column="size")


@pytest.mark.parametrize("form", ["npz", "folder of npz", "folder of npy"])
def test_words_in_names_are_splits(tmp_path, form):
    arrays = {"x_train": GRAY[:30], "y_train": LABELS[:30], "x_test": GRAY[30:], "y_test": LABELS[30:]}
    path = tmp_path / "set"
    path.mkdir()
    if form == "npz":
        np.savez(path / "keras.npz", **arrays)
        path /= "keras.npz"
    elif form == "folder of npz":
        np.savez(path / "train.npz", images=GRAY[:30], labels=LABELS[:30])
        np.savez(path / "test.npz", images=GRAY[30:], labels=LABELS[30:])
    else:
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    images = load(path)
    assert [p.tobytes() for p in images.train] == first(GRAY[:30])
    assert [p.tobytes() for p in images.eval] == first(GRAY[30:])
    assert images.eval_split == "test"
    assert by_label(images) == dict(zip(first(GRAY), LABELS.tolist(), strict=True))
    swapped = load(path, train_split="test", eval_split="train")
    assert len(swapped.train) == 10


def test_arrays_of_python_objects_are_left_out_and_the_others_are_read(tmp_path):
    names = np.array(["ant", "bee"], object)
    np.savez(tmp_path / "set.npz", images=GRAY, labels=np.arange(40) % 2, class_names=names)
    images = load(tmp_path / "set.npz")
    assert len(images.train) + len(images.eval) == 40
    assert images.class_names == ("0", "1")
    assert images.notes[1] == "arrays that are not used: class_names (Python objects, which could run code)"
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder/images.npy", GRAY)
    np.save(tmp_path / "folder/labels.npy", np.array(["ant", "bee"] * 20, object))
    assert load(tmp_path / "folder").train_labels is None


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": GRAY.astype(np.float32) / 255}, 'x (float32, 40 x 12 x 12): uint8 of shape (N, H, W) with W > 4, or (N, H, W, C) with C = 1, 3 or 4, is needed; convert it by (255 * x).round().astype("uint8")'),
        ({"x": GRAY / 127.5 - 1}, '(127.5 * (x + 1)).round().astype("uint8")'),
        ({"x": COLOUR.transpose(0, 3, 1, 2)}, "x (uint8, 40 x 3 x 12 x 12): uint8 of shape (N, H, W) with W > 4, or (N, H, W, C) with C = 1, 3 or 4, is needed; convert it by x.transpose(0, 2, 3, 1)"),
        ({"x": GRAY.astype(np.int64)}, "x (int64, 40 x 12 x 12): uint8 of shape"),
        ({"x": GRAY.reshape(40, 144)}, "x (uint8, 40 x 144): uint8 of shape"),
        ({"x": COLOUR[0]}, "x (uint8, 12 x 12 x 3): uint8 of shape"),
        ({"x": GRAY[:0]}, "x (uint8, 0 x 12 x 12): uint8 of shape"),
        ({"x": GRAY, "x_train": GRAY[:20]}, "has two arrays for the split train, 'x' and 'x_train': pass --image_column"),
        ({"train_images": GRAY, "training_images": GRAY}, "two arrays for the split train, "),
        ({"x": GRAY[:, :4, :4]}, "x (uint8, 40 x 4 x 4): uint8 of shape (N, H, W) with W > 4"),
        ({"x": GRAY.astype(np.int64)}, "C = 1, 3 or 4, is needed; convert it by x.astype(\"uint8\")"),
        ({}, "'set.npz' cannot be read: it holds no arrays"),
        ({"x": np.array([{}, []], object)}, "'set.npz' cannot be read: it holds Python objects, which could run code"),
    ],
)  # fmt: skip
def test_other_arrays_are_refused_in_one_line_with_what_is_needed(tmp_path, arrays, said):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        load(tmp_path / "set.npz")
    assert "\n" not in str(error.value)


def test_files_that_are_no_arrays_and_arrays_beside_pictures(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"'broken.npz' cannot be read: "):
        load(tmp_path / "broken.npz")
    fill(tmp_path / "both", range(30))
    np.save(tmp_path / "both/features.npy", GRAY)
    images = load(tmp_path / "both")
    assert len(images.train) + len(images.eval) == 30
    assert "1 .npy (no pictures that can be read" in " ".join(images.notes)
