"""The precision of a training: the flag's, then that of `accelerate launch`, then the preset's."""

import json
import os
import re
import subprocess

import pytest
import torch
from accelerate.state import AcceleratorState
from launch import ROOT, launch
from tiny import ACCELERATE, TINY, command, in_process

from ddpm.config import parse
from ddpm.processes import make_accelerator

VARIABLE = "ACCELERATE_MIXED_PRECISION"


def recorded(folder):
    return json.loads((folder / "train_config.json").read_text())["options"]["mixed_precision"]


@pytest.mark.parametrize(
    ("flags", "launcher", "precision", "said"),
    [
        ("", "bf16", "bf16", "mixed precision bf16, because accelerate launch asks for it"),
        ("", "no", "no", ""),
        ("", "", "no", ""),  # a variable of a shell that is set to nothing
        ("", " BF16 ", "bf16", "mixed precision bf16, because accelerate launch asks for it"),
        ("--preset mnist", "no", "bf16", ""),  # what the launcher says if nobody asked it for anything
        ("--preset mnist", "bf16", "bf16", ""),
        ("--mixed_precision no", "bf16", "no", "accelerate launch's mixed precision bf16 is not taken, because --mixed_precision says no"),
        ("--mixed-precision=bf16", "fp16", "bf16", "fp16 is not taken, because --mixed_precision says bf16"),
        ("--mixed_precision no", "fp8", "no", "fp8 is not taken"),
        ("--preset mnist", "fp16", "bf16", "fp16 is not taken, because it needs a GPU"),
        ("", "fp16", "no", "fp16 is not taken, because it needs a GPU"),
    ],
)  # fmt: skip
def test_what_decides_the_precision(monkeypatch, capsys, flags, launcher, precision, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(VARIABLE, launcher)
    assert parse(flags.split()).mixed_precision == precision
    error = capsys.readouterr().err
    assert error.count("\n") == bool(said)
    assert said in error
    monkeypatch.setenv("RANK", "1")
    parse(flags.split())
    assert not capsys.readouterr().err, "one process speaks"


def test_fp16_of_the_launcher_is_taken_where_a_gpu_computes(monkeypatch):
    monkeypatch.setenv(VARIABLE, "fp16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parse(["--preset", "mnist"]).mixed_precision == "fp16"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert parse(["--preset", "mnist"]).mixed_precision == "bf16"


def test_a_precision_that_does_not_exist_here_is_wrong_usage(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "fp8")
    with pytest.raises(SystemExit) as stop:
        parse([])
    assert stop.value.code == 2
    assert re.fullmatch(r"train.py: error: .*fp8.*one of no, fp16, bf16 is needed.*\n", capsys.readouterr().err)


def test_a_launcher_that_asks_for_deepspeed_is_one_line(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")  # which is not installed here
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match=r"accelerate launch asks for more than plain data parallelism.*DeepSpeed"):
        make_accelerator(parse([]))


def test_a_saved_config_keeps_the_precision_of_its_run(monkeypatch, capsys, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"options": parse(["--preset", "mnist"]).to_json()}))
    monkeypatch.setenv(VARIABLE, "fp16")
    assert parse(["--config", str(tmp_path / "c.json")]).mixed_precision == "bf16"
    assert "not taken, because --config says bf16" in capsys.readouterr().err


@pytest.mark.long
def test_the_saved_precision_of_accelerate_trains_is_recorded_and_resumes(tmp_path):
    """Its configuration file, a real launcher, and afterwards the same run without it."""
    config = tmp_path / "default_config.yaml"
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: bf16\nuse_cpu: true\nnum_processes: 1\nnum_machines: 1\n")  # fmt: skip
    words = [
        *ACCELERATE,
        "--config_file",
        str(config),
        *command(tmp_path / "run", max_train_steps=3, lr_schedule="constant"),
    ]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mixed precision bf16, because accelerate launch asks for it") == 1
    assert recorded(tmp_path / "run") == "bf16"
    more = command(tmp_path / "run", max_train_steps=6, lr_schedule="constant")
    refused = launch(*more)
    assert refused.returncode == 1
    assert "--mixed_precision (bf16, now no)" in refused.stderr
    for resumed in (launch(*more, ACCELERATE_MIXED_PRECISION="bf16"), launch(*more, "--mixed_precision", "bf16")):
        assert resumed.returncode == 0, resumed.stderr
        assert recorded(tmp_path / "run") == "bf16"


@pytest.mark.long
def test_figures_of_an_evaluation_stay_in_float32(tmp_path):
    assert in_process(tmp_path / "run", **TINY | {"max_train_steps": 1}).stopped == "finished"
    words = ["-m", "ddpm.evaluate", tmp_path / "run", "--num_images", 2, "--num_cpu_threads", 1, "--output"]
    reports = []
    for name, precision in (("plain", "no"), ("asked", "fp16")):
        done = launch(*words, tmp_path / f"{name}.json", ACCELERATE_MIXED_PRECISION=precision)
        assert done.returncode == 0, done.stderr
        assert ("fp16 is not taken, because figures are computed in float32" in done.stderr) == (name == "asked")
        reports.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert reports[0]["bits_per_dim"] == reports[1]["bits_per_dim"]
