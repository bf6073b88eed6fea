"""Prepared data that was damaged, and old copies of a folder whose pictures have changed."""

import json
import os
import shutil
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
from picture_files import fill, load, picture

from ddpm.data import DataOptions, prepare
from ddpm.files import cache_folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def prepared():
    return sorted(path.parent for path in cache_folder().glob("*/meta.json"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


DAMAGES = {
    "meta empty": lambda folder: (folder / "meta.json").write_bytes(b""),
    "meta cut": lambda folder: cut(folder / "meta.json"),
    "meta missing": lambda folder: (folder / "meta.json").unlink(),
    "meta of another kind": lambda folder: (folder / "meta.json").write_text("[1]"),
    "meta without a key": lambda folder: (folder / "meta.json").write_text('{"format": 5, "source": {}}'),
    "pixels cut": lambda folder: cut(folder / "train.u8"),
    "pixels too long": lambda folder: (folder / "eval.u8").write_bytes(bytes(10**5)),
    "pixels missing": lambda folder: (folder / "eval.u8").unlink(),
    "labels cut": lambda folder: cut(folder / "train.labels"),
    "labels missing": lambda folder: (folder / "train.labels").unlink(),
    "all files missing": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_prepared_data_is_made_again(tmp_path, caplog, damage):
    for number, name in enumerate(("a", "b")):
        fill(tmp_path / "d" / name, range(20 * number, 20 * number + 20))
    before, seeds = load(tmp_path / "d")
    (folder,) = prepared()
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    damage(folder)
    again, seeds_again = load(tmp_path / "d")
    assert "are damaged" in caplog.text
    assert (again.fingerprint, seeds_again) == (before.fingerprint, seeds)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == kept
    assert [path.name for path in cache_folder().iterdir() if path.is_dir()] == [folder.name], "nothing is left over"


def test_one_damaged_file_does_not_break_other_datasets_offline(monkeypatch, tmp_path):
    import datasets

    rows = datasets.Dataset.from_dict({"image": [picture(i) for i in range(25)]}).cast_column("image", datasets.Image())
    info = type("Info", (), {"sha": "c0ffee"})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *args, **kwargs: info)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: datasets.DatasetDict({"train": rows}))
    options = DataOptions(dataset_name="somebody/pictures", value_range=(0, 255))
    first = prepare(options)
    for number, content in enumerate((b"", b"{", b"[]", b'{"source": 3}', b"\xff")):
        (cache_folder() / f"other{number}").mkdir()
        (cache_folder() / f"other{number}/meta.json").write_bytes(content)

    def down(*args, **kwargs):
        raise ConnectionError("connection refused")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", down)
    monkeypatch.setattr(datasets, "load_dataset", down)
    assert prepare(options).fingerprint == first.fingerprint
    with pytest.raises(ValueError, match=r"'somebody/else': .*Hub cannot be reached"):
        prepare(DataOptions(dataset_name="somebody/else"))


def test_old_copies_of_a_folder_go_when_it_is_prepared_anew(tmp_path):
    fill(tmp_path / "d", range(30))
    fill(tmp_path / "other", range(30))
    elsewhere = load(tmp_path / "other")[0].train.filename
    old = load(tmp_path / "d")[0]
    small = load_small(tmp_path / "d")
    digits = prepare(DataOptions()).train.filename
    assert len(prepared()) == 4, "other sizes of the same pictures stay"
    seen = np.array(old.train)
    fill(tmp_path / "d", [30])
    new = load(tmp_path / "d")[0]
    assert {str(path / "train.u8") for path in prepared()} == {str(elsewhere), str(digits), str(new.train.filename)}
    assert not os.path.exists(small)
    assert np.array_equal(old.train, seen), "whoever trains from the old copy goes on"


def load_small(folder):
    return prepare(DataOptions(dataset_name=str(folder), resolution=6)).train.filename


@pytest.mark.slow
def test_a_process_that_trains_from_an_old_copy_goes_on(tmp_path):
    fill(tmp_path / "d", range(40))
    code = (
        "import sys; from ddpm.data import DataOptions, prepare\n"
        "images = prepare(DataOptions(dataset_name=sys.argv[1])); print('ready', flush=True)\n"
        "sys.stdin.readline(); print(int(images.train.astype(int).sum()))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "d"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    total = int(load(tmp_path / "d")[0].train.astype(int).sum())
    fill(tmp_path / "d", [40])
    load(tmp_path / "d")
    assert len(prepared()) == 1
    assert int(process.communicate("\n", timeout=60)[0]) == total
    assert process.returncode == 0


def test_what_a_killed_preparation_of_older_content_left_is_removed(tmp_path):
    fill(tmp_path / "d", range(30))
    leftover = cache_folder() / f".{'0' * 24}-abc"
    leftover.mkdir(parents=True)
    (leftover / "train.u8").write_bytes(bytes(100))
    load(tmp_path / "d")
    assert not leftover.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    fill(tmp_path / "d", range(30))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot prepare .* in .*file: .*DDPM_CACHE") as error:
        load(tmp_path / "d")
    assert "disk" not in str(error.value)


def test_prepared_data_of_an_older_version_goes_with_its_folder(tmp_path):
    fill(tmp_path / "d", range(30))
    load(tmp_path / "d")
    (folder,) = prepared()
    older = folder.with_name("0" * 24)
    shutil.move(folder, older)
    meta = json.loads((older / "meta.json").read_text())
    (older / "meta.json").write_text(json.dumps(meta | {"format": meta["format"] - 1}))
    load(tmp_path / "d")
    assert prepared() == [folder]
