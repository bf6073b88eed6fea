"""The page before its models are there: what is kept of the embedded ones, what it is built from, and what waits."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from coroutines import completed
from launch import ROOT
from starlette.concurrency import run_in_threadpool
from untrained import WatchedEngine, make_model

from ddpm.scheduler_files import _fields_of_others
from ddpm.ui.gradio import Traffic, logged
from ddpm.ui.server import facts
from ddpm.ui.server.catalogue import Catalogue, ClosedError
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.models import Models
from ddpm.ui.server.opening import Wanted, embedded, open_models
from ddpm.ui.server.service import Shared
from ddpm.ui.server.visitors import Visitors

BUILD = """
import sys
import app
page = app.page_module()
models = app.catalogue(app.parse([]), app.live_training())
blocks = page.build(models)
for name in models.names:
    assert models.show(name) == name
early = {"torch", "diffusers", "openvino", "accelerate", "pyarrow"} & sys.modules.keys()
import pyarrow.parquet
print(sorted(early), len(blocks.blocks) > 20)
"""
FIND = """
import importlib.util
import sys
import app
models = app.find(app.parse([]), None)
from ddpm.scheduler_files import _fields_of_others
print("scipy" in sys.modules, importlib.util.find_spec("scipy") is not None)
print(*_fields_of_others())
models.close()
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
        (path, b"[]"),
        (path, b'{"a": [], "b": []}'),
    ):
        before = changed.read_bytes() if changed.exists() else None
        changed.write_bytes(content)
        assert facts.kept(tmp_path, path) is None, changed
        changed.unlink() if before is None else changed.write_bytes(before)
    assert list(facts.kept(tmp_path, path)) == ["a", "b"]
    make_model(tmp_path / "c", 8, 1, 20)
    assert facts.kept(tmp_path, path) is None, "a model was added"


def test_the_page_is_built_before_torch_is_imported_and_without_pyarrow():
    """Pyarrow can be imported all the same."""
    built = subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert built.stdout.split("\n")[-2] == "[] True", built.stdout + built.stderr


def test_scipy_stays_out_of_the_server_but_can_be_imported():
    found = subprocess.run([sys.executable, "-c", FIND], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    first, settings = found.stdout.splitlines()
    assert first == "False True"
    assert set(settings.split()) >= _fields_of_others(), "a model with such a scheduler could not be opened any more"


def waiting(models: Models, find=None) -> Catalogue:
    return Catalogue({name: models.facts(name) for name in models.names}, find or (lambda: models))


def test_what_needs_a_network_waits_until_the_models_are_there(models):
    catalogue, name = waiting(models), "b"
    messages = catalogue.answer(
        "sample", {"model": name, "run": 5}, lambda service, sent: iter([{"kind": service.name}])
    )
    assert next(messages) == {"kind": "waking", "run": 5}
    look_up = catalogue.look_up(lambda service, asked: (service.name, asked))
    assert look_up({"model": name, "asked": 3}) == {"kind": "waking"}, "it does not wait"
    got: list[object] = []
    asking = threading.Thread(target=lambda: got.extend(messages), daemon=True)
    asking.start()
    asking.join(0.2)
    assert not catalogue.is_open
    assert not catalogue.is_settled()
    assert {message["kind"] for message in got} <= {"waking"}
    assert catalogue.open() is models
    assert catalogue.is_settled()
    asking.join(20)
    assert got[-1] == {"kind": "b"}
    assert look_up({"model": name, "asked": 3}) == ("b", 3)
    again = catalogue.answer("sample", {"model": "a", "run": 6}, lambda service, sent: iter([{"kind": service.name}]))
    assert list(again) == [{"kind": "a"}], "nothing is said to wait once they are there"


def test_a_request_that_was_stopped_or_replaced_does_not_wait_for_the_models(models):
    catalogue = waiting(models)
    sent = {"model": "a", "visitor": "me", "run": 5}
    messages = catalogue.answer("sample", sent, lambda service, sent: iter([]))
    assert next(messages) == {"kind": "waking", "run": 5}
    assert next(messages) == {"kind": "waking", "run": 5}, "now and then, so that it is noticed who has left"
    catalogue.visitors.expect("bound", {"visitor": "me", "run": 7})
    assert next(messages) == {"kind": "waking", "run": 5}, "another tab's"
    catalogue.visitors.expect("sample", {"visitor": "me", "run": 7})
    assert list(messages) == []


def test_the_page_and_its_models_know_the_same_visitors(models):
    assert Catalogue.of(models).visitors is models.shared.visitors is models.named("a").visitors
    visitors = Visitors()
    assert Shared(visitors=visitors).visitors is visitors is Catalogue({}, lambda: models, visitors=visitors).visitors


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
            catalogue.call("sample", "")
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


def test_a_model_that_is_another_than_is_kept_is_said(models, caplog):
    known = {name: models.facts(name) for name in models.names}
    stale = {**known, "b": dataclasses.replace(known["b"], max_images=3)}
    Catalogue(stale, lambda: models).open()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["b"]


def test_server_functions_wait_without_a_thread():
    """Far more than the forty threads in which the page itself is answered."""
    there = threading.Event()

    async def ask_early() -> list[int]:
        function = logged(lambda asked: asked + 1, there.is_set)
        asked = [asyncio.create_task(function(i)) for i in range(200)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in asked)
        assert await run_in_threadpool(lambda: "the page") == "the page"
        there.set()
        return await asyncio.gather(*asked)

    assert completed(asyncio.wait_for(ask_early(), 60)) == list(range(1, 201))


class Clock:
    """Takes the place of the module `time`: it moves only while somebody sleeps, and visitors come at given moments."""

    def __init__(self, traffic: Traffic, *visits: float) -> None:
        self.now, self.traffic, self.visits = 0.0, traffic, list(visits)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.visits and self.visits[0] <= self.now:
            self.visits.pop(0)
            self.traffic.note()


@pytest.mark.parametrize(
    ("visits", "end"),
    [
        ([], 0.5),  # nobody comes
        ([0.3, 0.6, 0.9], 0.9 + 0.4),  # somebody comes, and is served
        ([0.2, 0.7, 1.0], 0.2 + 0.4),  # the next one is too late
        ([0.1 * i for i in range(60)], 3.0),  # they come all the time
    ],
)
def test_the_imports_wait_for_a_lull_but_not_for_long(monkeypatch, visits, end):
    traffic = Traffic()
    clock = Clock(traffic, *visits)
    monkeypatch.setattr("ddpm.ui.gradio.time", clock)
    traffic.wait_for_lull(first_s=0.5, lull_s=0.4, most_s=3.0)
    assert clock.now == pytest.approx(end, abs=0.05)


def test_the_kept_file_is_as_git_keeps_it():
    text = facts.KEPT.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert list(json.loads(text)) == [path.parent.name for path in ordered(facts.ASSETS)]


def ordered(folder: Path) -> list[Path]:
    """The embedded models in the order in which the page has them: mnist, then by name."""
    return sorted(folder.glob("*/model_index.json"), key=lambda path: (path.parent.name != "mnist", path.parent.name))
