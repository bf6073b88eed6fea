"""Model directories: the embedded one, damaged ones, strangers' ones; the card and the README."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler

from ddpm import checkpoint, hub
from ddpm.config import check_network
from ddpm.sampling import sample
from ddpm.unet import build_unet

ROOT = Path(__file__).parent.parent


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "model", build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler().config))
    return tmp_path / "model"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ----------------------------------------------------------------------------------------------- the embedded checkpoint


def test_the_embedded_checkpoint_loads_in_plain_diffusers_and_is_small():
    embedded = checkpoint.load(checkpoint.EMBEDDED)
    assert (embedded.resolution, embedded.channels, embedded.schedule.num_steps) == (28, 1, 1000)
    pipeline = DDPMPipeline.from_pretrained(checkpoint.EMBEDDED)
    for name, tensor in pipeline.unet.state_dict().items():
        assert torch.equal(tensor, embedded.unet.state_dict()[name])
    weights = [p for p in checkpoint.EMBEDDED.rglob("*") if p.suffix in (".safetensors", ".bin", ".pt", ".ckpt")]
    assert [p.name for p in weights] == ["diffusion_pytorch_model.safetensors"]
    assert weights[0].stat().st_size < 6e6
    for name in ("README.md", "train_config.json", "metrics.jsonl", "training.png", "strip.png"):
        assert (checkpoint.EMBEDDED / name).is_file()


def test_the_embedded_checkpoint_denoises_digits_as_well_as_its_card_says():
    """Epsilon-MSE on the ten digits that the page shows, at timesteps where an untrained network gives 1."""
    import numpy as np

    embedded = checkpoint.load(checkpoint.EMBEDDED)
    digits = torch.from_numpy(np.load(ROOT / "ddpm/assets/digits28.npy"))[:, None].float() / 127.5 - 1
    eps = torch.randn(digits.shape, generator=torch.Generator().manual_seed(0))
    engine, errors = embedded.engine(), {}
    for t in (99, 499, 899):
        batch = torch.full((10,), t)
        eps_hat = engine(embedded.scheduler.add_noise(digits, eps, batch), batch)
        errors[t] = (eps_hat - eps).square().mean().item()
    assert errors[99] < 0.15
    assert errors[499] < 0.03
    assert errors[899] < 0.01
    last = [row for row in embedded.metrics if row["kind"] == "validation"][-1]
    assert f"{last['val_loss_ema']:.4f}" in (checkpoint.EMBEDDED / "README.md").read_text()


def test_samples_of_the_embedded_checkpoint_look_like_mnist():
    """Black background, white strokes, about as much ink as MNIST's 13 %: not a classifier, but noise fails it."""
    embedded = checkpoint.load(checkpoint.EMBEDDED)
    x = sample(embedded.engine(), embedded.scheduler, (16, 1, 28, 28), sampler="ddim", num_inference_steps=25)
    ink = (x + 1) / 2
    assert 0.08 < ink.mean() < 0.19
    assert (ink[:, :, :2].mean() + ink[:, :, -2:].mean()) < 0.02, "the margins are empty"
    assert ((ink < 0.1) | (ink > 0.9)).float().mean() > 0.8


# ------------------------------------------------------------------------------------------------------------- refusals


def test_saving_replaces_and_leaves_nothing_behind(model):
    before = sorted(p.relative_to(model) for p in model.rglob("*"))
    torch.manual_seed(1)
    unet = build_unet(8, 1, (8, 16), norm_num_groups=4)
    scheduler = DDPMScheduler()
    scheduler.set_timesteps(7)
    checkpoint.save(model, unet, dict(scheduler.config))
    assert sorted(p.relative_to(model) for p in model.rglob("*")) == before
    loaded = checkpoint.load(model)
    assert all(torch.equal(v, unet.state_dict()[k]) for k, v in loaded.unet.state_dict().items())
    assert loaded.scheduler.num_inference_steps is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: shutil.rmtree(m), "no such model directory"),
        (lambda m: (m / "model_index.json").unlink(), "no model_index.json"),
        (lambda m: (m / "unet/config.json").unlink(), "no unet/config.json"),
        (
            lambda m: (m / "unet/diffusion_pytorch_model.safetensors").unlink(),
            "no unet/diffusion_pytorch_model.safetensors",
        ),
        (lambda m: (m / "unet/config.json").write_text("{"), "not readable as JSON"),
        (lambda m: (m / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04pickle"), "cannot be loaded"),
        (lambda m: edit(m / "unet/config.json", _class_name="UNet2DConditionModel"), "UNet2DModel is needed"),
        (lambda m: edit(m / "unet/config.json", sample_size=[8, 16]), r"sample_size \[8, 16\]"),
        (lambda m: edit(m / "unet/config.json", in_channels=4, out_channels=4), r"\(4, 4\): 1 or 3"),
        (lambda m: edit(m / "unet/config.json", num_class_embeds=10), "unconditional one is needed"),
        (lambda m: edit(m / "unet/config.json", block_out_channels=[8, 32]), "cannot be loaded"),
        (lambda m: DDIMScheduler().save_pretrained(m / "scheduler"), "DDIMScheduler; a DDPMScheduler is needed"),
        (lambda m: edit(m / "scheduler/scheduler_config.json", prediction_type="flow"), "'flow': one of epsilon"),
        (
            lambda m: edit(m / "scheduler/scheduler_config.json", variance_type="learned"),
            "'learned': one of fixed_small",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(model, spoil, message):
    spoil(model)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load(model)
    assert "\n" not in str(error.value)


def test_pulling_what_is_not_there():
    with pytest.raises(ValueError, match="'nowhere at all': no such directory"):
        hub.pull("nowhere at all")
    with pytest.raises(ValueError, match="'nobody/nothing' cannot be pulled"):
        hub.pull("nobody/nothing")


@pytest.mark.parametrize(
    ("resolution", "channels", "message"),
    [
        (28, (8, 8, 8, 8), "28 cannot be halved 3 times: take --resolution 24 or 32, or at most 3 entries"),
        (2, (8, 8, 8), "2 cannot be halved 2 times: take --resolution 4, or at most 2"),
        (8, (8, 12), r"\[12\]: not divisible by norm_num_groups 8"),
    ],
)
def test_networks_that_cannot_be_computed(resolution, channels, message):
    with pytest.raises(ValueError, match=message):
        check_network(resolution, channels, (), 8)
    with pytest.raises(ValueError, match=message):
        build_unet(resolution, 1, channels)


def test_an_untrained_network_predicts_no_noise():
    unet = build_unet(28, 3, (8, 16, 16), attention_levels=(1,))
    x = torch.randn(2, 3, 28, 28)
    assert torch.equal(unet(x, torch.tensor([0, 999])).sample, torch.zeros_like(x))


# ------------------------------------------------------------------------------------------------------------ the README

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


def test_everything_the_readmes_link_to_exists():
    for readme in (ROOT / "README.md", checkpoint.EMBEDDED / "README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", readme.read_text(encoding="utf-8")):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


def test_the_card_of_the_embedded_checkpoint_is_valid():
    from huggingface_hub import ModelCard

    card = ModelCard.load(checkpoint.EMBEDDED / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["ylecun/mnist"]
