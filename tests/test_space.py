"""What a Space reads: the front matter of the README, and everything that it and the card link to."""

import re
from pathlib import Path

import yaml
from PIL import Image

from ddpm import checkpoint

ROOT = Path(__file__).parent.parent

SPACE_KEYS = set(
    "title emoji colorFrom colorTo sdk python_version sdk_version suggested_hardware app_file base_path fullWidth header "
    "short_description models datasets tags thumbnail pinned hf_oauth disable_embedding startup_duration_timeout "
    "custom_headers preload_from_hub license".split()
)


def front_matter(path):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_the_space_can_start_from_the_front_matter():
    front = front_matter(ROOT / "README.md")
    assert set(front) <= SPACE_KEYS
    assert (front["sdk"], front["app_file"], front["license"]) == ("gradio", "app.py", "apache-2.0")
    assert f"gradio[mcp]=={front['sdk_version']}" in (ROOT / "requirements.txt").read_text()
    assert len(front["short_description"]) <= 60
    assert front["colorFrom"] in "red yellow green blue indigo purple pink gray".split()


def test_the_thumbnail_is_a_picture_of_this_repository_for_a_card_of_a_link():
    """The Hub wants its full address, and other sites show it about 1.91 times as wide as it is high."""
    address = front_matter(ROOT / "README.md")["thumbnail"]
    space, _, path = address.removeprefix("https://huggingface.co/spaces/").partition("/resolve/main/")
    assert f"hf upload {space} ." in (ROOT / "README.md").read_text(encoding="utf-8"), "both are to be renamed"
    with Image.open(ROOT / path) as picture:
        assert picture.size == (1200, 630)


def test_everything_the_readmes_link_to_exists():
    for readme in (ROOT / "README.md", checkpoint.EMBEDDED / "README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)\s]*\)", readme.read_text(encoding="utf-8")):
            assert (readme.parent / target).exists(), f"{readme}: {target}"
