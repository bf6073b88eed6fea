"""The two files of a class-conditional model on their way to the Hub and back."""

import json
import os
import re

import pytest
import safetensors.torch
from hub_tools import commits, files_of, up
from labelled import NAMES, make_labelled, network

from ddpm import checkpoint
from ddpm.classes import separated
from ddpm.hub import contents
from ddpm.hub.snapshot import link_files

FILES = {"labels.json", "labels.safetensors"}


@pytest.fixture
def labelled(model):
    """A copy of the folder of a finished training, with a class-conditional model in it."""
    make_labelled(model, seed=len(str(model)))  # never 0, which is the seed of other models here
    return model


def in_short(folder):
    """The classes as hub_client.py has them."""
    classes = checkpoint.load(folder).classes
    return [list(classes.names), classes.vectors.double().sum().item()]


@pytest.mark.slow
def test_a_push_carries_the_labels_and_a_pull_brings_them(client, hub, labelled, name, tmp_path):
    client.value("push", directory=str(labelled), repo_id=name)
    files = up(hub, name)
    assert set(files) >= FILES
    assert json.loads(files["labels.json"]) == list(NAMES)
    assert files["labels.safetensors"] == (labelled / "labels.safetensors").read_bytes()
    settings = {"cache": str(tmp_path / "cache")}
    pulled = client.value("pull", settings, id_or_dir=name)
    assert pulled["classes"] == in_short(labelled)
    assert client.value("plain", settings, model=name) == pulled["weights"], "a plain DDPMPipeline"
    hub.fail("drop", times=-1)
    assert client.value("pull", settings, id_or_dir=name) == pulled | {"offline": True}, "from the cache"


@pytest.mark.slow
def test_a_push_of_a_model_that_is_no_longer_conditional_deletes_them(lfs, hub, labelled, name):
    lfs.value("push", directory=str(labelled), repo_id=name)
    plain, _ = separated(network(0), ())
    checkpoint.save(labelled, plain, json.loads((labelled / "scheduler/scheduler_config.json").read_text()))
    lfs.value("push", directory=str(labelled), repo_id=name)
    assert not set(up(hub, name)) & FILES
    assert commits(hub, name) == 2
    assert lfs.value("pull", id_or_dir=name)["classes"] is None


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FILES))
def test_labels_that_are_damaged_on_the_way_are_downloaded_again(lfs, hub, labelled, name, tmp_path, path):
    lfs.value("push", directory=str(labelled), repo_id=name)
    number = sorted(FILES).index(path)
    where = {"path": r"/labels\.json$", "after": 9} if number == 0 else {"path": "/_storage/", "after": 150, "skip": 1}
    hub.fail("corrupt", method="GET", **where)
    answer = lfs.ask("pull", {"cache": str(tmp_path / "a")}, id_or_dir=name)
    assert answer["value"]["classes"] == in_short(labelled), answer
    assert f"{path} is damaged; downloading it again" in answer["said"]
    hub.fail("corrupt", method="GET", times=-1, **where)
    assert f"{path} is damaged, downloaded twice" in lfs.error("pull", {"cache": str(tmp_path / "b")}, id_or_dir=name)


STRANGE = {
    "one is missing": (lambda f: {k: v for k, v in f.items() if k != "labels.json"}, "labels.safetensors but no labels.json"),
    "another model's": (None, "labels.safetensors belongs to other weights than those in unet/"),
    "names too many": (lambda f: f | {"labels.json": b'["a", "b", "c", "d"]'}, "the 4 names in labels.json"),
    "no list": (lambda f: f | {"labels.json": b"{}"}, "labels.json is no list of 1 to 10,000 names"),
    "too large": (lambda f: f | {"labels.json": b" " * (9 << 20)}, "labels.json has 9 MiB, more than 8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_labels_that_do_not_fit_are_refused(lfs, hub, labelled, name, tmp_path, kind):
    spoil, words = STRANGE[kind]
    files = files_of(labelled)
    if spoil is None:
        other = make_labelled(tmp_path / "other", seed=0)
        spoil = lambda f: f | {"labels.safetensors": (other / "labels.safetensors").read_bytes()}  # noqa: E731
    hub.put(name, spoil(files))
    assert words in lfs.error("pull", {"cache": str(tmp_path / "cache")}, id_or_dir=name)


def test_a_stranger_with_labels_inside_is_pulled(lfs, hub, tmp_path, name):
    unet = network(4, seed=8)
    checkpoint.save(tmp_path / "theirs", unet, {"num_train_timesteps": 1000, "beta_schedule": "linear"})
    hub.put(name, files_of(tmp_path / "theirs"))
    answer = lfs.ask("pull", id_or_dir=name)
    assert answer["value"]["classes"] == in_short(tmp_path / "theirs"), answer
    assert answer["value"]["classes"][0] == list("01234")
    assert "the network was trained with labels" in answer["said"]


UNUSABLE = {
    "no names": (("labels.json", None), "there is labels.safetensors but no labels.json"),
    "no vectors": (("labels.safetensors", None), "there is labels.json but no labels.safetensors"),
    "garbage": (("labels.safetensors", b"x" * 99), "labels.safetensors or the weights are damaged"),
    "no list": (("labels.json", b"{}"), "labels.json is no list of names"),
    "cut names": (("labels.json", b'["a", '), "labels.json, labels.safetensors or the weights are damaged"),
    "names too many": (
        ("labels.json", b'["a", "b", "c", "d"]'),
        "labels.safetensors has shape (3, 32), and (4, 32) is",
    ),
    "another model's": (("labels.safetensors", ...), "labels.safetensors belongs to other weights than those in unet/"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_labels_that_nobody_could_load_are_not_pushed(labelled, tmp_path, kind):
    (name, content), words = UNUSABLE[kind]
    if content is ...:
        content = (make_labelled(tmp_path / "other", seed=0) / name).read_bytes()
    contents.check_complete(labelled, labelled)
    (labelled / name).unlink()
    if content is not None:
        (labelled / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(words) + ".*, so nobody could load the model"):
        contents.check_complete(labelled, labelled)


def test_names_beside_a_network_with_its_vectors_inside_are_pushed(tmp_path):
    checkpoint.save(tmp_path, network(4, seed=8), {"num_train_timesteps": 1000, "beta_schedule": "linear"})
    (tmp_path / "labels.json").write_text(json.dumps(["a", "b", "c", "d", "e"]))
    assert checkpoint.load(tmp_path).classes.names == ("a", "b", "c", "d", "e")
    contents.check_complete(tmp_path, tmp_path)


def test_a_model_in_bfloat16_with_labels_is_complete(labelled):
    path = labelled / "unet/diffusion_pytorch_model.safetensors"
    safetensors.torch.save_file({k: v.bfloat16() for k, v in safetensors.torch.load_file(path).items()}, path)
    contents.check_complete(labelled, labelled)


def test_half_a_pair_is_not_pushed(lfs, hub, labelled, name):
    (labelled / "labels.json").unlink()
    assert "there is labels.safetensors but no labels.json" in lfs.error("push", directory=str(labelled), repo_id=name)


def test_a_snapshot_holds_vectors_and_weights_of_one_moment(labelled, tmp_path, monkeypatch):
    """A training saves between the two links."""
    real, saves = os.link, []

    def link(source, target):
        real(source, target)
        if str(target).endswith("labels.safetensors") and len(saves) < 2:
            saves.append(make_labelled(labelled, seed=90 + len(saves)))

    monkeypatch.setattr(os, "link", link)
    (tmp_path / "moment").mkdir()
    link_files(labelled, tmp_path / "moment")
    assert len(saves) == 2
    assert in_short(tmp_path / "moment") == in_short(labelled)
