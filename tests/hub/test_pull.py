"""Pulls of our own models: revisions, bad connections, damage, and the cache."""

import time

import pytest
from diffusers import DDPMScheduler
from hub_tools import digest, files_of

from ddpm import checkpoint
from ddpm.unet import build_unet


@pytest.mark.slow
def test_pull_and_its_revisions(client, hub, model, name, tmp_path):
    first = client.value("push", directory=str(model), repo_id=name)["commit"]
    old = client.value("pull", id_or_dir=name)
    assert (old["revision"], old["offline"]) == (first, False)
    checkpoint.save(model, build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler().config))
    second = client.value("push", directory=str(model), repo_id=name)["commit"]
    assert client.value("pull", id_or_dir=name)["revision"] == second
    assert client.value("pull", id_or_dir=name, revision=first) == old
    assert client.value("pull", id_or_dir=str(model))["revision"] is None
    assert "the Hub has no such revision" in client.error("pull", id_or_dir=name, revision="nothing")
    assert "no revision 'main'" in client.error("pull", id_or_dir=str(model), revision="main")
    hub.clear()
    client.value("pull", id_or_dir=name)
    assert hub.count(path="resolve|_storage|_cas") == 0, "it was in the cache"


BAD_ROADS = {
    "503": [{"path": "/api/models/", "times": 2}, {"method": "GET", "path": "config.json", "times": 2}],
    "429": [{"path": "/api/models/", "status": 429, "headers": {"Retry-After": "0"}}],
    "dropped": [{"kind": "drop", "path": "config.json", "times": 2, "rst": True}],
    "cut": [{"kind": "drop_download", "method": "GET", "path": "/_storage/", "after": 3000, "times": 1, "rst": True}],
    "truncated": [{"kind": "truncate", "method": "GET", "path": "/_storage/", "after": 3000}],
    "damaged": [{"kind": "corrupt", "method": "GET", "path": "/_storage/", "after": 9000}],
    "damaged configuration": [{"kind": "corrupt", "method": "GET", "path": "unet/config.json", "after": 9}],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("road", BAD_ROADS)
def test_a_bad_road_is_travelled_again(client, hub, published, run, tmp_path, road):
    for fault in BAD_ROADS[road]:
        hub.fail(**fault)
    answer = client.ask("pull", {"cache": str(tmp_path)}, id_or_dir=published[client.xet]["repo_id"])
    assert answer["value"]["weights"] == digest(checkpoint.load(run).unet), answer
    if road.startswith("damaged"):
        assert "is damaged; downloading it again" in answer["said"]


@pytest.mark.slow
def test_damage_that_stays_is_a_clear_error_and_leaves_nothing_in_the_cache(client, hub, published, tmp_path):
    settings, name = {"cache": str(tmp_path)}, published[client.xet]["repo_id"]
    hub.fail("corrupt", method="GET", path="/_storage/", after=9000, times=-1)
    message = client.error("pull", settings, id_or_dir=name)
    assert "unet/diffusion_pytorch_model.safetensors is damaged, downloaded twice" in message
    hub.clear()
    assert not list(tmp_path.rglob("*.safetensors"))
    good = client.value("pull", settings, id_or_dir=name)
    # Damage that came later, by a disk for one: noticed and mended, and without the Hub at least noticed.
    weights = next(tmp_path.rglob("*.safetensors"))
    for hub_is_there in (True, False):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 0xFF
        weights.resolve().chmod(0o644)
        weights.resolve().write_bytes(content)
        if hub_is_there:
            assert client.value("pull", settings, id_or_dir=name) == good
        else:
            hub.fail("drop", times=-1)
            assert "in the cache is damaged" in client.error("pull", settings, id_or_dir=name)


@pytest.mark.parametrize("why", ["gone", "503", "wrong token", "offline"])
def test_what_is_in_the_cache_works_without_the_hub_and_says_so(client, hub, published, tmp_path, why):
    settings, name = {"cache": str(tmp_path / "cache")}, published[client.xet]["repo_id"]
    good = client.value("pull", settings, id_or_dir=name)
    empty = {"cache": str(tmp_path / "empty")}
    if why == "wrong token":
        settings |= {"env": {"HF_TOKEN": "hf_wrong"}}
        empty |= {"env": {"HF_TOKEN": "hf_wrong"}}
    elif why == "offline":
        settings |= {"offline": True}
        empty |= {"offline": True}
    else:
        hub.fail("drop" if why == "gone" else "status", times=-1)
    answer = client.ask("pull", settings, id_or_dir=name)
    assert answer["value"] == good | {"offline": True}
    assert "using the copy in the cache, commit " + good["revision"] in answer["said"]
    assert "cannot be pulled: " in client.error("pull", empty, id_or_dir=name)


@pytest.mark.slow
def test_a_newer_commit_that_cannot_be_had_leaves_the_older_one(client, hub, model, name, tmp_path):
    settings = {"cache": str(tmp_path / "cache"), "lookup_s": 20}
    client.value("push", directory=str(model), repo_id=name)
    good = client.value("pull", settings, id_or_dir=name)
    checkpoint.save(model, build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler().config))
    newer = client.value("push", directory=str(model), repo_id=name)["commit"]
    hub.fail("status", method="GET", path="/_storage/", times=-1)
    answer = client.ask("pull", settings, id_or_dir=name)
    assert answer["value"] == good | {"offline": True}
    assert "using the copy in the cache, commit " + good["revision"] in answer["said"]
    assert "cannot be pulled" in client.error("pull", settings, id_or_dir=name, revision=newer), "this and no other"
    hub.fail("drop", times=-1)
    assert client.value("pull", settings, id_or_dir=name) == good | {"offline": True}
    hub.clear()
    assert client.value("pull", settings, id_or_dir=name)["revision"] == newer


@pytest.mark.parametrize("path", ["unet/config.json", "/_storage/|safetensors"])
def test_a_pull_has_an_end(lfs, hub, published, tmp_path, path):
    hub.fail("delay", path=path, seconds=200, times=-1)
    began, settings = time.monotonic(), {"cache": str(tmp_path), "lookup_s": 3, "slowest_bytes_per_s": 2**20}
    assert "cannot be pulled: the Hub " in lfs.error("pull", settings, id_or_dir="alice/published-lfs")
    assert time.monotonic() - began < 100, "a single answer takes 200 s"


def test_strangers_extras_cost_nothing(lfs, hub, run, tmp_path, name):
    extras = {"metrics.jsonl": b"[" * 200_000, "train_config.json": b"\xff" + b" " * 9_000_000}
    hub.put(name, files_of(run) | extras)
    answer = lfs.ask("pull", {"cache": str(tmp_path)}, id_or_dir=name)
    assert "value" in answer, answer
    assert "without its train_config.json: more than 8 MiB" in answer["said"]
    assert "metrics.jsonl: line 1 is not JSON and skipped" in answer["said"]


def test_a_pull_brings_some_sample_grids_of_the_whole_training(lfs, hub, run, tmp_path, name):
    grids = {f"samples/step-{step:06d}.png": b"\x89PNG" + bytes([step]) for step in range(1, 41)}
    grids |= {"samples/step-1 2.png": b"\x89PNG", "samples/step-000040.png": bytes(2 * 2**20)}
    files = {path: content for path, content in files_of(run).items() if not path.startswith("samples/")}
    hub.put(name, files | grids)
    answer = lfs.ask("pull", {"cache": str(tmp_path)}, id_or_dir=name)
    assert "value" in answer, answer
    assert "without its samples/step-000040.png: more than 1 MiB" in answer["said"]
    pulled = sorted(path.name for path in tmp_path.glob("**/snapshots/*/samples/*"))
    assert (len(pulled), pulled[0], pulled[-1]) == (11, "step-000001.png", "step-000036.png")
