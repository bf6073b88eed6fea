"""The model card: what is rewritten, and which paths never get into it."""

import shutil

import pytest

from ddpm import checkpoint
from ddpm.hub import card, privacy

ALL_EMBEDDED = sorted(index.parent for index in checkpoint.EMBEDDED.parent.glob("*/model_index.json"))


@pytest.mark.parametrize("mark", card.MARKS)
def test_a_card_with_any_marker_is_written_anew(tmp_path, mark):
    model = shutil.copytree(checkpoint.EMBEDDED, tmp_path / "mnist")
    (model / "README.md").write_text(f"{mark}\n\n# An older card")
    card.write(model, "you/mnist")
    text = (model / "README.md").read_text(encoding="utf-8")
    assert card.MARK in text
    assert "# An older card" not in text
    assert 'from_pretrained("you/mnist")' in text


@pytest.mark.parametrize("folder", ALL_EMBEDDED, ids=lambda folder: folder.name)
def test_the_embedded_card_is_what_the_code_writes(tmp_path, folder):
    model = shutil.copytree(folder, tmp_path / folder.name)
    card.write(model)
    written = (model / "README.md").read_text(encoding="utf-8").splitlines()
    embedded = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(written) == len(embedded)
    named = [(line, before) for line, before in zip(written, embedded, strict=True) if line != before]
    for line, before in named:  # commands alone, which name the directory
        at = f"ddpm/assets/{folder.name}"
        assert at in before
        assert before.replace(at, folder.name) == line.replace(at, folder.name)
    assert len(named) >= 3
    assert "/tmp/" not in "".join(embedded)


def test_a_card_without_measurements_says_so(tmp_path):
    model = shutil.copytree(checkpoint.EMBEDDED, tmp_path / "mnist")
    for name in ("metrics.jsonl", "training.png", "strip.png"):
        (model / name).unlink()
    shutil.rmtree(model / "samples")
    card.write(model)
    text = (model / "README.md").read_text(encoding="utf-8")
    assert "There are no measurements yet." in text
    assert ".png" not in text
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("value", "public"),
    [
        ("/home/somebody/my faces", "my faces"),
        ({"a": ["~/faces", 1, None]}, {"a": ["faces", 1, None]}),
        ("python -m ddpm.evaluate '/home/my runs' --seed 3", "python -m ddpm.evaluate 'my runs' --seed 3"),
        ("skipped 1 of 9: /home/somebody/my.png: broken", "skipped 1 of 9: my.png: broken"),
        ("runs/digits and https://hf.co/you/digits", "runs/digits and https://hf.co/you/digits"),
    ],
)
def test_of_a_path_on_this_machine_only_the_last_part_is_published(value, public):
    assert privacy.without_paths(value) == public
