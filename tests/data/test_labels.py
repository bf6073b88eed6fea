"""Labels from the tables that people keep beside their pictures."""

import json
import re

import numpy as np
import pytest
from picture_files import archive, fill, labels_of, load, note, png

from ddpm.config import preset
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
    ],
    ids=["captions", "a number for each", "other files", "two labels for each", "not known", "empty"],
)
def test_tables_that_do_not_fit_leave_the_folders_names(tmp_path, text):
    root = tmp_path / "d"
    fill(root / "a", range(20))
    fill(root / "b", range(20, 40))
    (root / "table.csv").write_text(text)
    images, _ = load(root)
    assert labels_of(images) == {seed: int(seed >= 20) for seed in range(40)}
    assert images.class_names == ("a", "b")
    assert "1 .csv" in note(images, "left out")


def test_a_table_whose_columns_are_called_otherwise_is_named(tmp_path):
    root = tmp_path / "d"
    fill(root, range(40))
    rows = (f"{n},{i},of {i}" for n, i in pairs("{:03d}.png"))
    (root / "metadata.csv").write_text(lines(["file_name,age,text", *rows]))
    images, _ = load(root)
    assert images.train_labels is None
    said = "no column of 'metadata.csv' is called like labels, of age, text: --label_column takes one of these"
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
