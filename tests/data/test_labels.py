"""Labels from the tables that people keep beside their pictures."""

import json
import re
import time

import numpy as np
import pytest
from picture_files import archive, fill, labels_of, load, note, png

from ddpm.config import preset
from ddpm.data import archives
from ddpm.data.listing import File
from ddpm.data.references import Index
from ddpm.training.labelling import Labelling

WANTED = {seed: seed % 3 for seed in range(40)}
NAMES = ("ant", "bee", "cat")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def lines(rows):
    return "\n".join(rows) + "\n"


def pairs(name="{:03d}.png"):
    return [(name.format(seed), seed % 3) for seed in range(40)]


TABLES = {
    "StyleGAN and EDM": ("dataset.json", json.dumps({"labels": [[f"x/{name}", label] for name, label in pairs()]})),
    "the same as an object": ("dataset.json", json.dumps({"labels": {f"x/{name}": label for name, label in pairs()}})),
    "one-hot": (
        "dataset.json",
        json.dumps({"labels": [[f"x/{n}", [int(k == i) for k in range(3)]] for n, i in pairs()]}),
    ),
    "metadata.csv": ("x/metadata.csv", lines(["file_name,text,label", *(f'{n},"a, b",{i}' for n, i in pairs())])),
    "metadata.jsonl": (
        "x/metadata.jsonl",
        lines(json.dumps({"file_name": n, "category": NAMES[i]}) for n, i in pairs()),
    ),
    "Kaggle's ids": ("labels.csv", lines(["id,breed", *(f"{n},{NAMES[i]}" for n, i in pairs("{:03d}"))])),
    "label first": ("y.csv", lines(["label,image_id", *(f"{i},{n}" for n, i in pairs("{:03d}"))])),
    "no header": ("y.csv", lines(f"x/{n},{NAMES[i]}" for n, i in pairs())),
    "semicolons": ("Y.CSV", lines(["file;width;class", *(f"d\\x\\{n};12;{i}.0" for n, i in pairs())])),
    "paths of another machine": (
        "y.csv",
        lines(["file,label", *(f"/home/me/d/x/{n},{i}" for n, i in pairs())]),
    ),
    "paths of Windows": ("y.csv", lines(["file,label", *(f"C:\\me\\X\\{n},{i}" for n, i in pairs("{:03d}.PNG"))])),
    "a path from above": ("y.csv", lines(["file,label", *(f"d/x/{n},{i}" for n, i in pairs())])),
    "bars and a long text": (
        "y.csv",
        lines(["file|label|text", *(f"{n}|{i}|{'x' * 150_000 * (n == '001.png')}" for n, i in pairs())]),
    ),
    "a column for each class": (
        "y.csv",
        lines(["file,ant,bee,cat", *(f"{n},{','.join(str(float(i == k)) for k in range(3))}" for n, i in pairs())]),
    ),
    "a torn line": (
        "x/metadata.jsonl",
        lines(json.dumps({"file_name": n, "label": i}) for n, i in pairs()) + '{"file_name": "0',
    ),
    "tabs and a mark": ("y.tsv", "\ufeff" + lines(["file\tlabel", *(f"./x/{n}\t{NAMES[i]}" for n, i in pairs())])),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("packed", [False, True])
def test_labels_are_read_from_a_table(tmp_path, kind, packed):
    name, text = TABLES[kind]
    if packed:
        if "d\\x" in text:
            text = text.replace("d\\x", "x")
        archive(tmp_path / "d/all.zip", {f"x/{seed:03d}.png": png(seed) for seed in range(40)} | {name: text})
        root = tmp_path / "d"
    else:
        root = tmp_path / "d"
        fill(root / "x", range(40))
        (root / name).write_text(text.replace("d\\x", "x"), encoding="utf-8")
    images, _ = load(root)
    assert labels_of(images) == WANTED
    assert images.class_names == (NAMES if "ant" in text else ("0", "1", "2"))
    assert f"labels from '{name}'" in images.notes[0]
    assert not any("left out" in note for note in images.notes)


def test_a_table_that_a_spreadsheet_wrote_in_utf_16(tmp_path):
    root = fill(tmp_path / "d", range(40))
    (root / "y.csv").write_text(lines(["file;label", *(f"{n};{i}" for n, i in pairs())]), encoding="utf-16")
    assert labels_of(load(root)[0]) == WANTED


def test_the_labels_of_pictures_that_are_not_there_are_not_given_to_others(tmp_path):
    """A table of both splits, of which only one is on this disk."""
    root = tmp_path / "d"
    fill(root / "train", range(40))
    rows = [f"train/{n},{i}" for n, i in pairs()] + [f"test/{n},{2 - i}" for n, i in pairs()[:20]]
    (root / "y.csv").write_text(lines(["file,label", *rows]))
    assert labels_of(load(root)[0]) == WANTED


def test_labels_by_split(tmp_path):
    """trainLabels.csv and test.csv name pictures by numbers that both splits have; the sample of an answer has no labels."""
    root = tmp_path / "d"
    fill(root / "train", range(40), "{}.png")
    fill(root / "test", range(40, 70), "{}.png")
    for seed in range(40, 70):
        (root / f"test/{seed}.png").rename(root / f"test/{seed - 40}.png")
    (root / "trainLabels.csv").write_text(lines(["id,label", *(f"{i},{NAMES[i % 3]}" for i in range(40))]))
    (root / "sample_submission.csv").write_text(lines(["id,label", *(f"{i},ant" for i in range(30))]))
    images, _ = load(root)
    assert labels_of(images) == WANTED | {seed: -1 for seed in range(40, 70)}
    assert images.eval_labels is None
    (root / "test.csv").write_text(lines(["id,label", *(f"{i},{NAMES[2 - i % 3]}" for i in range(30))]))
    images, _ = load(root)
    assert labels_of(images) == WANTED | {seed: 2 - (seed - 40) % 3 for seed in range(40, 70)}


def test_pictures_without_a_line_in_the_table_are_kept(tmp_path):
    root = fill(tmp_path / "d", range(40))
    (root / "metadata.csv").write_text(lines(["file_name,label", *(f"{n},{i}" for n, i in pairs()[:30]), "gone.png,1"]))
    images, _ = load(root)
    assert labels_of(images) == {seed: seed % 3 if seed < 30 else -1 for seed in range(40)}
    assert images.class_of(np.array([2, -1, 7, 0]), 4).tolist() == [2, -1, -1, 0], "7 is no label of a training image"
    assert images.class_of(None, 2).tolist() == [-1, -1]
    assert "labels from 'metadata.csv' for 30 of 40 images" in images.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        lines(["file_name,text", *(f"{n},picture {i} of them" for n, i in pairs("{:03d}.png"))]),
        lines(["file_name,width", *(f"{n},{i}" for i, (n, _) in enumerate(pairs("{:03d}.png")))]),
        lines(["file,label", *(f"other{n},{i}" for n, i in pairs())]),
        lines(["file,label", *(f"{n},{k}" for n, _ in pairs("{:03d}.png") for k in (0, 1))]),
        lines(["file,label", *(f"{n},-1" for n, _ in pairs())]),
        lines(["file,label", *(f"{n}," for n, _ in pairs())]),
        lines(["file,is_train,is_test", *(f"{n},{int(i > 0)},{int(i == 0)}" for n, i in pairs())]),
        lines(["file,male,female", *(f"{n},{int(i > 0)},{int(i == 0)}" for n, i in pairs())]),
        lines(["file,split", *(f"{n},{'train' if i else 'test'}" for n, i in pairs())]),
        lines(["file,width", *(f"{n},{64 * (1 + i)}" for n, i in pairs())]),
        lines(["file,label", *(f"{n},ant" for n, _ in pairs())]),
    ],
    ids=[
        "captions",
        "a number for each",
        "other files",
        "two labels for each",
        "not known",
        "empty",
        "columns for splits",
        "one-hot",
        "splits",
        "few numbers",
        "one class",
    ],
)
def test_tables_that_do_not_fit_leave_the_folders_names(tmp_path, text):
    root = tmp_path / "d"
    fill(root / "a", range(20))
    fill(root / "b", range(20, 40))
    (root / "table.csv").write_text(text)
    images, _ = load(root)
    assert labels_of(images) == {seed: int(seed >= 20) for seed in range(40)}
    assert images.class_names == ("a", "b")
    assert "1 .csv (not used for labels)" in note(images, "left out")


def test_a_table_whose_columns_are_called_otherwise_is_named(tmp_path):
    root = tmp_path / "d"
    fill(root, range(40))
    rows = (f"{n},{i},of {i}" for n, i in pairs("{:03d}.png"))
    (root / "metadata.csv").write_text(lines(["file_name,age,text", *rows]))
    images, _ = load(root)
    assert images.train_labels is None
    said = "'metadata.csv' names the pictures, but none of its other columns (age, text) is named like labels; "
    said += "--label_column takes one of them"
    assert said in images.notes
    assert not any("left out" in found for found in images.notes)
    with pytest.raises(ValueError, match="have no labels; .*; " + re.escape(said)):
        Labelling(preset("digits", class_conditional=True), images)
    assert load(root, label_column="age")[0].class_names == ("0", "1", "2")


def test_the_column_of_labels_can_be_named(tmp_path):
    root = tmp_path / "d"
    fill(root / "x", range(20))
    fill(root / "y", range(20, 40))
    rows = (f"{n},{NAMES[i]},{'odd' if number % 2 else 'even'}" for number, (n, i) in enumerate(pairs()))
    (root / "table.csv").write_text(lines(["file,label,Parity", *rows]))
    images, _ = load(root, label_column="parity")
    assert labels_of(images) == {seed: seed % 2 for seed in range(40)}
    assert images.class_names == ("even", "odd")
    assert load(root)[0].class_names == NAMES
    with pytest.raises(
        ValueError, match=r"--label_column 'colour': no .csv, .tsv or metadata.jsonl beside the pictures"
    ):
        load(root, label_column="colour")


def test_columns_named_like_splits_are_no_classes(tmp_path):
    """But a train is one among several vehicles."""
    root = fill(tmp_path / "d", range(40))
    marks = ["1,0,0", "0,1,0", "0,0,1"]
    (root / "y.csv").write_text(lines(["file,is_train,is_test,is_val", *(f"{n},{marks[i]}" for n, i in pairs())]))
    images, _ = load(root)
    assert images.train_labels is None
    assert "none of its other columns (is_train, is_test, is_val) is named like labels" in note(images, "'y.csv'")
    (root / "y.csv").write_text(lines(["file,bus,car,train", *(f"{n},{marks[i]}" for n, i in pairs())]))
    assert labels_of(load(root)[0]) == WANTED
    assert load(root)[0].class_names == ("bus", "car", "train")
    (root / "y.csv").write_text(
        lines(["file,ant,bee,cat,is_train", *(f"{n},{marks[i]},{k % 2}" for k, (n, i) in enumerate(pairs()))])
    )
    assert load(root)[0].class_names == NAMES


def test_a_table_of_names_alone_says_nothing_of_columns(tmp_path):
    root = fill(tmp_path / "d", range(40))
    (root / "names.csv").write_text(lines(["file", *(n for n, _ in pairs())]))
    images, _ = load(root)
    assert not any("label_column" in line for line in images.notes)
    assert "1 .csv (not used for labels)" in note(images, "left out")


@pytest.mark.parametrize("sign", ["|", ";"])
def test_several_labels_in_one_cell_are_one_column(tmp_path, sign):
    root = fill(tmp_path / "d", range(40))
    names = [sign.join("ABCDE"[: 5 - i]) for i in range(3)]
    (root / "y.csv").write_text(lines(f"{n},{names[i]}" for n, i in pairs()))
    images, _ = load(root)
    assert {seed: images.class_names[label] for seed, label in labels_of(images).items()} == {
        seed: names[i] for seed, i in WANTED.items()
    }


@pytest.mark.parametrize(
    ("folder", "prefix", "fits"),
    [
        ("d", "/data/test/", False),
        ("d", "C:\\data\\seg_test\\images\\", False),
        ("d", "../held_out/", False),
        ("d", "/data/train/", True),
        ("d", "/home/me/dev/pictures/", True),
        ("d/Test", "/data/testing/", True),
        ("d/val", "/data/train/", False),
    ],
)
def test_paths_of_another_split_are_not_the_pictures_of_this_one(tmp_path, folder, prefix, fits):
    root = fill(tmp_path / folder, range(40))
    (root / "y.csv").write_text(lines(["file,label", *(f"{prefix}{n},{i}" for n, i in pairs())]))
    assert labels_of(load(root)[0]) == (WANTED if fits else dict.fromkeys(range(40), -1))
    (root / "y.csv").write_text(lines(["file,label", *(f"{root}/{n},{i}" for n, i in pairs())]))
    assert labels_of(load(root)[0]) == WANTED, "the very path of a picture is that picture"


@pytest.mark.parametrize(
    ("picture", "reference"),
    [
        ("case{}/image.png", "case{}/image.png"),
        ("case{}/a/image.png", "case{}/a/image"),
        ("x/case{}/a/image.png", "CASE{}/a/image.png"),
        ("case{}/image.png", "/data/d/case{}/image.png"),
        ("case{}/image.png", "image.png"),
    ],
)
def test_pictures_of_equal_names_are_found_as_fast_as_others(picture, reference):
    count = 3000
    files = [File(tuple(picture.format(i).split("/")), "/d/" + picture.format(i), 9) for i in range(count)]
    index = Index(files)
    table = File(("y.csv",), "/d/y.csv", 9)
    start = time.process_time()
    found = [index.find(reference.format(i), table) for i in range(count)]
    assert time.process_time() - start < 2, "it takes a minute if every reference looks at all of them"
    assert found == [[] if reference == "image.png" else [file] for file in files]


def test_a_table_without_labels_is_read_once(tmp_path, monkeypatch):
    root = fill(tmp_path / "d", range(40))
    (root / "meta.csv").write_text(lines(["file,age,text", *(f"{n},{i},of {i}" for n, i in pairs())]))
    reads = []
    monkeypatch.setattr("ddpm.data.labels.read", lambda file: reads.append(file.name) or archives.read(file))
    images, _ = load(root)
    assert "(age, text)" in note(images, "named like labels")
    assert reads == ["meta.csv"]


def test_a_column_of_labels_comes_before_guesses(tmp_path):
    """Other tables tell something else about the same pictures, in a column for each possibility."""
    root = fill(tmp_path / "d", range(40))
    (root / "a.csv").write_text(lines(["file,male,female", *(f"{n},{i % 2},{1 - i % 2}" for n, i in pairs())]))
    (root / "z.csv").write_text(lines(["file,label", *(f"{n},{NAMES[i]}" for n, i in pairs())]))
    images, _ = load(root)
    assert labels_of(images) == WANTED
    assert "labels from 'z.csv'" in images.notes[0]
    assert "1 .csv (not used for labels)" in note(images, "left out")
