"""What a GPU computes, against the same on the CPU or without CUDA graphs. Without a GPU, these tests are left out."""

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny import in_process, weights

from ddpm import checkpoint
from ddpm.cuda_graphs import WORTH, Recorded
from ddpm.evaluate.measure import evaluate
from ddpm.evaluate.options import EvaluateConfig
from ddpm.guidance import Guided
from ddpm.metrics import read_metrics
from ddpm.sampling import sample

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture
def replays(monkeypatch):
    """Counts the replays of what `train.py` records."""
    counted, run = [], Recorded.run

    def counting(recorded, *inputs):
        counted.append(1)
        return run(recorded, *inputs)

    monkeypatch.setattr(Recorded, "run", counting)
    return counted


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2, "class_conditional": True, "dropout": 0.2},
        {"variance_type": "learned_range", "beta_schedule": "log_snr"},
        {"mixed_precision": "bf16", "attention_levels": (1,)},
        {"compile": True},
    ],
)
def test_a_training_is_the_same_with_graphs(tmp_path, replays, options):
    for name in ("graphed", "plain"):
        in_process(tmp_path / name, cuda_graphs=name == "graphed", max_train_steps=20, lr_warmup_steps=1, **options)
    assert len(replays) == 20 * options.get("gradient_accumulation_steps", 1)
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("graphed", "plain"))
    for a, b in zip(one, two, strict=True):
        for figure in ("loss", "val_loss_ema", "grad_norm"):
            if figure in a:
                assert a[figure] == pytest.approx(b[figure], rel=0.02), (a["step"], figure)
    assert one[-1]["val_loss_ema"] < 0.99, "it has learned something"


def test_a_training_goes_on_where_it_was_cut_off(tmp_path, replays):
    options = {"dropout": 0.2, "class_conditional": True}
    in_process(tmp_path / "whole", **options)
    in_process(tmp_path / "cut", should_stop=lambda step: step >= 7, **options)
    in_process(tmp_path / "cut", **options)
    assert len(replays) == 24
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.allclose(tensor, weights(tmp_path / "cut")[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("name", ["mnist", "mnist_bound", "mnist_labels", "emoji"])
def test_samples_are_those_of_the_cpu(name, monkeypatch):
    model = checkpoint.load(checkpoint.EMBEDDED.parent / name)
    shape = (2, model.channels, *model.size)
    drawn = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        for device in ("cpu", "cuda"):
            eps_theta = model.engine(device)
            if model.classes:
                eps_theta = Guided(eps_theta, torch.tensor([1, 2], device=device), 2.0)
            options = {"num_inference_steps": WORTH + 5, "seed": 3, "device": device}
            drawn.append(sample(eps_theta, model.scheduler, shape, **options).cpu())
    finally:
        torch.set_float32_matmul_precision(before)
    assert float((drawn[0] - drawn[1]).abs().max()) < 1e-3


def test_the_bound_is_that_of_the_cpu(tmp_path, monkeypatch):
    in_process(tmp_path / "model")
    found = []
    for on_cpu in ("true", "false"):
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setenv("ACCELERATE_USE_CPU", on_cpu)
        config = EvaluateConfig(model=str(tmp_path / "model"), num_images=8, timesteps=5, output=tmp_path / on_cpu)
        found.append(evaluate(config))
    assert [figures["device"].split(":")[0] for figures in found] == ["cpu", "cuda"]
    one, two = (figures["bits_per_dim"] for figures in found)
    assert one == pytest.approx(two, abs=1e-3)
