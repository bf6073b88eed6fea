"""The model card: it says what was measured, its commands work, and one that somebody wrote by hand stays."""

import json
import re
import shlex
import shutil

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm import checkpoint
from ddpm.hub import card
from ddpm.unet import build_unet


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "model", build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler().config))
    return tmp_path / "model"


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
    "eps_mse_mean": 0.02066,
    "eps_mse_mean_se": 0.00006,
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
        ([], {"val_loss": 0.021029}),
        ([{"kind": "evaluation", "step": 1, "images": 64, "val_loss": 9.0}, MEASURED], {"bits_per_dim": 1.23456, "eps_mse_mean": 0.02066, "val_loss": 0.0217}),
        ([MEASURED | {"step": 500}], {"val_loss": 0.021029}),  # of weights that were trained on since
        (
            [MEASURED | SAMPLED],
            {"bits_per_dim": 1.23456, "eps_mse_mean": 0.02066, "val_loss": 0.0217, "frechet_distance": 3.21},
        ),
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


@pytest.mark.parametrize(("eta", "said"), [({}, ""), ({"eta": 0.0}, ""), ({"eta": 0.5}, " (eta = 0.5)")])
def test_the_card_says_how_the_samples_were_drawn(eta, said):
    assert f"5,000 samples, ddim{said} in 100 steps; features of" in card_of(MEASURED | SAMPLED | eta)


def test_the_card_tells_the_bound_of_a_shorter_process_from_that_of_all_timesteps():
    assert "all timesteps, variance" in card_of(MEASURED)
    assert "| mean over all timesteps, from" in card_of(MEASURED)
    shorter = card_of(MEASURED | {"bound_steps": 50, "timesteps": 50})
    assert "all timesteps of a process of 50, variance" in shorter
    assert "| mean over all timesteps of a process of 50, from" in shorter
    estimated = card_of(MEASURED | {"bound_steps": 50, "timesteps": 10})
    assert "estimated from 10 timesteps each of a process of 50, variance" in estimated


def test_a_training_that_ended_between_two_validations_is_as_long_as_it_was():
    text = card_of({"kind": "train", "step": 14_300, "images": 915_200, "loss": 0.02})
    assert "| training | 14,300 steps | 915,200 images |" in text
    assert "| val_loss at step 14,000 |" in text
    assert "| val_loss at the end of training |" in card_of()


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
    assert everything - shown == set("output_dir resume_from_checkpoint num_cpu_threads report_to push_to_hub hub_model_id hub_private_repo hub_wait_minutes".split())  # fmt: skip


def test_a_card_says_which_weights_the_training_started_from_and_no_path():
    text = card_of(init_from="/home/somebody/runs/base", new_schedule=True, beta_schedule="log_snr")
    assert "; it started from the weights of base |" in text
    assert "--init_from base --new_schedule" in text
    assert "/home/" not in text


def test_the_cards_commands_say_how_many_processes_and_quote():
    from ddpm.presets import PRESETS

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


def test_the_card_of_the_embedded_checkpoint_is_valid():
    from huggingface_hub import ModelCard

    card = ModelCard.load(checkpoint.EMBEDDED / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["ylecun/mnist"]
