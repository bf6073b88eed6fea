"""The page before its models are there: what is kept of the embedded ones, what it is built from, and what waits."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from launch import ROOT
from untrained import WatchedEngine, make_model

from ddpm.ui.server import facts
from ddpm.ui.server.catalogue import Catalogue, ClosedError
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.models import Models
from ddpm.ui.server.opening import Wanted, embedded, open_models
from ddpm.ui.server.service import Shared

BUILD = """
import sys
import app
from ddpm.ui import page
models = app.catalogue(app.parse([]), app.live_training())
blocks = page.build(models)
for name in models.names:
    assert models.show(name) == name
print(sorted({"torch", "diffusers", "openvino", "accelerate"} & sys.modules.keys()), len(blocks.blocks) > 20)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = [make_model(folder / name, 8, 1, 20) for name in ("a", "b")]
    made = Models(
        open_models([Wanted(str(path)) for path in made]), Shared(make_engine=lambda model: WatchedEngine(model))
    )
    yield made
    made.close()


def test_what_is_kept_of_the_embedded_models_follows_from_their_files():
    models = Models(embedded())
    try:
        found = {name: models.facts(name) for name in models.names}
    finally:
        models.close()
    kept = facts.kept()
    again = "the embedded models have changed; see ddpm.ui.server.opening.keep_facts"
    assert kept is not None, again
    assert list(kept) == list(found), again
    for name, known in found.items():
        assert kept[name] == known, again


def test_nothing_is_known_of_a_folder_once_a_file_has_changed(tmp_path, models):
    known = [dataclasses.replace(models.facts(name), directory=tmp_path / name) for name in models.names]
    for each in known:
        make_model(each.directory, 8, 1, 20)
    path = tmp_path / "facts.json"
    facts.keep(known, path)
    assert list(facts.kept(tmp_path, path).values()) == known
    weights = tmp_path / "a/unet/diffusion_pytorch_model.safetensors"
    for changed, content in (
        (tmp_path / "b/scheduler/scheduler_config.json", b"{}"),
        (tmp_path / "b/labels.json", b"[]"),
        (weights, weights.read_bytes()[:-4]),
        (path, b'{"a": {}}'),
        (path, b"\xff"),
    ):
        before = changed.read_bytes() if changed.exists() else None
        changed.write_bytes(content)
        assert facts.kept(tmp_path, path) is None, changed
        changed.unlink() if before is None else changed.write_bytes(before)
    assert list(facts.kept(tmp_path, path)) == ["a", "b"]
    make_model(tmp_path / "c", 8, 1, 20)
    assert facts.kept(tmp_path, path) is None, "a model was added"


def test_the_page_is_built_before_torch_is_imported():
    built = subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert built.stdout.split("\n")[-2] == "[] True", built.stdout + built.stderr


def waiting(models: Models, find=None) -> Catalogue:
    return Catalogue({name: models.facts(name) for name in models.names}, find or (lambda: models))


def test_what_needs_a_network_waits_until_the_models_are_there(models):
    catalogue, name = waiting(models), "b"
    messages = catalogue.answer({"model": name, "run": 5}, lambda service, sent: iter([{"kind": service.name}]))
    assert next(messages) == {"kind": "waking", "run": 5}
    got: list[object] = []
    look_up = catalogue.look_up(lambda service, asked: (service.name, asked))
    asking = threading.Thread(target=lambda: got.append(look_up({"model": name, "asked": 3})), daemon=True)
    asking.start()
    asking.join(0.2)
    assert not catalogue.is_open
    assert got == []
    assert catalogue.open() is models
    asking.join(20)
    assert got == [("b", 3)]
    assert list(messages) == [{"kind": "b"}]
    again = catalogue.answer({"model": "a", "run": 6}, lambda service, sent: iter([{"kind": service.name}]))
    assert list(again) == [{"kind": "a"}], "nothing is said to wait once they are there"


def test_pages_shown_early_are_remembered_so_that_their_examples_are_drawn(models):
    catalogue = waiting(models)
    assert [catalogue.show(name) for name in (None, "a", "b", "b", "nobody", 7)] == ["a", "a", "b", "b", "a", "a"]
    assert catalogue.take_asked() == ["b"]
    assert catalogue.take_asked() == []


def test_whoever_waits_is_told_when_no_models_come(models):
    def fails():
        raise OSError("no torch")

    catalogue, errors = waiting(models, fails), []

    def ask():
        try:
            catalogue.call("sample", "", {})
        except ClosedError as error:
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    with pytest.raises(OSError, match="no torch"):
        catalogue.open()
    asking.join(20)
    assert len(errors) == 1


def test_a_model_that_turns_out_unusable_is_named_with_its_reason(models):
    known = {name: models.facts(name) for name in models.names}
    broken = dataclasses.replace(known["a"], name="broken")
    found = Models({"broken": f"{ROOT}/secret: damaged", **{n: models.named(n).checkpoint for n in known}})
    catalogue = Catalogue({"broken": broken, **known}, lambda: found)
    assert isinstance(catalogue.facts("broken"), Facts)
    assert catalogue.show("broken") == "broken"
    catalogue.open()
    assert catalogue.facts("broken").endswith("damaged")
    assert str(ROOT) not in catalogue.facts("broken")
    assert catalogue.show("broken") == "a"
    assert [each.name for each in catalogue.usable] == ["a", "b"]
    found.close()


def test_the_kept_file_is_as_git_keeps_it():
    text = facts.KEPT.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert list(json.loads(text)) == [path.parent.name for path in ordered(facts.ASSETS)]


def ordered(folder: Path) -> list[Path]:
    """The embedded models in the order in which the page has them: mnist, then by name."""
    return sorted(folder.glob("*/model_index.json"), key=lambda path: (path.parent.name != "mnist", path.parent.name))
