"""Every setting of a model's scheduler is computed, or changes nothing, or is refused by its name."""

import inspect
import json

import diffusers
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler

from ddpm import checkpoint
from ddpm.sampling import generators, sample
from ddpm.scheduler_files import NARROW_BETAS, OTHERS
from ddpm.unet import build_unet

T, N = 20, 3
BASE = {"num_train_timesteps": T, "beta_start": 1e-3, "beta_end": 0.5}

# Of every field of DDPMScheduler: values, and whether these change the samples, or nothing, or are refused.
FIELDS = {
    "num_train_timesteps": {"changes": [12], "refused": [1, 10**6, 2.5, "20", None]},
    "beta_start": {"changes": [0.05], "refused": [0, -1e-4, "0.1", None, float("nan")]},
    "beta_end": {"changes": [0.3], "refused": [0, 1.5, float("inf"), None]},
    "beta_schedule": {
        "changes": ["scaled_linear", "squaredcos_cap_v2", "sigmoid"],
        "refused": ["odd", None, ["linear"]],
    },
    "trained_betas": {
        "changes": [[0.01 * (i + 1) for i in range(T)]],
        "nothing": [None],
        "refused": [[0.1, 0.2], [0.0] * T, [1.5] * T, ["a"] * T, [float("nan")] * T, 0.1],
    },
    "variance_type": {
        "changes": ["fixed_large"],
        "nothing": ["fixed_small_log"],  # another way to write the same deviation
        "refused": ["fixed_large_log", "learned", "learned_range", "odd", None],
    },
    "clip_sample": {"changes": [False], "refused": ["false", None, 1]},
    "clip_sample_range": {"changes": [0.5, 3, 3.0], "refused": [0, -1.0, float("nan"), float("inf"), "1", None, True]},
    "prediction_type": {"changes": ["sample", "v_prediction"], "refused": ["flow_prediction", None]},
    "thresholding": {"refused": [True, "yes", None]},
    "dynamic_thresholding_ratio": {"nothing": [0.5, None]},
    "sample_max_value": {"nothing": [2.0, None]},
    "timestep_spacing": {"nothing": ["linspace", "leading", "trailing"], "refused": ["odd", None]},
    "steps_offset": {"refused": [1, "0", None]},
    "rescale_betas_zero_snr": {"refused": [True, None]},
}
CASES = [(name, value, kind) for name, kinds in FIELDS.items() for kind, values in kinds.items() for value in values]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model directory whose network reaches far beyond [-1, 1], so that clipping shows."""
    folder = tmp_path_factory.mktemp("models") / "model"
    torch.manual_seed(0)
    unet = build_unet(8, 1, (8, 16), norm_num_groups=4)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.3)
    checkpoint.save(folder, unet, BASE)
    return folder


def with_scheduler(model, tmp_path, config):
    """The same network with another scheduler_config.json."""
    folder = tmp_path / "model"
    (folder / "scheduler").mkdir(parents=True)
    (folder / "model_index.json").write_bytes((model / "model_index.json").read_bytes())
    (folder / "unet").mkdir()
    for path in (model / "unet").iterdir():
        (folder / "unet" / path.name).write_bytes(path.read_bytes())
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    return folder


def ours(folder, steps):
    loaded = checkpoint.load(folder)
    x = sample(loaded.engine(), loaded.scheduler, (N, 1, 8, 8), num_inference_steps=steps, seed=7)
    return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def stock(folder, steps):
    """The samples of a plain DDPMPipeline from the same noise."""
    pipeline = DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(batch_size=N, generator=generators(7, N), num_inference_steps=steps, output_type="np")
    return made.images


def test_the_table_has_every_field_of_the_scheduler():
    assert set(FIELDS) == set(inspect.signature(DDPMScheduler.__init__).parameters) - {"self"}


@pytest.mark.parametrize(("name", "value", "kind"), CASES)
def test_a_setting_is_computed_as_diffusers_does_or_refused_by_its_name(model, tmp_path, name, value, kind):
    config = {"_class_name": "DDPMScheduler", **BASE, name: value}
    folder = with_scheduler(model, tmp_path, config)
    if kind == "refused":
        with pytest.raises(ValueError, match=name) as error:
            checkpoint.load(folder)
        assert "\n" not in str(error.value)
        return
    steps = config["num_train_timesteps"]
    theirs = stock(folder, steps)
    torch.testing.assert_close(ours(folder, steps), theirs, rtol=0, atol=2e-5)
    away = abs(theirs - stock(with_scheduler(model, tmp_path / "base", {**config, **BASE, name: default(name)}), T))
    if kind == "changes":
        assert away.mean() > 1e-3, "the samples of diffusers do not depend on this value, so the test shows nothing"
    else:
        assert away.max() < 2e-5


def default(name):
    return BASE.get(name, inspect.signature(DDPMScheduler.__init__).parameters[name].default)


def test_fewer_steps_of_a_trailing_scheduler_are_those_of_diffusers(model, tmp_path):
    config = {"_class_name": "DDPMScheduler", **BASE, "timestep_spacing": "trailing", "steps_offset": 1}
    folder = with_scheduler(model, tmp_path, config | {"clip_sample_range": 3.0})
    torch.testing.assert_close(ours(folder, 7), stock(folder, 7), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"predict_epsilon": True, "tensor_format": "pt", "timestep_values": None}, None),
        ({"predict_epsilon": False}, "predict_epsilon False: a field of early versions"),
        ({"noise_offset": 0.1}, "the scheduler's configuration has noise_offset, which is not computed here"),
        ({"skip_prk_steps": True, "set_alpha_to_one": False, "solver_order": 2}, None),  # of DDPMScheduler.from_config
        ({"use_flow_sigmas": True}, "use_flow_sigmas True: False is needed"),
    ],
)
def test_fields_that_the_scheduler_does_not_have(model, tmp_path, config, words):
    folder = with_scheduler(model, tmp_path, {"_class_name": "DDPMScheduler", **BASE, **config})
    if words is None:
        torch.testing.assert_close(ours(folder, T), stock(folder, T), rtol=0, atol=2e-5)
    else:
        with pytest.raises(ValueError, match=words):
            checkpoint.load(folder)


@pytest.mark.parametrize("kind", OTHERS)
def test_models_of_other_schedulers_load_by_their_betas(model, tmp_path, caplog, kind):
    """The right betas are those of the scheduler itself. `DDPMScheduler.from_config` of Heun's would take others, since
    it takes a value that is Heun's default for one that nobody has chosen."""
    made = getattr(diffusers, kind)
    if kind == "DPMSolverSDEScheduler":  # it needs torchsde
        betas, config = torch.linspace(NARROW_BETAS["beta_start"], NARROW_BETAS["beta_end"], 1000), {}
    else:
        scheduler = made(num_train_timesteps=T, beta_end=0.3, prediction_type="v_prediction")
        config = dict(scheduler.config)
        betas = scheduler.betas
    folder = with_scheduler(model, tmp_path, {**config, "_class_name": kind})
    loaded = checkpoint.load(folder)
    assert torch.equal(loaded.scheduler.betas, betas)
    assert loaded.scheduler.config.prediction_type == ("v_prediction" if config else "epsilon")
    assert loaded.scheduler.config.variance_type == "fixed_small"
    assert f"was saved with {'an' if kind[0] == 'E' else 'a'} {kind}: its betas" in caplog.text
    assert len(list(filter(lambda line: "was saved" in line, caplog.messages))) == 1


@pytest.mark.slow
def test_a_file_of_another_scheduler_that_names_no_betas_means_that_scheduler_s_own(model, tmp_path):
    for kind in OTHERS:
        if kind != "DPMSolverSDEScheduler":
            folder = with_scheduler(model, tmp_path / kind, {"_class_name": kind})
            assert torch.equal(checkpoint.load(folder).scheduler.betas, getattr(diffusers, kind)().betas), kind


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "such as DDIM, PNDM, DPM-Solver, Euler or UniPC"),
        ({"_class_name": ["mine", "Mine"]}, "a DDPMScheduler is needed"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas True"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ({"_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr True"),
        ({"_class_name": "DDIMScheduler", "thresholding": True}, "thresholding True"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "variance_type": "learned_range"},
            "variance_type learned_range of the",
        ),
        ({"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"}, "'flow_prediction'"),
    ],
)
def test_other_processes_are_refused(model, tmp_path, config, words):
    with pytest.raises(ValueError, match=words):
        checkpoint.load(with_scheduler(model, tmp_path, config))
