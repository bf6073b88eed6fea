"""Images that belong together, such as the skin tones of one emoji, are held out together."""

import json
from collections import Counter

import numpy as np
import pytest
from picture_files import fill, labels_of, load, note, png, seeds_in
from PIL import Image

from ddpm.data import DataOptions, prepare
from ddpm.data.groups import Apart, base_of, by_code_points
from ddpm.draws import Purpose, generator

TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def emoji(hands=12, others=60):
    """Names of pictures, each with the emoji that it shows: some in six colours, others in one."""
    names = {}
    for hand in range(hands):
        names |= {f"{0x1F440 + hand:x}{tone}.png": hand for tone in ("", *(f"-{tone}" for tone in TONES))}
    return names | {f"{0x1F300 + other:x}.png": hands + other for other in range(others)}


def write(folder, names):
    folder.mkdir(parents=True)
    for seed, name in enumerate(sorted(names)):
        (folder / name).write_bytes(png(seed))
    return sorted(names)


def emoji_json(names):
    """The records of the package's emoji.json about these pictures."""
    found = []
    for name, shown in names.items():
        if "-" not in name:
            about = {"name": f"EMOJI {shown}", "unified": name[:-4].upper(), "image": name, "sheet_x": 3}
            about |= {"category": "Symbols" if shown % 3 else "Objects", "short_names": ["a"]}
            tones = {
                n[6:-4].upper(): {"image": n, "unified": n[:-4].upper()} for n in names if n.startswith(name[:-4] + "-")
            }
            found.append(about | ({"skin_variations": tones} if tones else {}))
    return found


@pytest.mark.parametrize(
    ("names", "base"),
    [
        ("1f44b.png 1f44b-1f3fb.png 1F44B-1F3FF.webp emoji_u1f44b_1f3fd.png png/128/emoji_u1f44b.png", "1f44b"),
        ("1f468-200d-1f52c.png 1f469-1f3fe-200d-1f52c.png 1f9d1-200d-1f52c.png", "1f9d1-1f52c"),
        ("1f3c3-200d-2640-fe0f.png 1f3c3-1f3fb-200d-2642-fe0f-200d-27a1-fe0f.png 1f3c3.png", "1f3c3"),
        ("1f46d.png 1f46c-1f3fb.png 1f469-1f3fb-200d-1f91d-200d-1f468-1f3fd.png 1f9d1-200d-1f91d-200d-1f9d1.png", "1f9d1-1f91d-1f9d1"),
        ("1f48f-1f3fc.png 1f468-1f3fb-200d-2764-fe0f-200d-1f48b-200d-1f468-1f3fc.png", "1f9d1-2764-1f48b-1f9d1"),
        ("1f91d.png 1f91d-1f3fb.png 1faf1-1f3fb-200d-1faf2-1f3fc.png", "1faf1-1faf2"),
        ("0023-fe0f-20e3.png 23-20e3.png", "23-20e3"),
        ("1f3fb.png", "1f3fb"),
        ("2640-fe0f.png", "2640-fe0f"),
        ("1f1e6-1f1fa.png", "1f1e6-1f1fa"),
        ("cat.png 12345.png 1f44b-cat.png abc.png 00001.png", None),
    ],
)  # fmt: skip
def test_names_of_emoji_tell_which_emoji_they_vary(names, base):
    assert {base_of(name) for name in names.split()} == {base}


def test_whole_groups_are_held_out_about_one_image_of_twenty():
    names = list(emoji(hands=160, others=300).values())
    apart = Apart.of([str(name) for name in names])
    held_out = {name for name, flag in zip(names, apart.held_out, strict=True) if flag}
    trained = {name for name, flag in zip(names, apart.held_out, strict=True) if not flag}
    assert not held_out & trained
    assert apart.held_out.sum() == len(names) // 20
    assert (apart.groups[:6] == apart.groups[0]).all()
    assert 0 < sum(Counter(names)[name] == 6 for name in held_out) < len(held_out), "groups of both kinds"
    # A group that would decide the held-out loss by itself stays for training, whatever its place.
    large = Apart.of([*["large"] * 40, *map(str, names)])
    assert not large.held_out[:40].any()
    assert 0.045 < large.held_out.mean() < 0.055
    for count, share in ((2, 0.5), (5, 0.2), (40, 0.05)):  # groups that are all large: as near to 5 % as it goes
        assert abs(Apart.of([str(i % count) for i in range(400)]).held_out.mean() - share) < 0.01
    alone = Apart.of([*["a"] * 50, *[None] * 350])
    assert (alone.groups == -1).sum() == 350
    assert alone.held_out.sum() == 20
    assert not alone.held_out[:50].any()


def test_nothing_is_grouped_where_nothing_belongs_together():
    assert Apart.of([str(i) for i in range(100)]) is None
    assert Apart.of([None] * 100) is None
    assert Apart.of(["all"] * 100) is None
    assert by_code_points(f"{i:05d}.png" for i in range(60_000)) is None
    assert by_code_points(f"{i}.png" for i in range(8203, 9999)) is None, "numbers that are also signs"
    assert by_code_points(["1f44b-1f3fb.png", *(f"photo {i}.png" for i in range(50))]) is None
    assert by_code_points(f"{0x1F300 + i:x}.png" for i in range(50)) is None, "none of them in skin tones"


def test_without_groups_one_image_at_random_of_each_twenty_is_held_out_as_ever(tmp_path):
    images, _ = load(fill(tmp_path / "d", range(50)))
    draw = generator(0, Purpose.HELD_OUT)
    expected = [start + int(draw.integers(20)) for start in (0, 20, 40)]
    assert seeds_in(images.eval) == [place for place in expected if place < 50]
    assert images.train_groups is None
    assert images.eval_groups is None
    assert "held out: 5 %" in images.notes[0]


def test_a_folder_of_emoji_with_its_table_above_it(tmp_path):
    """As `npm pack emoji-datasource-google` and tar leave it, from either folder, with sheets and tone squares."""
    package, listed = tmp_path / "package", emoji()
    square = {"name": "TONE", "unified": "1F3FB", "image": "1f3fb.png", "category": "Component"}
    names = listed | {"1f3fb.png": None}
    shown = write(package / "img/google/64", names)
    (package / "emoji.json").write_text(json.dumps([*emoji_json(listed), square]))
    images, seeds = load(package / "img/google/64")
    of = [names[shown[seed]] for seed in seeds]
    trained, held_out = of[: len(images.train)], of[len(images.train) :]
    assert not set(trained) & set(held_out)
    assert 5 <= len(held_out) <= 9, "of 133"
    assert images.class_names == ("Objects", "Symbols"), "squares of skin tones are in no category"
    for seed, label in labels_of(images).items():
        emoji_shown = names[shown[seed]]
        assert label == (-1 if emoji_shown is None else int(emoji_shown % 3 > 0))
    said = note(images, "training on")
    assert "whole groups by the emoji that the names of the files spell" in said
    assert "labels from '../../../emoji.json' for 132 of 133 images" in said
    groups = [*images.train_groups, *images.eval_groups]
    assert all((groups[i] == groups[j]) == (of[i] == of[j]) for i in range(len(of)) for j in range(i))
    # The whole package has sheets of all emoji, too.
    fill(package / "img/google/sheets", (197, 198))
    whole = prepare(DataOptions(str(package)))
    assert whole.fingerprint == images.fingerprint
    assert "2 pictures that emoji.json does not list" in note(whole, "left out")
    assert "labels from 'emoji.json'" in note(whole, "training on")
    # A table that changes is noticed.
    (package / "emoji.json").write_text(json.dumps([*emoji_json(listed | {"1f440.png": 1}), square, square]))
    assert prepare(DataOptions(str(package / "img/google/64"))).train.filename != images.train.filename
    by_name = prepare(DataOptions(str(package), group_column="name", label_column="unified"))
    assert len(by_name.label_names) == 72 + 1
    assert "by column 'name'" in note(by_name, "training on")


def test_a_column_of_groups_in_a_table_beside_pictures(tmp_path):
    folder = fill(tmp_path / "d", range(120))
    (folder / "labels.csv").write_text(
        "file,label,person\n" + "".join(f"{i:03d}.png,{i % 2},p{i // 4}\n" for i in range(120))
    )
    images, seeds = load(folder, group_column="person")
    people = [seed // 4 for seed in seeds]
    assert not set(people[: len(images.train)]) & set(people[len(images.train) :])
    assert 4 <= len(images.eval) <= 8
    (folder / "labels.csv").rename(folder / "people.csv")
    text = (folder / "people.csv").read_text().replace("label", "age")
    (folder / "people.csv").write_text(text.replace(",1,", ",0,"))  # so only the groups are read from it
    notes = load(folder, group_column="person")[0].notes
    assert not any("left out" in line for line in notes)
    with pytest.raises(ValueError, match=r"--group_column 'who': no .* beside the pictures has groups"):
        load(folder, group_column="who")


@pytest.fixture
def table(tmp_path):
    """A parquet file as the Hub has it, whose pictures have names of emoji, and what each row shows."""
    import datasets

    names = emoji()
    columns = {"image": [{"bytes": png(seed), "path": name} for seed, name in enumerate(names)]}
    columns |= {
        "label": [shown % 3 for shown in names.values()],
        "name": [f"emoji {shown}" for shown in names.values()],
    }
    columns |= {"pair": [shown // 2 if shown % 5 else None for shown in names.values()]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"]), "name": datasets.Value("string"), "pair": datasets.Value("int64")})  # fmt: skip
    (tmp_path / "t").mkdir()
    rows = datasets.Dataset.from_dict(columns, features=features)
    rows.to_parquet(str(tmp_path / "t/train-00000-of-00001.parquet"))
    return tmp_path / "t", list(names.values())


def test_a_table_of_emoji_is_held_out_by_emoji(table):
    folder, shown = table
    alone = [None if emoji % 5 == 0 else emoji // 2 for emoji in shown]
    fingerprints = set()
    for column, of in ((None, shown), ("name", shown), ("pair", alone)):
        images, seeds = load(folder, group_column=column)
        kinds = [of[seed] for seed in seeds]
        trained, held_out = set(kinds[: len(images.train)]) - {None}, set(kinds[len(images.train) :]) - {None}
        assert not trained & held_out, column
        assert 5 <= len(images.eval) <= 9, "of 132"
        assert (
            f"by column {column!r}" if column else "by the emoji that the names of the files spell"
        ) in images.notes[0]
        fingerprints.add(images.fingerprint)
        assert labels_of(images) == {seed: emoji % 3 for seed, emoji in enumerate(shown)}
        again = prepare(DataOptions(str(folder), group_column=column))
        assert np.array_equal(again.eval_groups, images.eval_groups), "from the cache"
        assert len(again.train_groups) == len(again.train)
    assert len(fingerprints) >= 2, "what is held out is a part of it"
    for name, said in (
        ("nmae", "the columns are image, label, name, pair"),
        ("image", "it holds the images; the columns"),
    ):
        with pytest.raises(ValueError, match=f"--group_column '{name}': {said}"):
            prepare(DataOptions(str(folder), group_column=name))


def test_pictures_that_cannot_be_read_do_not_move_the_others_into_other_groups(tmp_path):
    package = tmp_path / "files"
    names = write(package, emoji())
    for name in names[::7]:
        (package / name).write_bytes(b"no picture")
    images, seeds = load(package)
    of = emoji()
    kinds = [of[names[seed]] for seed in seeds]
    assert not set(kinds[: len(images.train)]) & set(kinds[len(images.train) :])
    assert len(seeds) == len(names) - len(names[::7])


def test_a_split_that_is_held_out_already_stays_as_it_is(tmp_path):
    names = write(tmp_path / "d/train", emoji())
    fill(tmp_path / "d/test", (190, 191, 192))
    images, _ = load(tmp_path / "d")
    assert seeds_in(images.eval) == [190, 191, 192]
    assert len(images.train) == len(names)
    assert images.train_groups is None


def test_pictures_of_emoji_with_a_palette_and_in_gray_train_as_they_are(tmp_path):
    """The package's pictures are RGBA, LA, and of a palette."""
    rng, folder = np.random.default_rng(0), tmp_path / "64"
    folder.mkdir()
    for number, name in enumerate(emoji(6, 20)):
        picture = Image.fromarray(rng.integers(0, 256, (64, 64, 4), np.uint8))
        kind = ("RGBA", "LA", "P")[number % 3]
        picture = picture.quantize(16) if kind == "P" else picture.convert(kind)
        picture.save(folder / name)
    images = prepare(DataOptions(str(folder), resolution=32))
    assert images.train.shape[1:] == (3, 32, 32)
    assert "56 of 56 images are transparent in places and laid on white (--background)" in images.notes
