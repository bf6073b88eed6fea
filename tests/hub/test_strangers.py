"""Models that other people made, and datasets of the Hub."""

import io

import pytest
import safetensors.torch
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from hub_tools import ROOT, changed, digest, files_of
from PIL import Image
from tiny import TINY

from ddpm import checkpoint
from ddpm.unet import build_unet


def test_checkpoints_that_others_made_load(lfs, hub, tmp_path, name):
    """As diffusers' train_unconditional.py leaves them, and the flat layout of older ones."""
    torch.manual_seed(3)
    channels = (32, 32, 64)
    unet = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon")
    scheduler.set_timesteps(50)
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "theirs")
    files, same = files_of(tmp_path / "theirs"), digest(unet)
    flat_files = {path.split("/")[-1]: content for path, content in files.items()}
    without = {
        path: content
        for path, content in flat_files.items()
        if path not in ("model_index.json", "scheduler_config.json")
    }
    for layout, content in {"theirs": files, "flat": flat_files, "bare": without}.items():
        hub.put(f"{name}-{layout}", content)
        answer = lfs.ask("pull", id_or_dir=f"{name}-{layout}")
        assert answer["value"]["weights"] == same, answer
        assert answer["value"]["t"] == 1000
        assert answer["value"]["betas"] == pytest.approx([1e-4, 0.02])
        assert ("the paper's betas are assumed" in answer["said"]) == (layout == "bare")
        folder = tmp_path / layout
        for path, data in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        assert torch.equal(checkpoint.load(folder).unet.conv_in.weight, unet.conv_in.weight)


@pytest.mark.parametrize("kind", ["shards", "fp16"])
def test_shards_and_half_precision_are_pulled_and_the_rest_is_named(lfs, hub, tmp_path, name, kind):
    torch.manual_seed(3)
    unet = build_unet(8, 1, (8, 16), norm_num_groups=4)
    half = UNet2DModel.from_config(unet.config).half()
    half.load_state_dict(unet.state_dict())
    if kind == "shards":
        DDIMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    DDIMPipeline(half, DDIMScheduler()).save_pretrained(tmp_path / "theirs", variant="fp16")
    hub.put(name, files_of(tmp_path / "theirs") | {"unet/diffusion_pytorch_model.bin": b"x"})
    settings = {"cache": str(tmp_path / "cache")}
    answer = lfs.ask("pull", settings, id_or_dir=name)
    assert answer["value"]["weights"] == digest(unet if kind == "shards" else half.float()), answer
    assert "was saved with a DDIMScheduler" in answer["said"]
    assert "not downloaded: unet/diffusion_pytorch_model.bin (pickled)" in answer["said"]
    if kind == "shards":
        assert "diffusion_pytorch_model.fp16.safetensors (half precision, beside the full weights)" in answer["said"]
    hub.fail("drop", times=-1)
    assert lfs.value("pull", settings, id_or_dir=name) == answer["value"] | {"offline": True}, "from the cache"


def test_weights_that_are_not_finite_are_refused(lfs, hub, run, name):
    path = "unet/diffusion_pytorch_model.safetensors"
    tensors = safetensors.torch.load(files_of(run)[path])
    tensors["conv_in.weight"].view(-1)[0] = float("nan")
    hub.put(name, files_of(run) | {path: safetensors.torch.save(tensors)})
    assert "the weights are not finite: conv_in.weight holds NaN" in lfs.error("pull", id_or_dir=name)


UNET, INDEX, SCHEDULER = "unet/config.json", "model_index.json", "scheduler/scheduler_config.json"
STRANGERS = {
    "pickled": (
        lambda f: {p.replace(".safetensors", ".bin"): b for p, b in f.items()},
        "pickled weights can run code",
    ),
    "own pipeline": (
        lambda f: changed(f, INDEX, _class_name=["pipeline", "Mine"]) | {"pipeline.py": b"open('ran', 'w')"},
        "code of its own, which is never run",
    ),
    "own unet": (
        lambda f: changed(f, INDEX, unet=["mine", "Mine"]) | {"unet/mine.py": b"open('ran', 'w')"},
        "only a unet and a scheduler of diffusers are read",
    ),
    "latent": (lambda f: changed(f, INDEX, _class_name="LDMPipeline"), "a LDMPipeline; a DDPMPipeline is needed"),
    "conditional": (lambda f: changed(f, UNET, _class_name="UNet2DConditionModel"), "a UNet2DModel is needed"),
    "other scheduler": (lambda f: changed(f, SCHEDULER, _class_name="RePaintScheduler"), "a DDPMScheduler is needed"),
    "endless": (lambda f: changed(f, UNET, layers_per_block=10**9), "layers_per_block 1000000000: 1 to 32"),
    "huge network": (lambda f: changed(f, UNET, block_out_channels=[4096, 4096]), "do not belong together"),
    "no network": (lambda f: changed(f, UNET, down_block_types=["Nonsense", "Nonsense"]), "makes no network"),
    "too large": (lambda f: f, "more than 0"),
    "no model": (lambda f: {"README.md": b"hello"}, "no model_index.json"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_models_are_refused_before_their_weights_are_fetched(lfs, hub, run, tmp_path, name, kind):
    spoil, words = STRANGERS[kind]
    hub.put(name, spoil(files_of(run)))
    settings = {"cache": str(tmp_path)} | ({"max_weights_bytes": 5000} if kind == "too large" else {})
    assert words in lfs.error("pull", settings, id_or_dir=name)
    assert hub.count(path="/_storage/|safetensors|bin") == 0
    assert not (ROOT / "ran").exists()


def test_what_is_not_there_or_not_for_this_login(lfs, hub, run):
    hub.put("bob/secret", files_of(run), private=True)
    for missing in ("bob/secret", "alice/nothing"):
        message = lfs.error("pull", id_or_dir=missing)
        assert f"the Hub has no {missing}, or this login may not see it" in message


@pytest.mark.slow
def test_training_from_a_dataset_of_the_hub(lfs, hub, tmp_path):
    import datasets
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    rows = datasets.Dataset.from_dict({"image": [Image.fromarray(image) for image in pixels]})
    buffer = io.BytesIO()
    rows.cast_column("image", datasets.Image()).to_parquet(buffer)
    for owner, private in (("alice/pictures", False), ("alice/private-pictures", True)):
        hub.put(owner, {"data/train-00000-of-00001.parquet": buffer.getvalue()}, type="dataset", private=private)
        options = TINY | {"output_dir": str(tmp_path / owner), "dataset_name": owner, "max_train_steps": 2}
        settings = {"env": {"DDPM_CACHE": str(tmp_path / "prepared")}}
        if private:
            stranger = lfs.ask("train", {"env": settings["env"] | {"HF_TOKEN": None}}, **options)
            assert stranger["value"] == 1
            assert "not on the Hub, or not for this login" in stranger["said"]
        answer = lfs.ask("train", settings, **options)
        assert answer["value"] == 0, answer
        card = (tmp_path / owner / "README.md").read_text()
        assert f"datasets:\n- {owner}" in card
