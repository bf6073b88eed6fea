"""Model directories: the embedded one, damaged ones, and strangers' ones."""

import json
import math
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers import DDPMPipeline, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from ddpm import checkpoint, hub
from ddpm.model_files import WEIGHTS
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


def forget_a_tensor(model):
    path = model / "unet/diffusion_pytorch_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    del tensors["conv_out.bias"]
    safetensors.torch.save_file(tensors, path)


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


def test_all_embedded_checkpoints_load_in_plain_diffusers_and_are_small():
    folders = sorted(index.parent for index in checkpoint.EMBEDDED.parent.glob("*/model_index.json"))
    for folder in folders:
        model, pipeline = checkpoint.load(folder), DDPMPipeline.from_pretrained(folder)
        for name, tensor in pipeline.unet.state_dict().items():
            assert torch.equal(tensor.float(), model.unet.state_dict()[name]), (folder.name, name)
        for name in ("README.md", "train_config.json", "metrics.jsonl", "training.png", "strip.png"):
            assert (folder / name).is_file(), (folder.name, name)
        assert any((folder / "samples").glob("step-*.png"))
        assert model.config["options"]["output_dir"] in (None, f"runs/{folder.name}")
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) < 16e6


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
        (lambda m: (m / "model_index.json").write_bytes(b"\xff{}"), "model: model_index.json is not readable as JSON"),
        (
            lambda m: edit(m / "unet/config.json", quantization_config={"a": 1}),
            "quantization_config, which a UNet2DModel",
        ),
        (lambda m: edit(m / "unet/config.json", downsample_padding=3), "downsample_padding 3: 0 or 1"),
        (lambda m: edit(m / "unet/config.json", sample_size=9), "makes no network"),
        (
            lambda m: edit(m / "unet/config.json", time_embedding_type="learned", num_train_timesteps=10**10),
            "num_train_timesteps 10000000000 of the network: 1000 to 10000",
        ),
        (lambda m: edit(m / "unet/config.json", time_embedding_dim=10**9), "do not belong together"),
        (
            lambda m: edit(m / "scheduler/scheduler_config.json", trained_betas=[0.1, 0.2]),
            "as many as num_train_timesteps",
        ),
        (lambda m: edit(m / "scheduler/scheduler_config.json", thresholding=True), "thresholding True: False is"),
        (lambda m: edit(m / "scheduler/scheduler_config.json", timestep_spacing="odd"), "timestep_spacing 'odd'"),
        (lambda m: edit(m / "scheduler/scheduler_config.json", beta_schedule="odd"), "beta_schedule 'odd': one of lin"),
        (lambda m: (m / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04pickle"), "belong together"),
        (
            lambda m: (m / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04pickle" * 20_000),
            "cannot be loaded .the weights are damaged or cut off, or no safetensors file.$",
        ),
        (lambda m: edit(m / "unet/config.json", norm_eps=math.nan), "norm_eps nan: a finite number above 0 is needed"),
        (lambda m: edit(m / "unet/config.json", norm_eps=-1), "norm_eps -1: a finite number above 0 is needed"),
        (lambda m: edit(m / "unet/config.json", freq_shift=math.inf), "freq_shift inf: a finite number is needed"),
        (lambda m: edit(m / "unet/config.json", mid_block_scale_factor=0), "mid_block_scale_factor 0: a finite number"),
        (
            lambda m: (m / "unet/config.json").write_text("[" * 200_000),
            "model: unet/config.json is not readable as JSON",
        ),
        (lambda m: (m / "unet/config.json").write_text("[]"), "a JSON object is needed"),
        (lambda m: forget_a_tensor(m), "the weights lack conv_out.bias"),
        (
            lambda m: (m / "unet/diffusion_pytorch_model.safetensors").rename(m / "unet/diffusion_pytorch_model.bin"),
            "only unet/diffusion_pytorch_model.bin: pickled weights can run code",
        ),
        (lambda m: edit(m / "unet/config.json", _class_name="UNet2DConditionModel"), "UNet2DModel is needed"),
        (
            lambda m: edit(m / "model_index.json", _class_name=["pipeline", "Mine"]),
            "code of its own, which is never run",
        ),
        (lambda m: edit(m / "model_index.json", vqvae=["diffusers", "VQModel"]), "the pipeline's vqvae is"),
        (lambda m: edit(m / "scheduler/scheduler_config.json", num_train_timesteps=1), "2 to 10000 is needed"),
        (lambda m: edit(m / "unet/config.json", sample_size=[8, 1025]), r"sample_size \[8, 1025\]: 1 to 1024 pixels"),
        (lambda m: edit(m / "unet/config.json", in_channels=4, out_channels=4), r"\(4, 4\): 1 or 3"),
        (lambda m: edit(m / "unet/config.json", num_class_embeds=10), "the weights lack class_embedding.weight"),
        (lambda m: edit(m / "unet/config.json", num_class_embeds="ten"), "num_class_embeds ten: 1 to 10000 is needed"),
        (lambda m: edit(m / "unet/config.json", block_out_channels=[8, 12]), "cannot be loaded|makes no network"),
        (
            lambda m: FlowMatchEulerDiscreteScheduler().save_pretrained(m / "scheduler"),
            "FlowMatchEulerDiscreteScheduler; a DDPMScheduler is needed, or one with the same betas, such as DDIM",
        ),
        (lambda m: edit(m / "scheduler/scheduler_config.json", prediction_type="flow"), "'flow': one of epsilon"),
        (
            lambda m: edit(m / "scheduler/scheduler_config.json", variance_type="learned"),
            "variance_type learned of the scheduler: the network, with 1 channels out of 1, predicts no variance",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(model, spoil, message):
    spoil(model)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load(model)
    assert "\n" not in str(error.value)


def test_weights_that_the_network_does_not_use_are_a_warning_of_one_line(model, caplog, capfd):
    edit(model / "unet/config.json", add_attention=False)
    checkpoint.load(model)
    (line,) = (line for line in caplog.messages if "does not use these weights" in line)
    assert "mid_block.attentions.0.group_norm.bias, " in line
    assert "\n" not in line
    assert "Some weights" not in capfd.readouterr().err, "diffusers has said the same in many lines"


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("metrics.jsonl", b"[" * 200_000, 0),
        ("metrics.jsonl", b"\xff\xfe{}\n", 0),
        ("metrics.jsonl", b'1\n[2]\n{"kind": "train"}\n{"kind": "train", "step": 3}\n', 1),
        ("train_config.json", b"[" * 200_000, 0),
        ("train_config.json", b"\xff", 0),
        ("train_config.json", b'{"options": 1}', 0),
    ],
)
def test_a_model_loads_without_what_only_tells_about_it(model, caplog, name, content, rows):
    (model / name).write_bytes(content)
    loaded = checkpoint.load(model)
    assert (loaded.config, len(loaded.metrics)) == ({}, rows)
    assert ("without" in caplog.text) == (not rows and content != b'{"options": 1}')


def test_old_checkpoints_load(tmp_path):
    """The flat layout, attention under its old names, half precision."""
    torch.manual_seed(0)
    unet = build_unet(8, 1, (8, 16), attention_levels=(1,), norm_num_groups=4)
    unet.save_pretrained(tmp_path)
    weights = tmp_path / WEIGHTS
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    tensors = {}
    for name, tensor in safetensors.torch.load_file(weights).items():
        for now, before in old.items():
            name = name.replace(now, before)
        tensors[name] = tensor.half()
    assert any(name.endswith("proj_attn.weight") for name in tensors)
    safetensors.torch.save_file(tensors, weights)
    loaded = checkpoint.load(tmp_path)
    for name, tensor in unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[name], tensor.half().float()), name
    assert loaded.schedule.beta[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])


def test_pulling_what_is_not_there():
    with pytest.raises(ValueError, match="'nowhere at all': no such directory"):
        hub.pull("nowhere at all")
    with pytest.raises(ValueError, match="'nobody/nothing' cannot be pulled"):
        hub.pull("nobody/nothing")
