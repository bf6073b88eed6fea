"""The card of a class-conditional model: its snippet gives stock diffusers the labels back, and its text says what steers
the model."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from ddpm import checkpoint
from ddpm.classes import separated
from ddpm.hub import card
from ddpm.metrics import to_lines
from ddpm.names import size_name
from ddpm.sampling import generators, sample
from ddpm.unet import build_unet

NAMES = ["0", "zwei \u2461", 'a "b"', "don't"]


def conditional(directory, names=NAMES, rows=(), num_steps=12, prediction_type="epsilon", size=8, **options):
    """A class-conditional model directory that has learnt nothing, with settings as training writes them."""
    torch.manual_seed(0)
    variance = options.get("variance_type", "fixed_small")
    learned = variance == "learned_range"
    unet = build_unet(size, 1, (8, 16), norm_num_groups=4, num_classes=len(names), learned_variance=learned)
    torch.nn.init.normal_(unet.class_embedding.weight)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.2)
    scheduler = {"num_train_timesteps": num_steps, "beta_schedule": "linear", "clip_sample": True}
    folded = separated(unet, names)
    scheduler |= {"prediction_type": prediction_type, "variance_type": variance}
    checkpoint.save(directory, folded.unet, scheduler, folded.classes)
    settings = json.loads((checkpoint.EMBEDDED / "train_config.json").read_text())
    settings["data"] |= {"resolution": size if isinstance(size, int) else size_name(size), "channels": 1}
    settings["options"] |= {"class_conditional": True, "label_dropout": 0.1, "num_train_timesteps": num_steps}
    settings["options"] |= {"prediction_type": prediction_type} | options
    (directory / "train_config.json").write_text(json.dumps(settings))
    (directory / "metrics.jsonl").write_text(to_lines(rows))
    card.write(directory)
    return (directory / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [{}, {"prediction_type": "v_prediction"}, {"size": (8, 12)}, {"variance_type": "learned_range"}],
    ids=lambda options: str(*options.values()),
)
def test_the_snippet_in_a_fresh_process_samples_as_this_program_does(tmp_path, options):
    text = conditional(tmp_path / "model", **options)
    section = text.split("\n## Labels\n")[1]
    snippet = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert "ddpm" not in snippet, "stock diffusers is all that it needs"
    # Our samplers give each image a generator of its own, so one image is drawn, from the first of them.
    (stream,) = generators(0, 1)
    for before, after in (("manual_seed(0)", f"manual_seed({stream.initial_seed()})"), (", 16\n", ", 1\n")):
        assert snippet.count(before) == 1
        snippet = snippet.replace(before, after)
    label = json.loads(re.search(r'^label, s, count = (".*"), 2.0, 1$', snippet, re.MULTILINE)[1])
    assert label in NAMES
    code = f"{snippet}\nimport numpy\nnumpy.savez('out.npz', x=x, images=images)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    model = checkpoint.load(tmp_path / "model")
    labels = torch.tensor([model.classes.number(label)])
    shape = (1, 1, *model.size)
    ours = sample(model.engine(), model.scheduler, shape, labels=labels, guidance_scale=2.0)
    bare = sample(model.engine(), model.scheduler, shape)
    assert out["x"] == pytest.approx(ours.numpy(), abs=1e-4)
    assert (ours - bare).abs().max() > 0.05, "the label makes a difference"
    assert (out["images"].shape, out["images"].dtype) == ((1, *model.size, 1), np.uint8)


def test_the_snippet_of_a_model_on_the_hub_names_it(tmp_path):
    conditional(tmp_path / "model")
    card.write(tmp_path / "model", "you/digits")
    text = (tmp_path / "model/README.md").read_text(encoding="utf-8")
    assert 'folder = snapshot_download("you/digits")\n' in text
    assert "from huggingface_hub import snapshot_download\n" in text
    compile(re.search(r"```python\n(import json.*?)```", text, re.DOTALL)[1], "snippet", "exec")


def test_the_card_says_what_steers_the_model(tmp_path):
    from huggingface_hub import ModelCard

    text = conditional(tmp_path / "model", ["cat", "a\nb `c`"])
    assert "its labels are `cat`, `a b 'c'`." in text
    for words in ("eps = eps_0 + s (eps_c - eps_0)", "write w for s - 1", "a label steers it, one of 2, and no prompt"):
        assert words in text
    data = ModelCard(text).data
    assert data.pipeline_tag == "unconditional-image-generation", (
        "as for any DDPMPipeline; there is no task for classes"
    )
    assert "class-conditional" in data.tags
    assert "| s |" not in text, "nothing was measured"
    always = conditional(tmp_path / "always", label_dropout=0.0)
    assert "its samples without label, such as those of `DDPMPipeline`, are not to be trusted" in always
    many = conditional(tmp_path / "many", [f"class {i}" for i in range(100)])
    assert "`class 23` and 76 more in `labels.json`" in many
    for card_text in (text, always, many):
        assert "\n\n\n" not in card_text
        assert "None" not in card_text
    checkpoint.save(tmp_path / "model", checkpoint.load(tmp_path / "model").unet, {"num_train_timesteps": 12})
    card.write(tmp_path / "model")
    text = (tmp_path / "model/README.md").read_text(encoding="utf-8")
    assert ("## Labels" in text, "class-conditional" in text) == (False, False)
    assert "no label or prompt steers it" in text


def test_the_table_over_guidance_scales_is_what_was_measured(tmp_path):
    from huggingface_hub import ModelCard

    rows = [
        {"guidance_scale": 0.0, "frechet_distance": 3.25, "label_accuracy": 0.1},
        {"guidance_scale": 1.5, "frechet_distance": 2.125, "label_accuracy": 0.9625},
        {"guidance_scale": 8.0, "frechet_distance": 40.0},
    ]
    measured = {"kind": "evaluation", "step": 9, "images": 9, "bits_per_dim": 1.5, "bits_per_dim_se": 0.1}
    measured |= {
        "bits_per_dim_without_label": 1.51,
        "bits_per_dim_without_label_se": 0.1,
        "variance_type": "fixed_small",
    }
    measured |= {"label_bits_per_dim": 0.01, "label_bits_per_dim_se": 0.001, "num_labelled_images": 64}
    measured |= {"label_bits_per_image": 0.64, "label_bits_per_image_se": 0.064, "split": "test", "num_images": 64}
    measured |= {"by_guidance_scale": rows, **rows[1], "num_samples": 1000, "feature_network": "classifier"}
    measured |= {"class_shares_without_label": {"a": 0.4, "b": 0.6}, "val_loss": 0.1, "val_loss_with_labels": 0.09}
    measured |= {"eps_mse_mean": 0.0203, "eps_mse_mean_se": 0.0001, "eps_mse_mean_without_label": 0.0208}
    measured |= {"eps_mse_mean_without_label_se": 0.0002}
    measured |= {"classifier_accuracy": 0.97, "other_classifier_accuracy": 0.99, "classify_images": 1000}
    measured |= {"classify_network_evaluations": 150_000}
    text = conditional(tmp_path / "model", rows=[measured])
    for line in (
        "| bits/dim, an upper bound, told the label | **1.5000** ± 0.1000 (standard error) | 64 images",
        "| bits/dim without label | 1.5100 ± 0.1000 |",
        "| what the label is worth | **0.0100** ± 0.0010 bits/dim | 0.64 ± 0.06 bits per image",
        "| Fréchet distance, s = 1.5 | **2.125** |",
        "| accuracy of the bound as a classifier | **97.0 %**; a classifier trained for it: 99.0 % | 1,000 held-out images, "
        "150 network evaluations each |",
        "| epsilon-MSE on held-out images, told the label | **0.02030** ± 0.00010 (standard error); without label: "
        "0.02080 ± 0.00020 |",
        "| val_loss, without labels | **0.1000**; with labels: 0.0900 | epsilon-MSE of 1,024 frozen draws from the held-",
        "| 0 (no label) | 3.250 | 10.0 % (by chance) |\n| 1.5 | 2.125 | 96.2 % |\n| 8 | 40.000 | not measured |\n",
        "1,000 samples from the same noise. Without label, each class makes up 40.0 % to 60.0 % of the samples.",
    ):
        assert line in text, line
    results = {result.metric_type: result for result in ModelCard(text).data.eval_results}
    assert results["label_accuracy"].metric_value == 0.9625
    assert results["frechet_distance"].metric_name == "Fréchet distance, features of classifier, s = 1.5"
    assert results["bits_per_dim"].metric_name == "bits/dim, upper bound, with label"
    assert results["bits_per_dim_without_label"].metric_value == 1.51
    assert {result.task_type for result in results.values()} == {"unconditional-image-generation"}
