"""Images in .npy and .npz files: which arrays are images and labels, which are splits, and what is refused and why."""

import io
import re

import numpy as np
import pytest
from picture_files import fill

from ddpm.data import DataOptions, prepare

RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 256, (40, 12, 12), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 12, 12, 3), np.uint8)
LABELS = np.arange(40) % 4


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


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
        ({"x": GRAY.astype(np.int64)}, 'is needed; convert it by x.astype("uint8")'),
        ({"x": GRAY.astype(np.uint16) * 16}, 'is needed; convert it by (x * (255 / 4080)).round().astype("uint8")'),
        ({"x": GRAY > 99}, 'is needed; convert it by x.astype("uint8") * 255'),
        ({"x": GRAY.reshape(40, 144)}, "x (uint8, 40 x 144): uint8 of shape (N, H, W) with W > 4, or (N, H, W, C) with C = 1, 3 or 4, is needed; convert it by x.reshape(-1, 12, 12)"),
        ({"x_train": GRAY.reshape(40, 144), "x_test": GRAY.reshape(40, 144)}, "_train.reshape(-1, 12, 12)"),
        ({"x": GRAY.astype(np.int64) % 2}, 'convert it by x.astype("uint8") * 255'),
        ({"x": COLOUR.transpose(0, 3, 1, 2).astype(np.float32)}, 'convert it by x.transpose(0, 2, 3, 1).round().astype("uint8")'),
        ({"x": GRAY[0], "y": GRAY[1]}, "if each file is one image, np.stack makes one array of them"),
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
    for content, said in (
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer, not the file itself: run `git lfs"),
        (npy(GRAY)[:-9], "it is cut off"),
        (npy(np.array([{}], object)), "it holds Python objects, which could run code"),
    ):
        (tmp_path / "broken.npy").write_bytes(content)
        with pytest.raises(ValueError, match=f"'broken.npy' cannot be read: {said}"):
            load(tmp_path / "broken.npy")
    (tmp_path / "broken.npy").unlink()
    np.savez(tmp_path / "set.npz", x=GRAY)
    (tmp_path / "set.npz").rename(tmp_path / "zipped.npy")  # what a file is decides, not its name
    np.save(tmp_path / "x.npy", GRAY)
    (tmp_path / "x.npy").rename(tmp_path / "plain.npz")
    for name in ("zipped.npy", "plain.npz"):
        assert len(load(tmp_path / name).train) == 38
    fill(tmp_path / "both", range(30))
    np.save(tmp_path / "both/features.npy", GRAY)
    images = load(tmp_path / "both")
    assert len(images.train) + len(images.eval) == 30
    assert "1 .npy (no pictures that can be read" in " ".join(images.notes)


def test_files_of_one_name_in_several_folders_are_kept_apart(tmp_path):
    for split, part in (("train", slice(30)), ("test", slice(30, 40))):
        (tmp_path / "d" / split).mkdir(parents=True)
        np.save(tmp_path / "d" / split / "images.npy", GRAY[part])
        np.save(tmp_path / "d" / split / "labels.npy", LABELS[part])
    images = load(tmp_path / "d")
    assert [p.tobytes() for p in images.train] == first(GRAY[:30])
    assert by_label(images) == dict(zip(first(GRAY), LABELS.tolist(), strict=True))
    for folder in ("a", "b"):
        (tmp_path / "two" / folder).mkdir(parents=True)
        np.save(tmp_path / "two" / folder / "images.npy", GRAY)
    with pytest.raises(ValueError, match=r"several arrays of images \(a/images, b/images\): pass --image_column"):
        load(tmp_path / "two")


@pytest.mark.parametrize("labels", [np.eye(4)[LABELS], LABELS.astype(np.float32), LABELS[:, None]])
def test_labels_as_one_hot_vectors_and_with_a_point(tmp_path, labels):
    np.savez(tmp_path / "set.npz", images=GRAY, labels=labels)
    assert by_label(load(tmp_path / "set.npz")) == dict(zip(first(GRAY), LABELS.tolist(), strict=True))


def test_arrays_that_are_not_used_are_named(tmp_path):
    """A third split, and Python objects, which are left out and do not cost the images."""
    splits = {"train_images": GRAY, "test_images": GRAY[:5], "val_images": GRAY[5:9]}
    np.savez(tmp_path / "set.npz", about=np.array({"a": 1}, object), **splits)
    images = load(tmp_path / "set.npz")
    assert (len(images.train), len(images.eval)) == (40, 5)
    said = "arrays that are not used: val_images (uint8, 4 x 12 x 12), about (Python objects, which could run code)"
    assert said in images.notes


@pytest.mark.parametrize("word", ["holdout", "held_out", "hold-out", "heldOut"])
def test_held_out_arrays_in_any_spelling(tmp_path, word):
    np.savez(tmp_path / "set.npz", train_images=GRAY[:30], **{f"{word}_images": GRAY[30:]})
    images = load(tmp_path / "set.npz")
    assert [p.tobytes() for p in images.eval] == first(GRAY[30:])
    assert not any("not used" in line for line in images.notes)
    assert len(load(tmp_path / "set.npz", train_split="train", eval_split=word).eval) == 10
