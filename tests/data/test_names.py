"""The names of datasets: what is meant where there are two, what does not exist, and messages of one readable line."""

import logging

import pytest
from picture_files import fill, load, note, picture

from ddpm.data import DataOptions, prepare
from ddpm.data.wording import by_ending, listed
from ddpm.names import counted
from ddpm.presets import PRESETS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def refused(name, **options):
    with pytest.raises(ValueError, match=r".") as error:
        prepare(DataOptions(dataset_name=name, **options))
    assert "\n" not in str(error.value)
    assert str(error.value).encode("utf-8")
    return str(error.value)


def test_a_folder_named_digits_beside_the_built_in_dataset(tmp_path, caplog):
    fill(tmp_path / "digits", range(24))
    with caplog.at_level(logging.WARNING):
        assert len(prepare(DataOptions()).train) == 1707
    (line,) = caplog.messages
    assert "scikit-learn's, not the folder" in line
    assert "--dataset_name ./digits" in line
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert len(load("./digits")[1]) == 24
    assert not caplog.messages


def test_a_preset_whose_pictures_are_not_there_says_how_to_get_them():
    said = refused(PRESETS["emoji"]["dataset_name"])
    assert "no such folder" in said
    assert said.endswith("package/emoji.json package/img/google/64`")
    assert "get it by `npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz" in said


def test_a_mistyped_folder_is_said_before_the_hub(tmp_path):
    fill(tmp_path / "my/pictures", range(24))
    for name in ("my/pictres", "pictres/my", "pictres"):
        message = refused(name)
        assert message.index("no such folder") < message.index("the Hub cannot be reached")
    assert "there is 'my/pictures'" in refused("my/pictres")
    assert "there is 'my/pictures'" in refused("./my/Pictures")
    assert "no such folder" in refused("~nobody-of-this-name/pictures")


def test_a_dataset_that_is_not_on_the_hub_is_first_of_all_no_folder(monkeypatch):
    import huggingface_hub

    def missing(*args, **kwargs):
        error = RuntimeError("404")
        error.response = type("Response", (), {"status_code": 404})
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", missing)
    message = refused("my/pictres")
    assert message.index("no such folder") < message.index("not on the Hub")


def test_a_file_is_named_as_one(tmp_path):
    picture(1).save(tmp_path / "one.png")
    assert "'one.png' is a file; a folder of images or parquet files, a .zip archive, or an array" in refused("one.png")


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    for i in range(3):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / f"d/{i}.heic").write_bytes(b"x")
    (tmp_path / "d/x.txt").write_bytes(b"x")
    assert "holds no pictures and no tables; left out: 3 .heic, 1 .txt" in refused("d")
    (tmp_path / "d/x.npy").write_bytes(b"x")
    assert "'x.npy' cannot be read: it is no file of NumPy" in refused("d")


def test_long_lists_of_columns_are_cut(tmp_path):
    (tmp_path / "d").mkdir()
    names = ["label", *(f"pixel{i}" for i in range(784))]
    (tmp_path / "d/train.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    for message in (refused("d"), refused("d", image_column="image")):
        assert "label, pixel0, pixel1, pixel2, pixel3, pixel4, pixel5, pixel6 and 777 more" in message
        assert len(message) < 250


def test_one_is_no_plural(tmp_path):
    fill(tmp_path / "one", [1])
    assert "'one': 1 image, too few to hold any out" in refused("one")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.png").write_bytes(b"x")
    assert "none of 1 image is usable" in refused("bad")
    fill(tmp_path / "d/train", range(24))
    fill(tmp_path / "d/test", [30])
    (tmp_path / "d/test/31.png").write_bytes(b"x")
    images, _ = load("d")
    assert "skipped 1 of 26 images" in note(images, "skipped")
    assert "1 of 1 images" not in " ".join(images.notes)


def test_words_of_messages():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "class") for n in (1, 3)] == ["1 class", "3 classes"]
    assert listed([f"c{i}" for i in range(9)]) == "c0, c1, c2, c3, c4, c5, c6, c7, c8"
    assert listed([f"c{i}" for i in range(10)]) == "c0, c1, c2, c3, c4, c5, c6, c7 and 2 more"
    assert by_ending([".b", ".a", "", ".b"]) == "2 .b, 1 .a, 1 without ending"


@pytest.mark.parametrize("start", ["https://huggingface.co/datasets/", "hf://datasets/"])
def test_the_address_of_a_dataset_says_its_name(start):
    with pytest.raises(ValueError, match=r"; for this dataset on the Hub, pass ylecun/mnist$"):
        prepare(DataOptions(f"{start}ylecun/mnist"))
