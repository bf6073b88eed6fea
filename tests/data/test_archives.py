"""Zip archives: they train in place, and count once where they lie beside their unpacked pictures."""

import io
import re
import tarfile
import zipfile

import pytest
from picture_files import archive, fill, labels_of, load, note, picture, png, seeds_in
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def members(seeds, name="{:03d}.png"):
    return {name.format(seed): png(seed) for seed in seeds}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_trains_in_place(tmp_path, compression):
    path = tmp_path / "d/images.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", compression) as opened:
        for seed in range(40):
            opened.writestr(f"data/{'cat' if seed < 20 else 'dog'}/{seed}.png", png(seed))
    for name in (path.parent, path):  # the folder, and the archive itself
        images, seeds = load(name)
        assert sorted(seeds) == list(range(40))
        assert labels_of(images) == {seed: int(seed >= 20) for seed in range(40)}
        assert "training on all pictures (40 .png); held out: 5 %; 40 pictures in .zip archives" in images.notes[0]
    assert list(path.parent.iterdir()) == [path]


def test_archives_and_folders_in_archives_are_splits(tmp_path):
    archive(
        tmp_path / "one/pictures.zip", members(range(24), "x/Train/{}.png") | members(range(30, 36), "x/Test/{}.png")
    )
    archive(tmp_path / "two/train.zip", members(range(24)))
    archive(tmp_path / "two/test.zip", members(range(30, 36), "test/{}.png"))
    for name in ("one", "two"):
        images, _ = load(tmp_path / name)
        assert sorted(seeds_in(images.train)) == list(range(24))
        assert sorted(seeds_in(images.eval)) == list(range(30, 36))
        assert images.train_labels is None


@pytest.mark.parametrize("place", ["", "images", "somewhere/else"])
def test_an_archive_beside_its_unpacked_pictures_counts_once(tmp_path, place):
    root = tmp_path / "d"
    archive(root / "images.zip", members(range(40), "a/{:03d}.png"))
    fill(root / place / "a", range(40))
    images, seeds = load(root)
    assert sorted(seeds) == list(range(40))
    assert "40 pictures in 'images.zip' (unpacked elsewhere in the folder)" in note(images, "left out")


def test_what_is_only_in_the_archive_counts(tmp_path):
    """Some were unpacked; one name stands for another picture; and one of them was converted."""
    root = tmp_path / "d"
    archive(root / "images.zip", members(range(40)))
    fill(root, range(10))
    (root / "005.png").write_bytes(png(105))
    assert sorted(load(root)[1]) == [*range(40), 105]
    fill(root / "images", range(10, 30))
    (root / "images/020.png").unlink()
    picture(120).save(root / "images/020.bmp")
    assert sorted(load(root)[1]) == [*range(20), *range(21, 40), 105, 120]


def test_an_archive_that_was_downloaded_twice_counts_once(tmp_path):
    for name in ("images.zip", "images (1).zip"):
        archive(tmp_path / "d" / name, members(range(30)))
    archive(tmp_path / "d/more.zip", members(range(40, 50)) | {"000.png": png(60)})
    assert sorted(load(tmp_path / "d")[1]) == [*range(30), *range(40, 50), 60]


def test_junk_and_archives_in_archives(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as opened:
        opened.writestr("x.png", png(100))
    junk = {"__MACOSX/a/._000.png": b"x", "a/.DS_Store": b"x", "a/Thumbs.db": b"x", "a/._1.png": b"x", "a/": b""}
    content = members(range(24), "a/{:03d}.png") | junk | {"a/inner.zip": inner.getvalue(), "read.me": b"text"}
    images, seeds = load(archive(tmp_path / "d.zip", content))
    assert sorted(seeds) == list(range(24))
    left_out = note(images, "left out")
    assert left_out.count(";") == 1, "only these two"
    assert "1 .me" in left_out
    assert "'inner.zip' in 'd.zip' (archives in archives must be unpacked)" in left_out


def test_damaged_and_encrypted_members_are_named_with_their_archive(tmp_path):
    path = archive(tmp_path / "d/images.zip", members(range(30)))
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255  # in the first picture: its checksum tells
    with zipfile.ZipFile(path) as opened:
        offset = opened.infolist()[4].header_offset
    content[offset + 6] |= 1
    central = [i for i in range(len(content)) if content[i : i + 4] == b"PK\1\2"][4]
    content[central + 8] |= 1  # encrypted, says the list
    path.write_bytes(content)
    (tmp_path / "d/cut.zip").write_bytes(content[: len(content) // 2])
    images, seeds = load(tmp_path / "d")
    assert sorted(seeds) == [*range(1, 4), *range(5, 30)]
    skipped = note(images, "skipped 2 of 30 images")
    assert "images.zip/000.png" in skipped
    assert "Bad CRC-32" in skipped
    assert "images.zip/004.png" in skipped
    assert "it is encrypted" in skipped
    assert "'cut.zip' (File is not a zip file)" in note(images, "Warning")
    with pytest.raises(ValueError, match=r"cannot be read: 'cut\.zip' \(File is not a zip file\)$"):
        load(tmp_path / "d/cut.zip")


def test_archives_without_pictures_say_what_they_hold(tmp_path):
    inner = archive(tmp_path / "inner.zip", members(range(3))).read_bytes()
    for content, message in (
        ({"inner.zip": inner}, "'inner.zip' in 'd.zip' (archives in archives must be unpacked)"),
        ({"a/x.heic": b"x"}, "left out: 1 .heic"),
        ({}, "the archive is empty"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            load(archive(tmp_path / "d.zip", content))


def test_names_in_the_code_page_of_another_system(tmp_path):
    """GBK without the flag for UTF-8, and UTF-8 without it; labels are found by these names, too."""
    gbk, utf8 = "数字".encode("gbk"), "数字".encode()
    table = b"file,label\n" + b"".join(
        b"%s%d.png,%s\n" % (name, i, label)
        for name, label, seeds in ((gbk, b"old", range(20)), (utf8, b"new", range(20, 40)))
        for i in seeds
    )
    raw = archive(
        tmp_path / "made.zip",
        members(range(20), "GGGG{}.png") | members(range(20, 40), "UUUUUU{}.png") | {"labels.csv": table},
    ).read_bytes()
    path = tmp_path / "d.zip"
    path.write_bytes(raw.replace(b"GGGG", gbk).replace(b"UUUUUU", utf8))
    images, seeds = load(path)
    assert sorted(seeds) == list(range(40))
    assert labels_of(images) == {seed: int(seed < 20) for seed in range(40)}


def test_backslashes_of_windows_are_folders(tmp_path):
    path = archive(tmp_path / "d.zip", members(range(20), "cat\\{}.png") | members(range(20, 40), "dog\\{}.png"))
    assert labels_of(load(path)[0]) == {seed: int(seed >= 20) for seed in range(40)}


def test_a_tar_beside_its_unpacked_pictures_changes_nothing(tmp_path):
    root = tmp_path / "d"
    fill(root / "cat", range(20))
    fill(root / "dog", range(20, 40))
    with tarfile.open(root / "all.tar", "w") as tar:
        tar.add(root / "cat", "all/cat")
        tar.add(root / "dog", "all/dog")
    images, seeds = load(root)
    assert sorted(seeds) == list(range(40))
    assert labels_of(images) == {seed: int(seed >= 20) for seed in range(40)}
    assert "1 .tar" in note(images, "left out")


def test_a_tar_of_other_pictures_holds_the_images(tmp_path):
    """Tables and tar archives that hold images decide, and what they displace is said."""
    root = tmp_path / "d"
    fill(root / "preview", [100, 101])
    fill(tmp_path / "source", range(30))
    with tarfile.open(root / "train.tar", "w") as tar:
        for seed in range(30):
            tar.add(tmp_path / f"source/{seed:03d}.png", f"{seed:03d}.png")
    images, seeds = load(root)
    assert sorted(seeds) == list(range(30))
    assert "left out: 2 pictures, because the tables hold images" in note(images, "left out")


def test_a_picture_too_large_for_an_archive_member_is_no_surprise(tmp_path):
    """Formats other than PNG, and a colour picture after gray ones, which has the archive read a second time."""
    path = archive(tmp_path / "d.zip", members(range(24)))
    colour = io.BytesIO()
    Image.new("RGB", (12, 12), (9, 99, 199)).save(colour, "WEBP", lossless=True)
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("zz.webp", colour.getvalue())
    from ddpm.data import DataOptions, prepare

    images = prepare(DataOptions(dataset_name=str(path)))
    assert images.channels == 3
    assert len(images.train) + len(images.eval) == 25


def test_archives_in_parts_links_in_archives_and_what_is_no_archive(tmp_path):
    content = archive(tmp_path / "x.zip", members(range(24))).read_bytes()
    (tmp_path / "parts").mkdir()
    for number, part in enumerate((content[:2000], content[2000:]), 1):
        (tmp_path / f"parts/x.zip.{number:03d}").write_bytes(part)
    with pytest.raises(ValueError, match=r"1 .zip.001, 1 .zip.002 \(no pictures.*; join the parts of archives and"):
        load(tmp_path / "parts")
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as opened:
        opened.writestr(link, "000.png")
    images, seeds = load(tmp_path / "x.zip")
    assert sorted(seeds) == list(range(24))
    assert "link.png (row 24): it is a link; unpack the archive" in note(images, "skipped 1 of 25 images")
    fill(tmp_path / "d", range(24))
    (tmp_path / "d/y.zip").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "'y.zip' (it is a Git LFS pointer, not the" in note(load(tmp_path / "d")[0], "Warning")


def test_tables_in_archives_must_be_unpacked(tmp_path):
    archive(tmp_path / "d/x.zip", {"train.parquet": b"PAR1"})
    with pytest.raises(ValueError, match=r"tables in archives are not read; unpack them$"):
        load(tmp_path / "d")
