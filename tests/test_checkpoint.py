"""Model directories: the embedded one, damaged ones, strangers' ones; the card and the README."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler

from ddpm import checkpoint, hub
from ddpm.config import check_network
from ddpm.hub import card
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
        (lambda m: edit(m / "scheduler/scheduler_config.json", thresholding=True), "which is not computed here"),
        (lambda m: edit(m / "scheduler/scheduler_config.json", timestep_spacing="odd"), "timestep_spacing 'odd'"),
        (lambda m: edit(m / "scheduler/scheduler_config.json", beta_schedule="odd"), "its scheduler cannot be made"),
        (lambda m: (m / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04pickle"), "belong together"),
        (
            lambda m: (m / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04pickle" * 20_000),
            "cannot be loaded",
        ),
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
        (lambda m: edit(m / "unet/config.json", sample_size=[8, 16]), r"sample_size \[8, 16\]"),
        (lambda m: edit(m / "unet/config.json", in_channels=4, out_channels=4), r"\(4, 4\): 1 or 3"),
        (lambda m: edit(m / "unet/config.json", num_class_embeds=10), "unconditional one is needed"),
        (lambda m: edit(m / "unet/config.json", block_out_channels=[8, 12]), "cannot be loaded|makes no network"),
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
    weights = tmp_path / checkpoint.WEIGHTS
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


# -------------------------------------------------------------------------------------------------------------- the card

MEASURED = {
    "kind": "evaluation",
    "step": 14000,
    "images": 896000,
    "dataset": "/home/somebody/mnist",
    "split": "test",
    "bits_per_dim": 1.23456,
    "bits_per_dim_se": 0.0123,
    "prior_bits": 0.0004,
    "reconstruction_bits": 0.2,
    "kl_bits_total": 1.03416,
    "variance_type": "fixed_small",
    "clip_denoised": True,
    "num_images": 10000,
    "val_loss": 0.0217,
    "command": "python -m ddpm.evaluate runs/mnist --dataset_name /home/somebody/mnist --num_samples 5000",
}
SAMPLED = {
    "frechet_distance": 3.21,
    "frechet_distance_real": 0.45,
    "feature_network": "a classifier of this data",
    "feature_accuracy": 0.991,
    "num_samples": 5000,
    "sampler": "ddim",
    "num_inference_steps": 100,
}


def card_of(*rows, **options):
    """The embedded model's card, had it been made with these options and measured so."""
    settings = json.loads((checkpoint.EMBEDDED / "train_config.json").read_text())
    settings["options"] |= options
    trained = checkpoint.read_metrics(checkpoint.EMBEDDED / "metrics.jsonl")
    rows = [row for row in trained if row["kind"] != "evaluation"] + list(rows)
    return card.model_card(checkpoint.EMBEDDED, settings, rows, 1_428_361)


@pytest.mark.parametrize(
    ("rows", "metrics"),
    [
        ([], {"val_loss": 0.021787}),
        ([{"kind": "evaluation", "step": 1, "images": 64, "val_loss": 9.0}, MEASURED], {"bits_per_dim": 1.23456, "val_loss": 0.0217}),
        ([MEASURED | {"step": 500}], {"val_loss": 0.021787}),  # of weights that were trained on since
        ([MEASURED | SAMPLED], {"bits_per_dim": 1.23456, "val_loss": 0.0217, "frechet_distance": 3.21}),
    ],
)  # fmt: skip
def test_the_card_tells_the_hub_what_was_measured_and_only_that(rows, metrics):
    from huggingface_hub import ModelCard

    text = card_of(*rows, dataset_name="/home/somebody/mnist", hub_model_id="you/ddpm-mnist")
    data = ModelCard(text).data
    assert {result.metric_type: result.metric_value for result in data.eval_results} == metrics
    assert {result.dataset_type for result in data.eval_results} == {"ylecun/mnist"}
    assert (data.model_name, data.license, data.datasets) == ("ddpm-mnist", "apache-2.0", ["ylecun/mnist"])
    assert ModelCard(f"---\n{data}\n---\n").data.to_dict() == data.to_dict()
    assert "/home/" not in text
    assert "None" not in text
    assert "TODO" not in text
    for command in (
        "accelerate launch train.py --preset mnist",
        "python app.py --model you/ddpm-mnist",
        'from_pretrained("you/ddpm-mnist")',
        "python -m ddpm.evaluate",
    ):
        assert command in text
    for picture in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (checkpoint.EMBEDDED / picture).is_file()


def test_the_cards_commands_are_understood_and_train_the_same():
    from ddpm.config import TrainConfig, parse

    options = {"learning_rate": 1e-3, "block_out_channels": [16, 32], "attention_levels": [1], "random_flip": True}
    text = card_of(**options)
    words = re.search(r"accelerate launch train.py (.*)", text)[1].split()
    config = parse(words)
    for name, value in options.items():
        assert getattr(config, name) == (tuple(value) if isinstance(value, list) else value)
    everything = TrainConfig().to_json().keys()
    shown = {name for name in everything if f"| `{name}` |" in text}
    assert everything - shown == set("output_dir resume_from_checkpoint num_cpu_threads report_to push_to_hub hub_model_id hub_private_repo".split())  # fmt: skip


def test_the_cards_commands_say_how_many_processes_and_quote():
    from ddpm.config import PRESETS

    options = PRESETS["mnist"] | {"dataset_name": "data/my faces", "image_column": "it's"}
    on_gpus = card.command(options, "mnist", {"processes": 8, "device": "cuda:0"})
    assert on_gpus.startswith("accelerate launch --num_processes 8 train.py --preset mnist ")
    assert shlex.split(on_gpus)[-4:] == ["--dataset_name", "data/my faces", "--image_column", "it's"]
    on_cpus = card.command(options, "mnist", {"processes": 2, "device": "cpu"})
    assert on_cpus.startswith("ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 train.py --preset mnist ")


def test_whether_data_are_public_is_what_training_noted_down(model):
    """And not whether there is such a folder where the card is written."""
    settings = json.loads((checkpoint.EMBEDDED / "train_config.json").read_text())
    settings["data"] |= {"fingerprint": 64 * "0"}
    settings["options"] |= {"dataset_name": "data/faces"}
    for source, shown in (("folder", False), ("hub", True)):
        settings["data"]["source"] = source
        (model / "train_config.json").write_text(json.dumps(settings))
        card.write(model)
        assert ("hf.co/datasets/data/faces" in (model / "README.md").read_text()) == shown


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: (m / "README.md").write_bytes(b"caf\xe9"),
        lambda m: (m / "train_config.json").write_text("{}"),
        lambda m: (m / "metrics.jsonl").write_bytes(b"\xff"),
        lambda m: (m / "README.md").mkdir() or (m / "README.md/x").write_text(""),
    ],
)
def test_a_card_that_cannot_be_written_stops_nothing(model, spoil, caplog):
    shutil.copy(checkpoint.EMBEDDED / "train_config.json", model)
    spoil(model)
    card.write(model)
    assert "README.md stays as it is" in caplog.text


def test_a_card_that_somebody_made_their_own_stays(model):
    shutil.copy(checkpoint.EMBEDDED / "train_config.json", model)
    card.write(model)
    assert 'from_pretrained("model")' in (model / "README.md").read_text(), "no path of this machine"
    card.write(model, "you/them")
    text = (model / "README.md").read_text()
    assert 'from_pretrained("you/them")' in text
    assert f"{sum(p.numel() for p in checkpoint.load(model).unet.parameters()) / 1e6:.2f} M parameters" in text
    own = text.replace(card.MARK, "").replace("plain", "splendid")
    (model / "README.md").write_text(own)
    card.write(model, "you/others")
    assert (model / "README.md").read_text() == own


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
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)\s]*\)", readme.read_text(encoding="utf-8")):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


def test_the_card_of_the_embedded_checkpoint_is_valid():
    from huggingface_hub import ModelCard

    card = ModelCard.load(checkpoint.EMBEDDED / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["ylecun/mnist"]
