"""A training whose network predicts the variance, with labels, and what evaluation and `--init_from` make of it."""

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDPMPipeline
from tiny import TINY, in_process, weights
from untrained import make_model

from ddpm import checkpoint, data
from ddpm.config import preset
from ddpm.evaluate import EvaluateConfig, evaluate
from ddpm.metrics import read_metrics
from ddpm.sampling import generators, sample
from ddpm.training.recipe import data_options
from ddpm.validation import BoundValidation, Validation

OPTIONS = {"variance_type": "learned_range", "class_conditional": True, "beta_schedule": "log_snr", "log_snr_max": 10.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned") / "run"
    in_process(folder, first_timestep_share=0.0625, vlb_weight=0.0859, learning_rate=0.02, **OPTIONS)
    return folder


def measured(folder, tmp_path, **options):
    AcceleratorState._reset_state(reset_partial_state=True)
    config = EvaluateConfig(str(folder), num_images=3, output=str(tmp_path / "r.json"), num_cpu_threads=1, **options)
    config.validate()
    return evaluate(config)


@pytest.mark.slow
def test_the_model_is_one_that_stock_diffusers_draws_with(run):
    model = checkpoint.load(run)
    assert model.unet.config["out_channels"] == 2
    assert json.loads((run / "variance.json").read_text())["lowest_log_variance"] < -11.8
    pipeline = DDPMPipeline.from_pretrained(run)
    pipeline.set_progress_bar_config(disable=True)
    stock = pipeline(3, generators(7, 3), num_inference_steps=40, output_type="np").images
    ours = sample(model.engine(), model.scheduler, (3, 1, 8, 8), seed=7)
    np.testing.assert_allclose((ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy(), stock, atol=1e-5)
    labels = torch.tensor([1, 5, -1])
    assert torch.isfinite(
        sample(model.engine(), model.scheduler, (3, 1, 8, 8), labels=labels, guidance_scale=2.0)
    ).all()


@pytest.mark.slow
def test_the_rows_tell_the_bound_beside_the_loss(run):
    *_, last = (row for row in read_metrics(run / "metrics.jsonl") if row["kind"] == "validation")
    model, images = checkpoint.load(run), data.prepare(data_options(preset("digits")))
    bound = BoundValidation(images.eval, model.schedule, TINY["num_validation_images"])
    assert last["val_bits"] == pytest.approx(float(bound.bits(model.unet, model.scheduler)), rel=1e-4)
    error = Validation(images.eval, model.scheduler, 32).squared_error(model.unet) / 32
    assert last["val_loss_ema"] == pytest.approx(float(error), rel=1e-4), "still the epsilon-MSE"


@pytest.mark.long
def test_evaluation_measures_the_learned_variance_unless_another_is_asked_for(run, tmp_path):
    own = measured(run, tmp_path)
    assert own["variance_type"] == "learned_range"
    assert measured(run, tmp_path, variance_type="learned_range")["bits_per_dim"] == own["bits_per_dim"]
    small = measured(run, tmp_path, variance_type="fixed_small")
    assert small["variance_type"] == "fixed_small"
    assert small["bits_per_dim"] != own["bits_per_dim"]
    assert small["eps_mse"] == own["eps_mse"], "the same network"
    estimate = measured(run, tmp_path, timesteps=30)
    assert estimate["bits_per_dim"] == pytest.approx(own["bits_per_dim"], rel=0.2)


def test_a_variance_that_a_model_does_not_have_is_refused(run, tmp_path):
    refused = (
        "--variance_type learned: the variance of run is learned_range; one of fixed_small, fixed_large, learned_range"
    )
    with pytest.raises(ValueError, match=refused):
        measured(run, tmp_path, variance_type="learned")
    plain = make_model(tmp_path / "plain", 8, 1, 40)
    with pytest.raises(
        ValueError, match="the variance of plain is fixed_small; one of fixed_small, fixed_large is needed"
    ):
        measured(plain, tmp_path, variance_type="learned_range", dataset_name="digits")


def test_a_training_starts_from_such_a_model(run, tmp_path):
    in_process(tmp_path / "next", init_from=str(run), max_train_steps=1, learning_rate=1e-12)
    torch.testing.assert_close(weights(tmp_path / "next"), weights(run), rtol=0, atol=1e-6)
    before, after = checkpoint.load(run).schedule, checkpoint.load(tmp_path / "next").schedule
    assert after.variance_type == "learned_range"
    assert after.lowest_log_variance == pytest.approx(before.lowest_log_variance, rel=1e-5)
    config = json.loads((run / "scheduler/scheduler_config.json").read_text())
    other = make_model(tmp_path / "other", 8, 1, 40, lowest_log_variance=-12.0)
    (other / "variance.json").unlink()
    (other / "scheduler/scheduler_config.json").write_text(json.dumps(config | {"variance_type": "learned"}))
    with pytest.raises(
        ValueError, match="its variance_type is learned, which this program does not train; one of fixed"
    ):
        in_process(tmp_path / "none", init_from=str(other))


@pytest.mark.parametrize("weighting", ["vlb", "kl"])
@pytest.mark.parametrize("variance_type", ["learned_range", "fixed_small"])
def test_every_weighting_trains(tmp_path, weighting, variance_type):
    in_process(tmp_path / "run", loss_weighting=weighting, variance_type=variance_type, max_train_steps=3)
    assert checkpoint.load(tmp_path / "run").schedule.variance_type == variance_type
