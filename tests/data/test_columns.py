"""Images in the columns of tables as people write them: bytes, base64, .npy and lists instead of image files."""

import base64
import io
import json
import pickle
import re
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm.data import DataOptions, prepare

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (30, 12, 12), np.uint8)
COLOUR = RNG.integers(0, 256, (30, 12, 12, 3), np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(pixels):
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def text(pixels):
    return base64.b64encode(png(pixels)).decode()


def lists(kind, depth):
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


def table(folder, columns):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "train.parquet")
    return DataOptions(dataset_name=str(folder))


def pixels_of(images):
    """All images as (N, H, W, C), sorted by their bytes."""
    together = np.concatenate([images.train, images.eval]).transpose(0, 2, 3, 1)
    return np.stack(sorted(together, key=lambda image: image.tobytes()))


def assert_holds(images, expected):
    expected = expected.reshape(len(expected), 12, 12, -1)
    assert np.array_equal(pixels_of(images), np.stack(sorted(expected, key=lambda image: image.tobytes())))


@pytest.mark.parametrize(
    ("pixels", "write", "kind"),
    [
        (GRAY, png, pa.binary()),
        (COLOUR, png, pa.large_binary()),
        (COLOUR, lambda p: {"bytes": png(p), "path": None}, None),
        (GRAY, npy, pa.binary()),
        (COLOUR, lambda p: npy(p.transpose(2, 0, 1)), pa.binary()),
        (GRAY, lambda p: npy(p.astype(np.int64)[None, None]), pa.binary()),
        (GRAY, text, pa.string()),
        (GRAY, lambda p: " ".join(map(str, p.ravel())), pa.string()),  # as FER2013 has them
        (GRAY, lambda p: "data:image/png;base64," + text(p), pa.large_string()),
        (GRAY, lambda p: re.sub("(.{76})", r"\1\n", base64.urlsafe_b64encode(png(p)).decode().rstrip("=")), pa.string()),
        (GRAY, lambda p: text(p).encode(), pa.binary()),
        (COLOUR, lambda p: json.dumps(p.tolist()), pa.string()),
        (GRAY, lambda p: p.ravel().tolist(), lists(pa.uint8(), 1)),
        (GRAY, lambda p: p.ravel().tolist(), pa.list_(pa.uint8(), 144)),
        (GRAY, lambda p: p.tolist(), lists(pa.int64(), 2)),
        (COLOUR, lambda p: p.tolist(), lists(pa.uint8(), 3)),
        (COLOUR, lambda p: p.transpose(2, 0, 1).tolist(), lists(pa.uint8(), 3)),
        (GRAY, lambda p: p[None].tolist(), lists(pa.int32(), 3)),
        (GRAY, lambda p: p[..., None].tolist(), pa.large_list(pa.list_(pa.list_(pa.uint8())))),
    ],
)  # fmt: skip
def test_any_column_trains_whose_shape_is_known(tmp_path, pixels, write, kind):
    cells = pa.array([write(p) for p in pixels], kind)
    images = prepare(
        table(tmp_path / "d", {"id": list(range(30)), "image": cells, "label": [i % 3 for i in range(30)]})
    )
    assert_holds(images, pixels)
    assert "images in column 'image'" in images.notes[0]
    of = {image.tobytes(): label for image, label in zip(pixels, [i % 3 for i in range(30)], strict=True)}
    assert [of[image.transpose(1, 2, 0).tobytes()] for image in images.train] == images.train_labels.tolist()


def test_arrays_of_the_datasets_library_train(tmp_path):
    import datasets

    (tmp_path / "d").mkdir()
    features = datasets.Features({"pixels": datasets.Array3D((12, 12, 3), "uint8")})
    datasets.Dataset.from_dict({"pixels": COLOUR}, features=features).to_parquet(str(tmp_path / "d/train.parquet"))
    assert_holds(prepare(DataOptions(dataset_name=str(tmp_path / "d"))), COLOUR)


def test_a_column_is_found_by_its_name_and_by_what_it_holds(tmp_path):
    other = {"boxes": [[[1, 2, 3, 4]]] * 30, "embedding": [[0.5] * 144] * 30, "caption": ["a cat"] * 30}
    assert_holds(prepare(table(tmp_path / "a", other | {"scan": [png(p) for p in GRAY]})), GRAY)
    assert_holds(
        prepare(table(tmp_path / "b", other | {"rows": GRAY.tolist(), "img": [text(p) for p in COLOUR]})), COLOUR
    )
    two = table(tmp_path / "c", {"before": [png(p) for p in GRAY], "after": [png(p) for p in COLOUR]})
    with pytest.raises(ValueError, match=r"more than one image column \(before, after\).*pass --image_column"):
        prepare(two)
    assert_holds(prepare(DataOptions(two.dataset_name, image_column="after")), COLOUR)


def test_empty_and_damaged_rows_are_left_out_and_named(tmp_path):
    cells = [png(p) for p in GRAY]
    cells[0], cells[3], cells[7] = None, b"", cells[7][: len(cells[7]) // 2]
    images = prepare(table(tmp_path / "d", {"image": pa.array(cells, pa.binary())}))
    assert_holds(images, np.delete(GRAY, [0, 3, 7], 0))
    assert "skipped 3 of 30 images, unreadable: row 0: it is empty; row 3: it is empty; row 7: " in images.notes[-1]


@pytest.mark.parametrize(
    ("cell", "kind", "message"),
    [
        ("pictures/1.png", pa.string(), "text 'pictures/1.png', and no image in base64; if it is the path .* store their bytes"),
        ("https://example.com/1.png", pa.string(), "web address 'https://example.com/1.png': download the pictures"),
        ("data:image/svg+xml,<svg/>", pa.string(), "data: URI that is not base64"),
        (bytes(144), pa.binary(), "144 bytes of no known image format .*: store the bytes of PNG or JPEG files"),
        (pickle.dumps(GRAY[0]), pa.binary(), "a Python pickle, which could run code: store the bytes of PNG"),
        (npy(np.array([{}], object)), pa.binary(), "Object arrays cannot be loaded"),
        (npy(GRAY[0])[:90], pa.binary(), "a .npy file that cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", pa.binary(), "a Git LFS pointer, not the file itself: run `git lfs pull`"),
        (b"\0\0\0\x18ftypheic" + bytes(99), pa.binary(), "a HEIC or AVIF picture: store the bytes of PNG or JPEG"),
        (bytes(144), pa.binary(144), "144 bytes of no known image format"),
        ({"data": b"x", "name": "a"}, None, "a record of data, name; a record of bytes and path, or bytes alone, are needed"),
        ({"bytes": None, "path": "1.png"}, None, "only the path of a file, which is not there: store the files' bytes"),
        ([png(GRAY[0])] * 2, pa.list_(pa.binary()), "a list of 2 files; each row needs one image"),
        ([{"bytes": png(GRAY[0]), "path": ""}] * 2, None, "a list of 2 files; each row needs one image"),
        (COLOUR[0].ravel().tolist(), lists(pa.uint8(), 1), r"flat list of 432 numbers, 12x12 pixels of 3 channels .* \(12, 12, 3\)"),
        ([1] * 143, lists(pa.uint8(), 1), "flat list of 143 numbers, which is no square image: store lists of rows"),
        ([[1, 2], [3]], lists(pa.uint8(), 2), "lists of different lengths"),
        ([[[1, 2]] * 5] * 5, lists(pa.uint8(), 3), r"numbers of shape \(5, 5, 2\); \(H, W\), \(H, W, 3\) or"),
        ([[300] * 12, [-5] * 12] * 6, lists(pa.int32(), 2), "do not fit 0 to 255; the values are -5 to 300: pass --value_range -5 300"),
        (None, pa.binary(), "its first 16 rows are empty"),
    ],
)  # fmt: skip
def test_what_a_column_holds_instead_is_said_in_one_line(tmp_path, cell, kind, message):
    options = table(tmp_path / "d", {"image": pa.array([cell] * 25, kind)})
    for named in (None, "image"):
        with pytest.raises(ValueError, match=message if cell is not None or not named else "it is empty") as error:
            prepare(DataOptions(options.dataset_name, image_column=named))
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400


def test_lists_of_which_some_do_not_fit_are_refused_whole(tmp_path):
    """Otherwise training would see the darker half of the images, and nothing of the others."""
    rows = [(image.astype(int) * (1 + i % 2)).tolist() for i, image in enumerate(GRAY)]
    options = table(tmp_path / "d", {"image": rows})
    with pytest.raises(
        ValueError, match=r"15 images of 30 hold integers that do not fit 0 to 255; .* --value_range 0 510"
    ):
        prepare(options)
    images = prepare(DataOptions(options.dataset_name, value_range=(0, 510)))
    expected = np.stack([np.round(np.array(row) / 2).astype(np.uint8) for row in rows])
    assert_holds(images, expected)


# -------------------------------------------------------------------------------------------------------------- labels


def labelled(folder, cells, kind=None, **more):
    """The class names of a table whose column "label" holds these cells, and the label of each picture by its name."""
    options = table(folder, {"image": [png(p) for p in GRAY], "label": pa.array(cells, kind)} | more)
    images = prepare(options)
    return images, names_of(images)


def names_of(images):
    """What each picture is called, None if it has no label, in the order of GRAY."""
    found = {}
    for pixels, labels in ((images.train, images.train_labels), (images.eval, images.eval_labels)):
        classes = images.class_of(labels, len(pixels))
        found |= {
            image.tobytes(): images.class_names[c] if c >= 0 else None for image, c in zip(pixels, classes, strict=True)
        }
    return [found[image.tobytes()] for image in GRAY]


KINDS = ("dog", "ant", " cat ")


@pytest.mark.parametrize(
    ("cells", "kind", "classes", "names"),
    [
        ([KINDS[i % 3] for i in range(30)], pa.string(), ("ant", "cat", "dog"), ["dog", "ant", "cat"] * 10),
        ([KINDS[i % 3] for i in range(30)], pa.large_string(), ("ant", "cat", "dog"), ["dog", "ant", "cat"] * 10),
        (["dog", "ant", None] * 10, pa.string(), ("ant", "dog"), ["dog", "ant", None] * 10),
        (["dog", "", "ant"] * 10, pa.string(), ("ant", "dog"), ["dog", None, "ant"] * 10),
        (["10", "9", "9"] * 10, pa.string(), ("9", "10"), ["10", "9", "9"] * 10),
        ([True, False, None] * 10, pa.bool_(), ("0", "1"), ["1", "0", None] * 10),
        ([5, 3, 200] * 10, pa.uint8(), ("3", "5", "200"), ["5", "3", "200"] * 10),
        ([5, -1, None] * 10, pa.int64(), ("5",), ["5", None, None] * 10),
        (["数字", "x\ny", "a"] * 10, pa.string(), ("a", "x y", "数字"), ["数字", "x y", "a"] * 10),
    ],
)
def test_a_column_of_labels_may_hold_numbers_or_text(tmp_path, cells, kind, classes, names):
    images, found = labelled(tmp_path / "d", cells, kind)
    assert images.class_names == classes
    assert found == names
    assert "labels in column 'label'" in images.notes[0]
    assert prepare(DataOptions(str(tmp_path / "d"))).class_names == classes, "from the cache"


def test_captions_are_no_labels(tmp_path):
    images, _ = labelled(tmp_path / "d", [f"a picture of number {i}" for i in range(30)], pa.string())
    assert images.class_names == ()
    assert images.train_labels is None


def test_a_column_of_labels_can_be_named(tmp_path):
    """Fine and coarse labels, as in CIFAR-100, and columns that nothing tells to be labels."""
    import datasets

    features = {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["a", "b", "c"]), "coarse": datasets.ClassLabel(names=["x", "y"])}  # fmt: skip
    columns = {"img": [Image.fromarray(p) for p in GRAY], "fine": [i % 3 for i in range(30)], "coarse": [i % 2 for i in range(30)]}  # fmt: skip
    columns |= {"size": [(i % 2) / 2 for i in range(30)], "score": [float(i % 3) if i % 5 else None for i in range(30)]}
    features |= {"size": datasets.Value("float64"), "score": datasets.Value("float32")}
    (tmp_path / "d").mkdir()
    rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    rows.to_parquet(str(tmp_path / "d/train.parquet"))
    options = {"dataset_name": str(tmp_path / "d")}
    first = prepare(DataOptions(**options))
    assert (first.class_names, names_of(first)) == (("a", "b", "c"), ["a", "b", "c"] * 10)
    assert "labels in column 'fine' (--label_column chooses coarse instead)" in first.notes[0]
    coarse = prepare(DataOptions(**options, label_column="coarse"))
    assert (coarse.class_names, names_of(coarse)) == (("x", "y"), ["x", "y"] * 15)
    assert coarse.fingerprint == first.fingerprint, "the pixels are the same"
    assert prepare(DataOptions(**options, label_column="size")).class_names == ("0", "0.5")
    score = prepare(DataOptions(**options, label_column="score"))
    assert names_of(score) == [str(i % 3) if i % 5 else None for i in range(30)]
    for name, said in (
        ("colour", "the columns are img, fine, coarse"),
        ("img", "it holds images; the columns are img"),
    ):
        with pytest.raises(ValueError, match=f"--label_column '{name}': {said}"):
            prepare(DataOptions(**options, label_column=name))


# ------------------------------------------------------------------------------------------- several tables, odd places


def rows(pixels=GRAY):
    return {"image": pa.array([png(p) for p in pixels], pa.binary())}


def damage(path, how):
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[:-60], "empty": b"", "pointer": b"version https://git-lfs.github.com/spec/v1"}[how]
    )


@pytest.mark.parametrize(
    ("how", "said"), [("cut", "not a parquet file"), ("empty", "it is empty"), ("pointer", "it is a Git LFS pointer")]
)
def test_a_damaged_table_is_named(tmp_path, how, said):
    options = table(tmp_path / "d", rows())
    pq.write_table(pa.table(rows()), tmp_path / "d/train-2.parquet")
    damage(tmp_path / "d/train-2.parquet", how)
    with pytest.raises(ValueError, match=f"cannot be read: 'train-2.parquet': .*{said}") as error:
        prepare(options)
    assert "\n" not in str(error.value)
    Image.fromarray(GRAY[0]).save(tmp_path / "d/cover.png")  # beside pictures it is a warning
    for number in range(20):
        Image.fromarray(COLOUR[number]).save(tmp_path / f"d/{number}.png")
    (warning,) = (note for note in prepare(options).notes if note.startswith("Warning"))
    assert re.search(f"tables beside the pictures are not used: .*'train-2.parquet': .*{said}", warning)


def test_a_tar_archive_that_is_cut_off_is_named(tmp_path, caplog):
    (tmp_path / "d").mkdir()
    with tarfile.open(tmp_path / "d/set.tar", "w") as opened:
        for number, pixels in enumerate(COLOUR):
            member = tarfile.TarInfo(f"{number:03d}.png")
            member.size = len(png(pixels))
            opened.addfile(member, io.BytesIO(png(pixels)))
    with tarfile.open(tmp_path / "d/set.tar") as opened:
        ends = [member.offset for member in opened]
    content = (tmp_path / "d/set.tar").read_bytes()
    assert_holds(prepare(DataOptions(str(tmp_path / "d"))), COLOUR)
    assert not caplog.text
    for end in (600, ends[22] + 600, ends[23] + 100):  # in a picture, and in a header
        (tmp_path / "d/set.tar").write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"cannot be read: 'set.tar': (unexpected end of data|it is cut off)"):
            prepare(DataOptions(str(tmp_path / "d")))
    (tmp_path / "d/set.tar").write_bytes(content[: ends[24]])  # between two members: some programs write no mark
    assert_holds(prepare(DataOptions(str(tmp_path / "d"))), COLOUR[:24])
    assert "'set.tar' ends without the mark of an end; if it is cut off, images are missing" in caplog.text


def test_tables_of_different_columns_and_without_rows_are_one_line(tmp_path):
    options = table(tmp_path / "a", rows())
    pq.write_table(pa.table({"img": rows()["image"]}), tmp_path / "a/train-2.parquet")
    with pytest.raises(ValueError, match=r"^dataset .* cannot be read: its tables have different columns$"):
        prepare(options)
    with pytest.raises(ValueError, match=r"no rows in 'train.parquet'$"):
        prepare(table(tmp_path / "b", {"image": pa.array([], pa.binary())}))


def test_parquet_files_of_another_split_stay_out_of_training(tmp_path):
    (tmp_path / "d/data").mkdir(parents=True)
    for name, part in (("train", GRAY[:20]), ("extra", GRAY[20:27]), ("web", GRAY[27:])):
        pq.write_table(pa.table(rows(part)), tmp_path / f"d/data/{name}-00000-of-00001.parquet")
    images = prepare(DataOptions(str(tmp_path / "d")))
    assert len(images.train) + len(images.eval) == 20
    held_out = prepare(DataOptions(str(tmp_path / "d"), train_split="extra", eval_split="web"))
    assert (len(held_out.train), len(held_out.eval)) == (7, 3)
    (tmp_path / "one/data").mkdir(parents=True)
    for number in (0, 1):  # named after the dataset
        part = pa.table(rows(GRAY[15 * number : 15 * number + 15]))
        pq.write_table(part, tmp_path / f"one/data/shapes-{number:05d}-of-00002.parquet")
    assert_holds(prepare(DataOptions(str(tmp_path / "one"))), GRAY)


def test_a_held_out_table_may_lack_the_labels(tmp_path):
    options = table(tmp_path / "d", {**rows(GRAY[:20]), "label": pa.array([0, 1] * 10)})
    pq.write_table(pa.table(rows(GRAY[20:])), tmp_path / "d/test.parquet")
    images = prepare(options)
    assert (len(images.train), len(images.eval)) == (20, 10)
    assert images.train_labels is not None
    assert "the split 'test' has no column 'label', so its images have no labels" in images.notes


def test_a_table_with_tabs_trains(tmp_path):
    (tmp_path / "d").mkdir()
    lines = [f"{base64.b64encode(png(pixels)).decode()}\t{n % 2}" for n, pixels in enumerate(GRAY)]
    (tmp_path / "d/data.tsv").write_text("\n".join(["image\tlabel", *lines]))
    images = prepare(DataOptions(str(tmp_path / "d"), label_column="label"))
    assert_holds(images, GRAY)
    assert set(images.train_labels.tolist()) == {0, 1}


def test_rows_of_numbers_in_text_are_an_image_whatever_their_column_is_called(tmp_path):
    cells = [json.dumps((pixels / 255).tolist()) for pixels in GRAY]
    assert_holds(prepare(table(tmp_path / "d", {"matrix": pa.array(cells)})), GRAY)


def test_a_shard_that_is_missing_is_a_warning(tmp_path):
    for number in (0, 2):
        (tmp_path / "d/data").mkdir(parents=True, exist_ok=True)
        path = tmp_path / f"d/data/train-{number:05d}-of-00003.parquet"
        pq.write_table(pa.table(rows(GRAY[10 * number : 10 * number + 10])), path)
    images = prepare(DataOptions(str(tmp_path / "d")))
    assert len(images.train) + len(images.eval) == 20
    (warning,) = (note for note in images.notes if note.startswith("Warning"))
    assert "'data/train-00001-of-00003.parquet' should be there, too" in warning


def test_a_table_of_results_beside_the_images_is_not_the_only_split(tmp_path):
    options = table(tmp_path / "d", rows())
    (tmp_path / "d/train.parquet").rename(tmp_path / "d/data.parquet")
    pq.write_table(pa.table({"score": [0.5]}), tmp_path / "d/test_results.parquet")
    images = prepare(options)
    assert_holds(images, GRAY)
    assert any(note.startswith("Warning: the split 'test' is not used, because it has no col") for note in images.notes)
    with pytest.raises(ValueError, match=r"--eval_split 'test': it has no column 'image'$"):
        prepare(DataOptions(options.dataset_name, eval_split="test"))


def test_token_ids_beside_pictures_are_no_images(tmp_path):
    (tmp_path / "d").mkdir()
    for number, pixels in enumerate(GRAY):
        Image.fromarray(pixels).save(tmp_path / f"d/{number:03d}.png")
    options = table(tmp_path / "d", {"input_ids": [list(range(64))] * 30})
    assert_holds(prepare(options), GRAY)


def test_folders_with_brackets_and_what_save_to_disk_wrote(tmp_path):
    import datasets

    assert_holds(prepare(table(tmp_path / "my [v1] set?", rows())), GRAY)
    saved = datasets.Dataset.from_dict({"image": [png(p) for p in GRAY]}).cast_column("image", datasets.Image())
    saved.save_to_disk(tmp_path / "saved")
    assert_holds(prepare(DataOptions(str(tmp_path / "saved"))), GRAY)
    with pytest.raises(ValueError, match="takes neither '::' nor names that are not UTF-8 in the path of a table"):
        prepare(table(tmp_path / "a::b", rows()))


def test_a_column_for_each_pixel_says_what_to_do(tmp_path):
    (tmp_path / "d").mkdir()
    names = ["label", *(f"pixel{i}" for i in range(144))]
    (tmp_path / "d/train.csv").write_text("\n".join([",".join(names), *[",".join("1" for _ in names)] * 30]))
    with pytest.raises(ValueError, match=r"has a column for each pixel: .* and 137 more; store the pixels as an array"):
        prepare(DataOptions(str(tmp_path / "d")))
