"""`--init_from`: weights, network and noise schedule of a model; data and output are new."""

import dataclasses
import json
import shutil

import pytest
import torch
from launch import launch
from tiny import assert_same_run, command, in_process, weights
from untrained import make_model

from ddpm import checkpoint
from ddpm.training import state

OTHER = {"block_out_channels": (8, 8), "norm_num_groups": 2, "num_train_timesteps": 60, "beta_schedule": "log_snr"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model whose network and schedule differ from TINY's."""
    folder = tmp_path_factory.mktemp("initial") / "model"
    in_process(folder, max_train_steps=3, seed=7, log_snr_min=-5.0, variance_type="fixed_large", **OTHER)
    return folder


def test_weights_network_and_schedule_come_from_the_model(tmp_path, model):
    in_process(tmp_path / "run", init_from=str(model), max_train_steps=1, learning_rate=1e-12)
    before, after = checkpoint.load(model), checkpoint.load(tmp_path / "run")
    assert after.schedule.variance_type == "fixed_large"
    torch.testing.assert_close(after.schedule.beta, before.schedule.beta, rtol=1e-6, atol=0)
    kept = dict(before.unet.state_dict())
    for name, tensor in after.unet.state_dict().items():
        torch.testing.assert_close(tensor, kept[name], rtol=0, atol=1e-9)
    options = json.loads((tmp_path / "run/train_config.json").read_text())["options"]
    assert options["block_out_channels"] == [8, 8]
    assert (options["beta_schedule"], options["log_snr_min"]) == ("log_snr", -5.0)
    raw = state.load_latest(tmp_path / "run/checkpoints").part("unet")
    torch.testing.assert_close(raw["conv_in.weight"], kept["conv_in.weight"], rtol=0, atol=1e-9)


def test_a_run_goes_on_without_the_model_it_started_from(tmp_path, model):
    source = shutil.copytree(model, tmp_path / "source")
    options = {"init_from": str(source), "max_train_steps": 6, "checkpointing_steps": 3, "lr_schedule": "constant"}
    in_process(tmp_path / "whole", **options)
    in_process(tmp_path / "parts", **options | {"max_train_steps": 3})
    shutil.rmtree(source)
    in_process(tmp_path / "parts", **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_what_does_not_match_is_one_line(tmp_path, model):
    def refused(**options):
        done = launch(*command(tmp_path / "run", **options))
        assert done.returncode == 1
        assert not (tmp_path / "run/checkpoints").exists() or not state.folders(tmp_path / "run/checkpoints")
        return done.stderr.strip().splitlines()[-1]

    assert "--prediction_type v_prediction: the model of --init_from predicts epsilon" in refused(
        init_from=model, prediction_type="v_prediction"
    )
    assert "no such directory" in refused(init_from=tmp_path / "nothing")
    assert "is for images of 8x8x1, and these are 16x16x3: pass --resolution 8 --channels 1" in refused(
        init_from=model, resolution=16, channels=3
    )
    other = make_model(tmp_path / "betas", 8, 1, 40)
    assert "its betas belong to none of the schedules" in refused(init_from=other)
    config = json.loads((other / "unet/config.json").read_text())
    (other / "unet/config.json").write_text(json.dumps(config | {"act_fn": "relu"}))
    assert "its network has act_fn relu; this program trains networks with silu" in refused(init_from=other)


def test_a_folder_with_a_model_names_the_way_to_train_it_on(tmp_path, model):
    folder = shutil.copytree(model, tmp_path / "model", ignore=shutil.ignore_patterns("checkpoints"))
    done = launch(*command(folder))
    assert done.returncode == 1
    assert f"--init_from {folder} and another --output_dir" in done.stderr
    assert dataclasses.is_dataclass(checkpoint.load(folder)), "nothing was changed"
    assert weights(folder).keys() == weights(model).keys()
