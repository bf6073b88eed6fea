"""Model directories as they exist: what other programs save, what a clone leaves, and what lies there unread."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file, save_file

from ddpm import checkpoint
from ddpm.sampling import generators, sample
from ddpm.unet import build_unet

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345678\n"
FULL, HALF = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    unet = build_unet(8, 1, (8, 16), attention_levels=(1,), norm_num_groups=4)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    return unet


def same(a, b):
    """Whether two networks have the same weights, bit by bit."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ---------------------------------------------------------------------------------------------------- what loads


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [
        lambda unet: DDIMPipeline(unet, DDIMScheduler()),
        lambda unet: DDPMPipeline(unet, DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)),
        lambda unet: DDPMPipeline(unet, PNDMScheduler(skip_prk_steps=True, steps_offset=1)),
        lambda unet: DDIMPipeline(unet, DPMSolverMultistepScheduler(use_karras_sigmas=True)),
        lambda unet: DDPMPipeline(unet, EulerDiscreteScheduler(beta_end=0.015)),
        lambda unet: DDPMPipeline(unet, UniPCMultistepScheduler(prediction_type="v_prediction")),
    ],
    ids=["DDIM pipeline", "DDIM", "PNDM", "DPM-Solver", "Euler", "UniPC"],
)
def test_pipelines_with_other_schedulers_load_and_sample_by_their_betas(unet, tmp_path, made, caplog):
    pipeline = made(unet)
    pipeline.save_pretrained(tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert same(loaded.unet, unet)
    assert "was saved with a" in caplog.text
    x = sample(loaded.engine(), loaded.scheduler, (2, 1, 8, 8), num_inference_steps=20, seed=7)
    stock = DDPMPipeline(unet, DDPMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing"))
    stock.set_progress_bar_config(disable=True)
    theirs = stock(batch_size=2, generator=generators(7, 2), num_inference_steps=20, output_type="np").images
    torch.testing.assert_close((x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy(), theirs, rtol=0, atol=1e-5)


def test_a_square_may_be_written_as_two_numbers(unet, tmp_path):
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    edit(tmp_path / "unet/config.json", sample_size=[8, 8])
    for weights in (True, False):
        loaded = checkpoint.load(tmp_path, weights=weights).with_weights()
        assert loaded.resolution == 8
        assert loaded.engine()(torch.zeros(1, 1, 8, 8), torch.tensor([3])).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_half_precision_and_shards_load(unet, tmp_path, variant, sharded, flat, caplog):
    folder = tmp_path / "model"
    options = {"variant": variant, "max_shard_size": "40KB"} if sharded else {"variant": variant}
    saved = unet if variant is None else UNet2DModel.from_config(unet.config).half()
    saved.load_state_dict(unet.state_dict())
    (saved if flat else DDPMPipeline(saved, DDPMScheduler())).save_pretrained(folder, **options)
    place = folder if flat else folder / "unet"
    assert len(list(place.glob("*.safetensors"))) > 1 if sharded else (place / (HALF if variant else FULL)).is_file()
    loaded = checkpoint.load(folder)
    assert loaded.unet.dtype == torch.float32
    for name, tensor in unet.state_dict().items():
        expected = tensor if variant is None else tensor.half().float()
        assert torch.equal(loaded.unet.state_dict()[name], expected), name
    assert "not read" not in caplog.text


def test_what_lies_beside_the_weights_is_named(unet, tmp_path, caplog):
    pipeline = DDPMPipeline(unet, DDPMScheduler())
    pipeline.save_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    (tmp_path / "unet/diffusion_pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "unet/diffusion_pytorch_model-00001-of-00002.safetensors").write_bytes(b"x")
    (tmp_path / "unet/diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"x")
    assert same(checkpoint.load(tmp_path).unet, unet)
    for words in (
        "not read: ",
        "unet/diffusion_pytorch_model.fp16.safetensors (half precision, beside the full weights)",
        "unet/diffusion_pytorch_model.bin (pickled)",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors (a shard)",
        "unet/diffusion_pytorch_model.non_ema.safetensors (another name)",
    ):
        assert words in caplog.text


def test_links_inside_the_directory_and_into_the_cache_of_the_hub_work(unet, tmp_path):
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "model")
    weights = tmp_path / "model/unet" / FULL
    weights.rename(tmp_path / "model/weights.safetensors")
    weights.symlink_to("../weights.safetensors")
    (tmp_path / "latest").symlink_to("model")
    assert same(checkpoint.load(tmp_path / "latest").unet, unet)
    # As huggingface_hub lays it out: snapshots of links to blobs, some of which are links to shared ones.
    store = tmp_path / "hub/models--you--ddpm"
    snapshot, blobs, shared = store / "snapshots/0123", store / "blobs", tmp_path / "hub/blobs/ab"
    for folder in (blobs, shared):
        folder.mkdir(parents=True)
    for i, path in enumerate(sorted(p for p in (tmp_path / "model").rglob("*") if p.is_file())):
        target = snapshot / path.relative_to(tmp_path / "model")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.name == FULL:
            shutil.copyfile(path, shared / "ab01")
            (blobs / str(i)).symlink_to(os.path.relpath(shared / "ab01", blobs))
        else:
            shutil.copyfile(path, blobs / str(i))
        target.symlink_to(os.path.relpath(blobs / str(i), target.parent))
    assert same(checkpoint.load(snapshot).unet, unet)


# -------------------------------------------------------------------------------------------------- what is refused


def to_link(folder):
    (folder / "unet" / FULL).rename(folder.parent / "elsewhere.safetensors")
    (folder / "unet" / FULL).symlink_to(folder.parent / "elsewhere.safetensors")


def to_linked_folder(folder):
    (folder / "unet").rename(folder.parent / "elsewhere")
    (folder / "unet").symlink_to(folder.parent / "elsewhere")


def to_fake_cache(folder):
    """A link from something that only looks like the Hub's cache: its blobs are a link themselves."""
    to_link(folder)
    store = folder.parent / "models--a--b"
    (store / "snapshots").mkdir(parents=True)
    (folder.parent / "blobs-of-others").mkdir()
    (store / "blobs").symlink_to(folder.parent / "blobs-of-others")
    (folder.parent / "elsewhere.safetensors").rename(folder.parent / "blobs-of-others/weights")
    (folder / "unet" / FULL).unlink()
    (folder / "unet" / FULL).symlink_to("../../../blobs/weights")
    folder.rename(store / "snapshots/0123")
    return store / "snapshots/0123"


def to_shards(folder, drop=None):
    unet = UNet2DModel.from_pretrained(folder / "unet")
    (folder / "unet" / FULL).unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="40KB")
    for path in (folder / "unet").glob(drop or "no such file"):
        path.unlink()


def to_other_shards(folder):
    to_shards(folder)
    index = folder / "unet" / f"{FULL}.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["conv_in.bias"] = "../../elsewhere.safetensors"
    index.write_text(json.dumps(content))


def to_pickle(folder):
    UNet2DModel.from_pretrained(folder / "unet").save_pretrained(folder / "unet", safe_serialization=False)
    (folder / "unet" / FULL).unlink()


def to_values(folder, value, name="conv_out.weight", dtype=torch.float32):
    tensors = {key: tensor.to(dtype) for key, tensor in load_file(folder / "unet" / FULL).items()}
    tensors[name].view(-1)[3] = value
    save_file(tensors, folder / "unet" / FULL)


REFUSED = {
    "link": (to_link, r"unet/\S+ is a link to \S+/elsewhere.safetensors, out of the model's directory"),
    "linked folder": (to_linked_folder, "is a link to .* out of the model's directory"),
    "fake cache": (to_fake_cache, "is a link to .* out of the model's directory"),
    "pointer": (
        lambda f: (f / "unet" / FULL).write_text(POINTER.format("0" * 64)),
        f"unet/{FULL} is a Git LFS pointer, not the file itself: run `git lfs pull`",
    ),
    "pointer to JSON": (
        lambda f: (f / "unet/config.json").write_text(POINTER.format("0" * 64)),
        "unet/config.json is a Git LFS pointer",
    ),
    "one shard lacks": (lambda f: to_shards(f, "*-00002-of-*"), r"incomplete: \d of \d shards are there$"),
    "no index": (lambda f: to_shards(f, "*.index.json"), f"shards are there, and no unet/{FULL}.index.json"),
    "a shard elsewhere": (to_other_shards, r"do not belong together \(../../elsewhere.safetensors\)"),
    "only pickled": (to_pickle, "pickled weights can run code, so they are not read; whoever trusts them"),
    "NaN": (
        lambda f: to_values(f, float("nan")),
        "not finite: conv_out.weight holds NaN or infinity in 1 of 72 places",
    ),
    "infinity": (lambda f: to_values(f, float("-inf"), "conv_in.bias"), "not finite: conv_in.bias holds NaN or inf"),
    "too large for float32": (lambda f: to_values(f, 1e300, dtype=torch.float64), "not finite: conv_out.weight"),
    "classes without their vectors": (
        lambda f: edit(f / "unet/config.json", num_class_embeds=10),
        "the weights lack class_embedding.weight",
    ),
    "more classes than anybody has": (
        lambda f: edit(f / "unet/config.json", num_class_embeds=10**9),
        "num_class_embeds 1000000000: 1 to 10000 is needed",
    ),
    "no classes, but an embedding": (
        lambda f: edit(f / "unet/config.json", num_class_embeds=0),
        "num_class_embeds 0: 1 to 10000 is needed",
    ),
    "another embedding": (
        lambda f: edit(f / "unet/config.json", class_embed_type="timestep"),
        "class_embed_type timestep: what the network takes for a class is not in its files; null is needed",
    ),
    "a variance that the scheduler lacks": (
        lambda f: edit(f / "unet/config.json", out_channels=2),
        "variance_type fixed_small of the scheduler: the network, with 2 channels out of 1, predicts the variance, too; "
        "one of learned_range, learned is needed",
    ),
    "a variance that the network lacks": (
        lambda f: edit(f / "scheduler/scheduler_config.json", variance_type="learned_range"),
        "variance_type learned_range of the scheduler: the network, with 1 channels out of 1, predicts no variance; one "
        "of fixed_small, fixed_large is needed",
    ),
    "three channels out of one": (
        lambda f: edit(f / "unet/config.json", out_channels=3),
        r"in and out channels \(1, 3\): 1 or 3 in are needed, and as many out, or twice as many",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_by_what_it_is(unet, tmp_path, kind):
    folder = tmp_path / "model"
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    spoil, words = REFUSED[kind]
    moved = spoil(folder)
    folder = moved if isinstance(moved, Path) else folder
    with pytest.raises(ValueError, match=words) as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.long
@pytest.mark.parametrize("flat", [False, True])
def test_the_line_that_converts_pickled_weights_does(unet, tmp_path, flat):
    folder = tmp_path / "model"
    (unet if flat else DDPMPipeline(unet, DDPMScheduler())).save_pretrained(folder, safe_serialization=False)
    with pytest.raises(ValueError, match="converts them with diffusers: ") as error:
        checkpoint.load(folder)
    line = str(error.value).partition("with diffusers: ")[2]
    subprocess.run([sys.executable, "-c", f"from diffusers import UNet2DModel; {line}"], check=True)
    assert same(checkpoint.load(folder).unet, unet)
