"""Folders of pictures as people have them: what counts, what is a split, and what is said about the rest."""

import json
import os
from pathlib import Path

import pytest
from picture_files import fill, labels_of, load, note, picture, png, seeds_in
from PIL import Image
from tiny import in_process

from ddpm.data import DataOptions, prepare


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def parquet(path, seeds=(), column="image", **columns):
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = datasets.Dataset.from_dict(({column: [picture(seed) for seed in seeds]} if seeds else {}) | columns)
    (rows.cast_column(column, datasets.Image()) if seeds else rows).to_parquet(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("annotations/instances.json", '{"images": [], "annotations": []}'),
        ("good/000.json", '{"version": "5.0", "shapes": []}'),
        ("captions.jsonl", '{"file_name": "good/000.png", "text": "a picture"}\n'),
        ("notes.csv", "a,b\n1,2\n"),
        ("good/metadata.csv", "file_name,text\n000.png,a picture\n001.png,another\n"),
        ("results.csv", "epoch,loss\n0,0.5\n1,0.25\n"),
        ("empty.csv", ""),
        ("dataset.json", "not json"),
        ("train.jsonl", "[1, 2]\nbroken"),
        ("features.parquet", None),
    ],
)
def test_a_table_beside_pictures_changes_nothing(tmp_path, name, content):
    """Not the number of images, not the class "test", not the labels."""
    root = tmp_path / "d"
    fill(root / "good", range(20))
    fill(root / "test", range(20, 40))
    if content is None:
        parquet(root / name, weight=[0.5, 0.25])
    else:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
    images, seeds = load(root)
    assert sorted(seeds) == list(range(40))
    assert labels_of(images) == {seed: int(seed >= 20) for seed in range(40)}
    assert f"1 {Path(name).suffix}" in note(images, "left out")


def test_tables_that_hold_images_come_before_pictures(tmp_path):
    """A dataset of the Hub, with pictures for its README."""
    root = tmp_path / "d"
    parquet(root / "data/train-00000.parquet", range(30))
    parquet(root / "data/test-00000.parquet", range(30, 36))
    fill(root / "assets", range(100, 160))
    (root / "README.md").write_text("# pictures")
    images, _ = load(root)
    assert (seeds_in(images.train), seeds_in(images.eval)) == (list(range(30)), list(range(30, 36)))
    assert "left out: 60 pictures" in note(images, "left out")


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("TRAIN", "Val"), ("train", "VALIDATION")])
@pytest.mark.parametrize("wrapper", ["", "archive", "archive/My Data"])
def test_splits_in_any_case_and_below_a_wrapping_folder(tmp_path, train, test, wrapper):
    root = tmp_path / "d"
    for start, split in ((0, train), (40, test)):
        fill(root / wrapper / split / "cat", range(start, start + 15))
        fill(root / wrapper / split / "dog", range(start + 15, start + 30))
    images, _ = load(root)
    assert sorted(seeds_in(images.train)) == list(range(30))
    assert sorted(seeds_in(images.eval)) == list(range(40, 70))
    assert images.eval_split == test
    assert labels_of(images) == {seed: int(seed % 40 >= 15) for seed in (*range(30), *range(40, 70))}
    assert f"training on split '{train}' (30 .png); held out: split '{test}' (30 .png)" in images.notes[0]
    swapped, _ = load(root, train_split=test.lower(), eval_split=train.upper())
    assert sorted(seeds_in(swapped.eval)) == list(range(30)), "every split can be named, in any case"


def test_other_splits_and_what_lies_beside_them_is_not_trained_on(tmp_path):
    root = tmp_path / "d"
    fill(root / "train", range(24))
    fill(root / "test", range(30, 36))
    fill(root / "unlabeled", range(40, 90))
    fill(root / "masks/a", range(100, 103))
    fill(root, [120], "preview.png")
    images, _ = load(root)
    assert (seeds_in(images.train), seeds_in(images.eval)) == (list(range(24)), list(range(30, 36)))
    left_out = note(images, "left out")
    for part in (
        "50 pictures of the split 'unlabeled'",
        "3 pictures of the split 'masks'",
        "1 picture beside the splits",
    ):
        assert part in left_out
    assert "--train_split unlabeled" in note(images, "Warning")
    named, _ = load(root, train_split="unlabeled", eval_split="test")
    assert (seeds_in(named.train), seeds_in(named.eval)) == (list(range(40, 90)), list(range(30, 36)))
    assert "24 pictures of the split 'train'" in note(named, "left out")
    with pytest.raises(ValueError, match=r"--eval_split 'tset': .* has .*masks, test, train, unlabeled"):
        load(root, eval_split="tset")


@pytest.mark.parametrize("names", [("seg_train", "seg_test"), ("train2017", "val2017"), ("training_set", "test_set")])
def test_look_alikes_of_splits_are_a_warning_and_can_be_named(tmp_path, names):
    root = tmp_path / "d"
    for start, name in zip((0, 50), names, strict=True):
        fill(root / "data" / name, range(start, start + 30))
    images, seeds = load(root)
    assert len(seeds) == 60
    assert "training on all pictures (60 .png)" in images.notes[0]
    for name in names:
        assert "(30 pictures) is named like a split" in note(images, f"Warning: the folder '{name}'")
    images, _ = load(root, train_split=names[0], eval_split=names[1])
    assert (seeds_in(images.train), seeds_in(images.eval)) == (list(range(30)), list(range(50, 80)))
    assert not any("Warning" in note for note in images.notes)


def test_splits_below_each_class_are_kept_apart_and_can_be_named(tmp_path):
    """As datasets of defects have them: bottle/train/good, bottle/test/broken, cable/train/good, ..."""
    root = tmp_path / "d"
    for start, kind in ((0, "bottle"), (100, "cable")):
        fill(root / "data" / kind / "train/good", range(start, start + 20))
        fill(root / "data" / kind / "test/broken", range(start + 50, start + 60))
        fill(root / "data" / kind / "masks", range(start + 70, start + 75))
    images, _ = load(root)
    assert sorted(seeds_in(images.train)) == [*range(20), *range(100, 120)]
    assert sorted(seeds_in(images.eval)) == [*range(50, 60), *range(150, 160)]
    assert labels_of(images) == {seed: seed // 100 for seed in seeds_in(images.train) + seeds_in(images.eval)}
    assert "10 pictures of the split 'masks'" in note(images, "left out")
    swapped, _ = load(root, train_split="test", eval_split="masks")
    assert sorted(seeds_in(swapped.train)) == [*range(50, 60), *range(150, 160)]


def test_classes_with_names_of_splits_stay_classes(tmp_path):
    """Vehicles: a train is one of them. The name is said to be like that of a split."""
    root = tmp_path / "d"
    for start, name in ((0, "bus"), (20, "car"), (40, "train")):
        fill(root / name, range(start, start + 20))
    images, seeds = load(root)
    assert sorted(seeds) == list(range(60))
    assert labels_of(images) == {seed: seed // 20 for seed in range(60)}
    assert "the folder 'train' (20 pictures)" in note(images, "Warning")


def test_linked_folders_are_entered_once_and_loops_end(tmp_path):
    root = tmp_path / "d"
    fill(root / "train", range(24))
    fill(tmp_path / "elsewhere/test", range(30, 36))
    (root / "test").symlink_to(tmp_path / "elsewhere/test")
    (root / "latest").symlink_to("train")
    (root / "train/loop").symlink_to(root)
    (root / "test/up").symlink_to(tmp_path)  # above the root
    (root / "itself").symlink_to("itself")
    (root / "train/gone.png").symlink_to("nowhere.png")
    (root / "train/first.png").symlink_to("000.png")
    images, _ = load(root)
    assert (seeds_in(images.train), seeds_in(images.eval)) == (list(range(24)), list(range(30, 36)))
    left_out = note(images, "left out")
    assert "'itself', 'train/gone.png' (links that lead nowhere)" in left_out
    for repeated in ("latest", "train/loop", "train/first.png"):
        assert f"'{repeated}'" in left_out or "and 1 more (links to what is counted already)" in left_out


def test_what_is_left_out_is_counted_by_ending(tmp_path):
    root = fill(tmp_path / "d", range(24))
    for i in range(30):
        (root / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    for i in range(3):
        (root / f"scan{i}.Pdf").write_bytes(b"%PDF-1.4")
    (root / "notes.txt").write_text("hello")
    (root / "noise").write_bytes(b"no picture")
    for junk in (
        "Thumbs.db",
        ".DS_Store",
        "desktop.ini",
        "__MACOSX/._000.png",
        "@eaDir/000.png/thumb.jpg",
        "._000.png",
    ):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(png(1))
    fill(root / ".trash", [100, 101])
    os.mkfifo(root / "pipe.png")  # to open it would wait forever
    images, seeds = load(root)
    assert sorted(seeds) == list(range(24))
    assert "(24 .png)" in images.notes[0]
    left_out = note(images, "left out")
    assert "left out: 30 .heic, 3 .pdf, 1 .txt, 1 without ending (no pictures that can be read; convert" in left_out
    assert "2 hidden pictures" in left_out
    assert sum(character.isdigit() for character in left_out) == len("303112"), "nothing else is counted"


def test_pictures_without_an_ending_are_known_by_their_content(tmp_path):
    root = fill(tmp_path / "d", range(24), "{:032x}")
    fill(root, range(30, 36), "v1.2_{:03d}")
    images, seeds = load(root)
    assert sorted(seeds) == [*range(24), *range(30, 36)]
    assert "(30 without ending)" in images.notes[0]


def test_the_hubs_cache_does_not_count_twice(tmp_path):
    """There, files without endings lie behind links that have them."""
    root = tmp_path / "d"
    fill(root / "blobs", range(24), "{:032x}")
    (root / "snapshots/abc").mkdir(parents=True)
    for seed in range(24):
        (root / f"snapshots/abc/{seed:03d}.png").symlink_to(f"../../blobs/{seed:032x}")
    _, seeds = load(root)
    assert sorted(seeds) == list(range(24))


def test_file_names_that_are_not_utf_8(tmp_path):
    """As an old zip archive from China leaves them: a damaged one is named readably, in files and on the terminal."""
    root = tmp_path / os.fsdecode("图".encode("gb18030"))
    name = os.fsdecode("数字é".encode("gb18030"))
    fill(root / name, range(20), name + "{:03d}.png")
    fill(root / "b", range(20, 40))
    bad = os.fsencode(root / "b") + b"/" + os.fsencode(name) + b".png"
    with open(bad, "wb") as file:
        file.write(b"damaged")
    (root / f"{name}.heic").write_bytes(b"x")
    fill(root / f"test{name}", [50])
    images, seeds = load(root)
    assert sorted(seeds) == [*range(40), 50]
    assert labels_of(images) == {seed: 2 if seed < 20 else 1 if seed == 50 else 0 for seed in seeds}
    assert r"b/\xca\xfd\xd7" in note(images, "skipped 1 of 42 images")
    assert r"'test\xca\xfd" in note(images, "Warning")
    assert sorted(seeds_in(load(root, train_split=name, eval_split="b")[0].train)) == list(range(20))


def test_a_folder_that_cannot_be_read_is_a_warning(tmp_path, monkeypatch):
    root = fill(tmp_path / "d", range(24))
    fill(root / "private", range(30, 40))
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "private":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    images, seeds = load(root)
    assert sorted(seeds) == list(range(24))
    assert "'private' (Permission denied)" in note(images, "Warning: left out, because they cannot be read")


def test_two_files_of_one_stem_are_two_pictures(tmp_path):
    root = fill(tmp_path / "d", range(24))
    picture(50).save(root / "000.bmp")
    images, seeds = load(root)
    assert sorted(seeds) == [*range(24), 50]
    assert "(24 .png, 1 .bmp)" in images.notes[0]


def test_the_output_of_training_is_no_data(tmp_path, monkeypatch):
    """As `cd data; train.py --dataset_name .` has it at the second start."""
    root = fill(tmp_path / "d", range(24))
    monkeypatch.chdir(root)
    first, _ = load(".", output_dir=Path("runs/digits"))
    fill(root / "runs/digits/samples", range(100, 110))
    (root / "runs/digits/train_config.json").write_text("{}")
    fill(root / "runs/other/samples", range(110, 120))
    again, seeds = load(".", output_dir=Path("runs/other"))
    assert sorted(seeds) == list(range(24))
    assert again.fingerprint == first.fingerprint
    fill(root, [50])
    images, seeds = load(".", output_dir=Path("runs/other"))
    assert sorted(seeds) == [*range(24), 50]
    assert "the output of training and sampling in 'runs/digits', 'runs/other'" in note(images, "left out")
    with pytest.raises(ValueError, match=r"--output_dir .*d is the folder of the images"):
        load(".", output_dir=root)
    with pytest.raises(ValueError, match=r"'runs/digits' is the output of a training"):
        load("runs/digits")


def test_a_log_that_grows_beside_the_pictures_does_not_prepare_them_again(tmp_path):
    root = fill(tmp_path / "d", range(24))
    (root / "train.log").write_text("begins")
    load(root)
    (root / "train.log").write_text("goes on")
    load(root)
    assert len(list((tmp_path / "cache").glob("*/meta.json"))) == 1


def test_training_inside_the_folder_of_the_images_works_twice(tmp_path, monkeypatch):
    """`cd data; train.py --dataset_name .` and the same again with more steps: its samples are no training images."""
    root = fill(tmp_path / "d", range(40))
    monkeypatch.chdir(root)
    options = {"dataset_name": ".", "validation_steps": 3, "lr_schedule": "constant"}
    first = in_process(Path("runs/digits"), **options, max_train_steps=3)
    assert first.step == 3
    assert list(root.glob("runs/digits/samples/*.png"))
    second = in_process(Path("runs/digits"), **options, max_train_steps=6)
    assert second.step == 6, "it has resumed, for the data are the same"
    config = json.loads((root / "runs/digits/train_config.json").read_text())
    assert config["data"]["num_train"] + config["data"]["num_eval"] == 40
    assert len(load(".")[1]) == 40


@pytest.mark.parametrize(("train", "test"), [("trainset", "testset"), ("TrainData", "TESTDATA"), ("训练集", "测试集")])
def test_more_names_like_those_of_splits_are_a_warning(tmp_path, train, test):
    fill(tmp_path / "d" / train, range(20))
    fill(tmp_path / "d" / test, range(20, 40))
    images, seeds = load(tmp_path / "d")
    assert sorted(seeds) == list(range(40))
    for name in (train, test):
        assert "is named like a split" in note(images, f"'{name}' (20 pictures)")
    assert sorted(seeds_in(load(tmp_path / "d", train_split=train, eval_split=test)[0].train)) == list(range(20))


def test_held_out_pictures_that_are_those_of_training_are_a_warning(tmp_path):
    fill(tmp_path / "d/train", range(20))
    fill(tmp_path / "d/holdout", range(20, 30))
    assert sorted(seeds_in(load(tmp_path / "d")[0].eval)) == list(range(20, 30))
    images, _ = load(tmp_path / "d", eval_split="train")
    assert "'train' is trained on and held out, so val_loss says nothing" in note(images, "Warning: the split")


@pytest.mark.parametrize(
    ("pictures", "masks", "number", "such_as"),
    [
        ("JPEGImages/{}.png", "SegmentationClass/{}.png", 20, "SegmentationClass/0.png"),
        ("images/{}.png", "masks/{}.png", 20, "masks/0.png"),
        ("images/{}.png", "images/{}_mask.png", 20, "images/0_mask.png"),
        ("train-images/{}.png", "train_masks/{}_Mask.png", 20, "train_masks/0_Mask.png"),
        ("case{}/image.png", "case{}/mask.png", 20, "case0/mask.png"),
        ("images/{}.png", "masks/of_others{}.png", 0, ""),
        ("04_index/{}.png", "05_thumb/{}.png", 0, ""),
        ("Audi 100/{}.png", "Ford GT Coupe 2006/{}.png", 0, ""),
        ("without_mask/{}.png", "with_mask/{}.png", 0, ""),
    ],
)
def test_masks_beside_their_pictures_are_a_warning(tmp_path, pictures, masks, number, such_as):
    for seed in range(20):
        for name, content in ((pictures, seed), (masks, 20 + seed)):
            path = tmp_path / "d" / name.format(seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(content))
    found = [line for line in load(tmp_path / "d")[0].notes if "named like masks" in line]
    assert len(found) == bool(number)
    assert all(f"{number} pictures, such as '{such_as}', are named like masks" in line for line in found)


@pytest.mark.parametrize("ending", ["gif", "tiff", "png", "webp"])
def test_pictures_behind_the_first_one_in_a_file_are_said(tmp_path, ending):
    root = fill(tmp_path / "d", range(22))
    for seed in (30, 31):
        frames = {"save_all": True, "append_images": [picture(40), picture(41)]}
        frames |= {"lossless": True} if ending == "webp" else {}
        picture(seed).save(root / f"{seed}.{ending}", **frames)
    images, seeds = load(root, channels=1)
    assert sorted(seeds) == [*range(22), 30, 31]
    assert note(images, "frames") == "2 of 24 files hold several frames or pages, of which the first is taken"
    (tmp_path / "one").mkdir()
    (root / f"30.{ending}").rename(tmp_path / f"one/30.{ending}")
    with pytest.raises(ValueError, match=r"1 image, too few .* several frames or pages.*: save each as a file"):
        load(tmp_path / "one")


def test_of_a_file_that_is_cut_off_behind_its_first_frame_that_one_is_taken(tmp_path):
    root = fill(tmp_path / "d", range(22))
    picture(30).save(root / "30.gif", save_all=True, append_images=[picture(40), picture(41)])
    content = (root / "30.gif").read_bytes()
    second = content.index(b"\x21\xf9", content.index(b"\x2c"))  # the control block before its frame
    (root / "30.gif").write_bytes(content[: second + 30])
    assert sorted(load(root, channels=1)[1]) == [*range(22), 30]


def test_files_that_are_something_else_say_what(tmp_path):
    root = fill(tmp_path / "d", range(24))
    for name, content, said in (
        ("a.png", b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, not the file itself: run `git"),
        ("b.jpg", b"\n<!DOCTYPE html><html>", "a web page"),
        ("c.jpg", b"\0\0\0\x18ftypavif" + bytes(50), "a HEIC or AVIF picture"),
    ):
        (root / name).write_bytes(content)
        assert f"{name} (row 24): not an image of a known kind, but {said}" in note(load(root)[0], "skipped 1 of 25")
        (root / name).unlink()


def test_a_picture_of_too_many_pixels_is_one_line(tmp_path, recwarn):
    root = fill(tmp_path / "d", range(24))
    Image.new("1", (14000, 14000)).save(root / "huge.png")
    Image.new("1", (10000, 9000)).save(root / "large.png")
    images = prepare(DataOptions(dataset_name=str(root), resolution=12))
    assert "huge.png (row 24): it has 196,000,000 pixels, more than Pillow reads" in note(images, "skipped 1 of 26")
    assert not [warning for warning in recwarn if "decompression" in str(warning.message)]


def test_what_programs_keep_where_people_work_is_no_data(tmp_path):
    """`cd data; train.py --dataset_name . --report_to wandb`, and samples that were drawn into the data."""
    root = fill(tmp_path / "d", range(24))
    fill(root / "wandb/offline-run-1/files/media/images", range(30, 33))
    fill(root / "samples", range(40, 43))
    (root / "samples/samples.json").write_text(json.dumps({"model": "m", "weights": "ab", "seed": 0, "label": []}))
    fill(root / "env/lib/images", range(50, 53))
    (root / "env/pyvenv.cfg").write_text("home = /usr/bin")
    images, seeds = load(root)
    assert sorted(seeds) == list(range(24))
    left_out = note(images, "left out")
    assert "the output of training and sampling in 'samples'; the files of other programs in 'env', 'wandb'" in left_out
    fill(root / "wandb/dog", range(60, 63))  # without runs in it, the name says nothing
    os.rename(root / "wandb/offline-run-1", tmp_path / "elsewhere")
    assert len(load(root)[1]) == 27


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [
        (json.dumps({"model": "m", "weights": "ab", "label": [], "seed": 3}), True),
        (json.dumps({"samples": [{"filepath": "data/000.png"}]}), False),
        ("[1, 2]", False),
        ('{"model": 1, "weights": 2, "seed": 3, "x": "' + "x" * 70_000 + '"}', False),
        ("[" * 60_000, False),
        ("", False),
    ],
    ids=["ours", "FiftyOne", "a list", "long", "deep", "empty"],
)
def test_only_our_own_record_of_samples_makes_a_folder_an_output(tmp_path, content, is_ours):
    """FiftyOne exports pictures as samples.json, metadata.json and data/."""
    root = fill(tmp_path / "d", range(20))
    fill(root / "export/data", range(20, 40))
    (root / "export/metadata.json").write_text("{}")
    (root / "export/samples.json").write_text(content)
    images, seeds = load(root)
    assert sorted(seeds) == list(range(20 if is_ours else 40))
    assert any("output of training and sampling in 'export'" in line for line in images.notes) == is_ours


@pytest.mark.parametrize("name", ["hold_out", "Held-Out", "heldout"])
def test_held_out_folders_in_any_spelling(tmp_path, name):
    fill(tmp_path / "d/train", range(20))
    fill(tmp_path / "d" / name, range(20, 30))
    assert sorted(seeds_in(load(tmp_path / "d")[0].eval)) == list(range(20, 30))
    (tmp_path / "d" / name).rename(tmp_path / "d" / f"my_{name}_images")
    assert f"'my_{name}_images' (10 pictures) is named like a split" in note(load(tmp_path / "d")[0], name)
