"""`--init_from`: weights, network and noise schedule of a model, and its labels by name; data and output are new."""

import dataclasses
import json
import shutil

import pytest
import torch
from labelled import network
from launch import launch
from tiny import assert_same_run, command, in_process, weights
from untrained import make_model

from ddpm import checkpoint
from ddpm.classes import separated
from ddpm.training import state

OTHER = {"block_out_channels": (8, 8), "norm_num_groups": 2, "num_train_timesteps": 60, "beta_schedule": "log_snr"}


# TINY's T would be another schedule than the model's; the default is replaced by it.
ANY = {"num_train_timesteps": 1000}
LAST = {"max_train_steps": 1, "learning_rate": 1e-12}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model whose network and schedule differ from TINY's."""
    folder = tmp_path_factory.mktemp("initial") / "model"
    in_process(folder, max_train_steps=3, seed=7, log_snr_min=-5.0, variance_type="fixed_large", **OTHER)
    return folder


def test_weights_network_and_schedule_come_from_the_model(tmp_path, model):
    in_process(tmp_path / "run", init_from=str(model), **ANY | LAST)
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


def test_new_schedule_keeps_the_network_and_learns_a_variance_from_the_middle_of_its_range(tmp_path, model):
    new = {"new_schedule": True, "num_train_timesteps": 50, "beta_schedule": "linear"}
    in_process(tmp_path / "run", init_from=str(model), **LAST | new, variance_type="learned_range")
    before, after = checkpoint.load(model), checkpoint.load(tmp_path / "run")
    assert (after.schedule.num_steps, after.schedule.variance_type) == (50, "learned_range")
    assert after.scheduler.config["beta_schedule"] == "linear"
    xt, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 30])
    eps_hat, v = after.engine().with_variance(xt, t)
    torch.testing.assert_close(eps_hat, before.engine()(xt, t), rtol=0, atol=1e-6)
    assert v.abs().max() < 1e-6
    # Back to a variance that is fixed: the outputs for it are left out.
    in_process(tmp_path / "back", init_from=str(tmp_path / "run"), **LAST | new)
    torch.testing.assert_close(
        checkpoint.load(tmp_path / "back").engine()(xt, t), before.engine()(xt, t), rtol=0, atol=1e-6
    )


@pytest.mark.slow
def test_a_run_goes_on_without_the_model_it_started_from(tmp_path, model):
    source = shutil.copytree(model, tmp_path / "source")
    options = ANY | {
        "init_from": str(source),
        "max_train_steps": 6,
        "checkpointing_steps": 3,
        "lr_schedule": "constant",
    }
    in_process(tmp_path / "whole", **options)
    in_process(tmp_path / "parts", **options | {"max_train_steps": 3})
    shutil.rmtree(source)
    in_process(tmp_path / "parts", **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_what_does_not_match_is_one_line(tmp_path, model):
    def refused(**options):
        done = launch(*command(tmp_path / "run", **options))
        assert done.returncode == 1
        assert not (tmp_path / "run/checkpoints").exists() or not state.folders(tmp_path / "run/checkpoints")
        return done.stderr.strip().splitlines()[-1]

    assert "--prediction_type v_prediction: the model of --init_from predicts epsilon" in refused(
        init_from=model, prediction_type="v_prediction"
    )
    assert "--variance_type learned_range: " in (line := refused(init_from=model, variance_type="learned_range"))
    assert "model has fixed_large; pass --new_schedule" in line
    with pytest.raises(ValueError, match=r"--num_train_timesteps 50: .* pass --new_schedule"):  # as of a preset
        in_process(tmp_path / "run", init_from=str(model), num_train_timesteps=50)
    assert "--new_schedule: pass --init_from MODEL, too" in refused(new_schedule=True)
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


# --------------------------------------------------------------------------------------------------------------- labels


def started(folder, source, **options):
    """The raw weights after one step that changes next to nothing, and what the model that was saved answers."""
    in_process(folder, init_from=str(source), **ANY | LAST | options)
    return state.load_latest(folder / "checkpoints").part("unet"), checkpoint.load(folder)


def answers(model, labels):
    """What a model answers for so many labels, (labels, 2, 1, 8, 8)."""
    draw = torch.Generator().manual_seed(0)
    xt, t = torch.randn(2, 1, 8, 8, generator=draw), torch.tensor([3, 30])
    engine = model.engine()
    return torch.stack([engine(xt, t, None if label < 0 else torch.full((2,), label)) for label in labels])


def labelled_model(folder, names):
    """A model of TINY's network and schedule that knows these classes."""
    in_process(folder, max_train_steps=1)  # for the schedule
    unet, classes = separated(network(len(names), seed=4), names)
    checkpoint.save(folder, unet, dict(checkpoint.load(folder).scheduler.config), classes)
    return checkpoint.load(folder)


def test_a_model_without_labels_learns_them(tmp_path, model, caplog):
    caplog.set_level("INFO")
    raw, found = started(tmp_path / "run", model, class_conditional=True)
    assert raw["class_embedding.weight"].shape == (11, 32)
    assert raw["class_embedding.weight"].abs().max() < 1e-9
    assert f"{model} has no labels: all 10 classes start from its network as it is" in caplog.text
    before = answers(checkpoint.load(model), [-1])
    torch.testing.assert_close(answers(found, [-1, 0, 9]), before.expand(3, -1, -1, -1, -1), rtol=0, atol=1e-6)


def test_classes_keep_their_vectors_by_name_and_new_ones_start_from_no_label(tmp_path, caplog):
    caplog.set_level("INFO")
    source = labelled_model(tmp_path / "source", ("cat", "3", "7", "03"))
    _, found = started(tmp_path / "run", tmp_path / "source", class_conditional=True)
    assert found.classes.names == tuple("0123456789")
    known = {3: 1, 7: 2}
    told = answers(source, [-1, 0, 1, 2])
    for label, answer in zip(range(-1, 10), answers(found, range(-1, 10)), strict=True):
        torch.testing.assert_close(answer, told[known.get(label, -1) + 1], rtol=0, atol=1e-5)
    assert (told[1:] - told[0]).abs().amax(dim=(1, 2, 3, 4)).min() > 0.01, "labels matter"
    assert (
        f"2 of 10 classes start from their vectors in {tmp_path / 'source'}; these are new and start from its network without label: 0, 1, 2"
        in caplog.text
    )


@pytest.mark.long
def test_without_class_conditional_the_labels_are_given_up_and_it_is_said(tmp_path, caplog):
    caplog.set_level("INFO")
    source = labelled_model(tmp_path / "source", ("cat", "dog"))
    raw, found = started(tmp_path / "run", tmp_path / "source")
    assert "class_embedding.weight" not in raw
    assert found.classes is None
    torch.testing.assert_close(answers(found, [-1]), answers(source, [-1]), rtol=0, atol=1e-6)
    assert f"Without --class_conditional, the 2 classes of {tmp_path / 'source'} are given up" in caplog.text


@pytest.mark.long
def test_a_run_with_labels_goes_on_without_the_model_it_started_from(tmp_path):
    labelled_model(tmp_path / "source", ("3", "7"))
    options = {"init_from": str(tmp_path / "source"), "class_conditional": True, "lr_schedule": "constant"}
    in_process(tmp_path / "whole", **options | {"max_train_steps": 6})
    in_process(tmp_path / "parts", **options | {"max_train_steps": 3})
    shutil.rmtree(tmp_path / "source")
    in_process(tmp_path / "parts", **options | {"max_train_steps": 6})
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.long
def test_two_processes_start_from_the_same_labels(tmp_path):
    labelled_model(tmp_path / "source", ("3", "7"))
    options = {"init_from": tmp_path / "source", "class_conditional": True, "max_train_steps": 2}
    done = launch(*command(tmp_path / "two", **options), processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 of 10 classes start from their vectors") == 1
    in_process(tmp_path / "one", gradient_accumulation_steps=2, **options | {"init_from": str(tmp_path / "source")})
    two, one = (checkpoint.load(tmp_path / folder).classes.vectors for folder in ("two", "one"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=2e-5)
