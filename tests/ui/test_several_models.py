"""Several models on one page: their names, which of them are in memory, and what a request about one of them gets."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import WatchedEngine, make_model

import app
from ddpm import checkpoint
from ddpm.sampling import sample
from ddpm.ui.api import descriptions
from ddpm.ui.server import opening
from ddpm.ui.server.answers import Endpoints
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.examples import ASSETS, stored_pictures
from ddpm.ui.server.models import Models
from ddpm.ui.server.networks import MAX_KEPT
from ddpm.ui.server.opening import Wanted, names_of, open_models, wanted
from ddpm.ui.server.requests import InputError, SampleRequest
from ddpm.ui.server.service import Shared

DDIM = {"sampler": "ddim", "num_inference_steps": 5}
ROWS = {"num_images": 2, "seed": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Five gray models of 8 x 8 with different weights; the second has another T."""
    made = []
    for i in range(5):
        made.append(make_model(tmp_path_factory.mktemp("models") / f"m{i}", 8, 1, 100 if i == 1 else 200))
        unet = checkpoint.load(made[-1]).unet
        torch.manual_seed(i)
        torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
        unet.save_pretrained(made[-1] / "unet")
    return made


def break_weights(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[8:40] = b"x" * 32
    weights.write_bytes(content)


def of(*folders: Path, **shared) -> Models:
    return Models(open_models([Wanted(str(folder)) for folder in folders]), Shared(**shared))


def test_a_name_is_the_last_part_and_none_is_given_twice(folders):
    assert names_of([Wanted(str(folders[0])), Wanted("you/emoji"), Wanted("you/digits", "v1")]) == [
        "m0",
        "emoji",
        "digits",
    ]
    alike = [Wanted("you/emoji"), Wanted("me/emoji"), Wanted("you/digits", "v1"), Wanted("you/digits", "v2")]
    assert names_of(alike) == ["you-emoji", "me-emoji", "digits@v1", "digits@v2"]
    assert names_of([Wanted("a/b/m"), Wanted("c/b/m"), Wanted("you/x")]) == ["m", "m-2", "x"]


def test_a_revision_belongs_to_one_id_or_to_all_without_their_own(tmp_path):
    (tmp_path / "runs@home").mkdir()
    given = ["you/a@v1", "you/b", str(tmp_path / "runs@home"), "you/b"]
    assert wanted(given, None) == [Wanted("you/a", "v1"), Wanted("you/b"), Wanted(str(tmp_path / "runs@home"))]
    assert wanted(["you/a@v1", "you/b"], "main") == [Wanted("you/a", "v1"), Wanted("you/b", "main")]


def test_flags_are_repeated_and_the_variable_has_commas(monkeypatch):
    monkeypatch.setenv("DDPM_MODEL", "you/a, you/b@v1 ,,")
    monkeypatch.setenv("DDPM_REVISION", "main")
    chosen = app.parse([])
    assert (chosen.model, chosen.revision, chosen.fallback) == (["you/a", "you/b@v1"], "main", True)
    chosen = app.parse(["--model", "here", "--model", "there"])
    assert (chosen.model, chosen.revision, chosen.fallback) == (["here", "there"], None, False)


def test_every_embedded_folder_is_a_model_and_mnist_is_the_first(tmp_path, monkeypatch):
    for name in ("emoji", "mnist", "bound"):
        make_model(tmp_path / name, 8, 1, 20)
    (tmp_path / "pictures").mkdir()
    monkeypatch.setattr(opening, "EMBEDDED", tmp_path / "mnist")
    assert list(app.choose([], None, False)) == ["mnist", "bound", "emoji"]


def test_what_cannot_be_opened_is_named_and_the_others_serve(folders, tmp_path, capsys):
    found = app.choose([str(tmp_path / "nowhere"), str(folders[0])], None, False)
    assert "no such directory" in capsys.readouterr().err
    models = Models(found)
    assert (models.names, models.first.name) == (["nowhere", "m0"], "m0")
    assert models.reason("nowhere").startswith("model 'nowhere': no such directory"), "without the server's path"
    with pytest.raises(InputError, match=r"nowhere: this model cannot be used: .*no such directory"):
        models.named("nowhere")
    with pytest.raises(InputError, match="model = x: one of nowhere, m0 is needed"):
        models.named("x")
    models.close()


def test_a_space_falls_back_once_none_of_its_models_has_good_weights(folders, tmp_path, capsys):
    broken = make_model(tmp_path / "broken", 8, 1, 20)
    break_weights(broken)
    found = app.choose([str(broken), str(folders[0])], None, True)
    assert "cannot be loaded" in found["broken"]
    assert found["m0"].unet.device.type == "meta", "several models are read when they are asked for"
    found = app.choose([str(broken)], None, True)
    assert [name for name, each in found.items() if isinstance(each, str)] == [str(broken)]
    assert found["mnist"].directory == checkpoint.EMBEDDED
    assert "serving the embedded model instead" in capsys.readouterr().err


def test_damaged_weights_are_found_when_the_model_is_shown_first(folders, tmp_path, caplog):
    broken = make_model(tmp_path / "broken", 8, 1, 20)
    break_weights(broken)
    models = of(folders[0], broken)
    assert models.reason("broken") is None, "its weights are not read yet"
    assert models.show("broken") is models.first
    assert "cannot be loaded" in models.reason("broken")
    assert "broken cannot be used" in caplog.text
    sent = {**DDIM, **ROWS, "model": "broken", "run": 7}
    (refused,) = models.answer(sent, lambda service, raw: service.samplings.sample(raw))
    assert (refused["kind"], refused["key"], refused["run"]) == ("refused", "refused.model", 7)
    models.close()
    models = of(broken, folders[0])
    assert models.wait().name == "m0", "another model is the first"
    models.close()


@pytest.mark.slow
def test_no_more_networks_than_the_bound_are_in_memory_and_the_least_recently_used_goes(folders):
    engines = []

    def make(made):
        engines.append(weakref.ref(engine := made.engine()))
        return engine

    models = of(*folders, make_engine=make)
    kept = models.shared.networks
    request = SampleRequest("ddim", 2, 1, 1)
    for name in ("m0", "m1", "m2", "m0", "m3"):
        models.named(name).samplings.draw(request, lambda: False)
        models.named(name).samplings.draw(SampleRequest("ddim", 3, 1, 1), lambda: False)
        assert len(kept.names) <= MAX_KEPT
    assert kept.names == ["m2", "m0", "m3"], "m1 was used least recently"
    models.named("m1").samplings.draw(request, lambda: False)
    assert kept.names == ["m0", "m3", "m1"]
    gc.collect()
    assert len(engines) == 5
    assert sum(engine() is not None for engine in engines) == MAX_KEPT, "what was dropped is freed"
    models.close()


@pytest.mark.slow
def test_a_network_is_not_dropped_under_a_running_sampling(folders):
    half, go, loads = threading.Event(), threading.Event(), []

    def make(made):
        loads.append(made.name)
        return WatchedEngine(made, lambda xt, t: None)

    models = of(*folders, make_engine=make, most=1)
    running, drawn = models.named("m0"), []

    def watch():
        sent = {**DDIM, "num_inference_steps": 20, **ROWS, "model": "m0"}
        for message in models.answer(sent, lambda service, raw: service.samplings.sample(raw)):
            if message["kind"] == "frame" and not half.is_set():
                half.set()
                assert go.wait(60)
            drawn.append(message["kind"])

    thread = threading.Thread(target=watch)
    thread.start()
    assert half.wait(60)
    for name in ("m1", "m2"):
        models.named(name).samplings.draw(SampleRequest("ddim", 2, 1, 1), lambda: False)
        assert models.shared.networks.names == ["m0", name], "the one in use, and the latest"
    go.set()
    thread.join(60)
    assert drawn[-1] == "done"
    assert loads == ["m0", "m1", "m2"], "m0 was read once"
    running.wait_for_model()
    assert len(models.shared.networks.names) == 1, "the bound holds again"
    models.close()


def test_rows_of_several_models_are_those_of_the_library_for_each(folders):
    models = of(*folders[:3])
    rows = [{**DDIM}, {**DDIM, "model": "m1"}, {**DDIM, "sampler": "ddpm", "model": "m2"}]
    messages = list(models.answer({**ROWS, "rows": rows}, lambda s, raw: models.sample_rows(s, raw, "compare")))
    done = messages[-1]
    assert done["kind"] == "done"
    assert {m["row"]: m["model"] for m in messages if m["kind"] == "row"} == {0: "m0", 1: "m1", 2: "m2"}
    pictures = []
    for name, row, key in zip(("m0", "m1", "m2"), rows, done["keys"], strict=True):
        service = models.named(name)
        drawn = torch.frombuffer(bytearray(service.samplings.stored(key).finished), dtype=torch.uint8).reshape(2, 8, 8)
        checked = checkpoint.load(service.checkpoint.directory)
        own = sample(
            checked.engine(),
            checked.scheduler,
            (2, 1, 8, 8),
            sampler=row["sampler"],
            num_inference_steps=5,
            seed=3,
        )
        assert (drawn - ((own + 1) * 127.5).round().clamp(0, 255)[:, 0]).abs().max() <= 1
        pictures.append(drawn)
    assert (pictures[0] != pictures[1]).any()
    assert models.named("m1").samplings.stored(done["keys"][0]) is None or done["keys"][0] == done["keys"][1]
    models.close()


def test_rows_take_only_models_of_the_same_size_and_each_its_own_number_of_steps(folders, tmp_path):
    models = of(*folders[:2], make_model(tmp_path / "other", 16, 1, 200))
    for row, told in (
        ({**DDIM, "model": "other"}, {"name": "model", "value": "other", "choices": "m0, m1", "row": 2}),
        ({**DDIM, "num_inference_steps": 150, "model": "m1"}, {"high": 100, "row": 2}),
    ):
        sent = {**ROWS, "rows": [DDIM, row]}
        (refused,) = models.answer(sent, lambda s, raw: models.sample_rows(s, raw, "compare"))
        assert refused["kind"] == "refused"
        assert told.items() <= refused["fields"].items()
    models.close()


def test_what_is_kept_of_one_model_is_not_found_for_another(folders):
    models = of(*folders[:2])
    request = SampleRequest("ddim", 2, 1, 1)
    models.named("m0").samplings.draw(request, lambda: False)
    look_up = Catalogue.of(models).look_up(lambda service, key: service.trajectory(key))
    assert look_up(request.key)["n"] == 1, "a request without a name means the first model"
    assert look_up({"model": "m0", "asked": request.key})["n"] == 1
    assert look_up({"model": "m1", "asked": request.key}) is None
    assert look_up({"model": "nobody", "asked": request.key}) is None
    models.close()


def test_endpoints_describe_all_models(folders, tmp_path):
    labelled = make_model(tmp_path / "colour", 16, 3, 50, names=("cat", "dog"))
    models = of(folders[0], labelled)
    known = descriptions(*Catalogue.of(models).usable)["sample"].arguments
    assert known["model"].meaning == "name of the model, one of m0, colour; empty: m0"
    assert "200 (m0); 50 (colour)" in known["num_inference_steps"].meaning
    assert "one of cat, dog" in known["label"].meaning
    assert (
        "8 rows of 8 numbers (m0); 16 rows of 16 pixels"
        in descriptions(*Catalogue.of(models).usable)["q_sample"].arguments["x0"].meaning
    )
    assert Endpoints(models.named("colour")).sample(lambda: False, **DDIM, **ROWS, label="cat")["images"]
    models.close()


def test_the_pads_of_the_embedded_emoji_have_pictures_of_their_own(tmp_path):
    emoji = checkpoint.load(ASSETS / "emoji", weights=False)
    stored = stored_pictures(emoji)
    assert stored is not None
    assert stored.shape == (10, *emoji.size, emoji.channels)
    assert stored.dtype == np.uint8
    assert (stored[:, 0, 0] == 255).all(), "emoji on white"
    shutil.copytree(ASSETS / "emoji", tmp_path / "emoji")
    assert stored_pictures(checkpoint.load(tmp_path / "emoji", weights=False)) is None, "of others we know no pictures"
