"""A training that was cut off goes on to the same bits, whatever happened to it and to its files."""

import os
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline
from PIL import Image
from tiny import assert_same_run, in_process, weights

from ddpm import checkpoint, files
from ddpm.metrics import read_metrics
from ddpm.training import state


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never cut off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert in_process(folder).stopped == "finished"
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [(1,), (3,), (5, 8), (11,)])
def test_any_cut_point_gives_the_same_run(tmp_path, whole, cuts):
    for cut in cuts:
        stopped = in_process(tmp_path / "run", should_stop=lambda step, cut=cut: step >= cut)
        assert (stopped.stopped, stopped.step) == ("interrupted", cut)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_a_larger_limit_goes_on_where_the_learning_rate_allows_it(tmp_path):
    in_process(tmp_path / "run", lr_schedule="constant", max_train_steps=7)
    in_process(tmp_path / "run", lr_schedule="constant")
    in_process(tmp_path / "whole", lr_schedule="constant")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.long
def test_a_time_limit_ends_the_ordinary_way_and_the_same_command_goes_on(tmp_path, whole):
    for step in (1, 2, 3):
        last = in_process(tmp_path / "run", max_train_minutes=1e-9, plots=step == 3)
        assert (last.stopped, last.step) == ("time", step)
    assert (tmp_path / "run/strip.png").is_file()
    in_process(tmp_path / "run")
    assert_same_run(tmp_path / "run", whole)


def test_a_finished_run_started_again_changes_nothing(whole):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in whole.rglob("*") if p.is_file()}
    assert in_process(whole).stopped.startswith("finished before")
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in whole.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"learning_rate": 1e-3, "seed": 5}, "--seed (0, now 5), --learning_rate (0.002, now 0.001)"),
        ({"max_train_steps": 20}, "--max_train_steps (12, now 20: the cosine learning rate ends there)"),
        ({"resolution": 4}, "--resolution (None, now 4), the images of the dataset"),
    ],
)
def test_other_settings_are_refused_by_name(whole, options, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        in_process(whole, **options)


@pytest.mark.long
def test_the_pixels_count_not_how_their_dataset_is_named(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / "data").mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"data/{number}.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    names = (str(tmp_path / "data"), "data", "./data/", str(tmp_path / "link"), "data/../data")
    for step, name in enumerate(names, 1):
        options = {"resolution": 8, "channels": 1} if step == 3 else {}  # what the pictures have anyway
        in_process(tmp_path / "run", should_stop=lambda now, step=step: now >= step, dataset_name=name, **options)
    assert in_process(tmp_path / "run", dataset_name="data").stopped == "finished"
    in_process(tmp_path / "whole", dataset_name="data")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    Image.new("L", (8, 8)).save("data/0.png")
    with pytest.raises(
        ValueError, match=r"other settings: --dataset_name \(data, now ./data\), the images of the dataset"
    ):
        in_process(tmp_path / "run", dataset_name="./data")


@pytest.mark.slow
def test_output_cadence_may_change_on_resume(tmp_path, whole):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 5, validation_steps=2, checkpointing_steps=1)
    in_process(tmp_path / "run")
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(tmp_path / "run")[name])


def flip_a_bit(folder):
    data = bytearray((folder / state.TENSORS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / state.TENSORS).write_bytes(data)


def write_half(folder):
    data = (folder / state.TENSORS).read_bytes()
    (folder / state.TENSORS).write_bytes(data[: len(data) // 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_bit, "damaged, its checksum does not match"),
        (write_half, "damaged, its checksum does not match"),
        (lambda folder: (folder / state.META).write_text('{"step": 8, "opt'), "not a training state"),
        (lambda folder: (folder / state.META).unlink(), "not a training state"),
        (lambda folder: folder.rename(folder.with_name(f".tmp-{folder.name}")), None),  # a crash before the rename
    ],
)
def test_damaged_and_half_written_states_are_passed_over(tmp_path, whole, caplog, damage, said):
    caplog.set_level("INFO")
    in_process(tmp_path / "run", should_stop=lambda step: step >= 8)
    newest, older = sorted((tmp_path / "run/checkpoints").glob("step-*"), reverse=True)
    assert (newest.name, older.name) == ("step-000008", "step-000006")
    damage(newest)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert not said or said in caplog.text
    assert "Resuming at step 6" in caplog.text
    assert not list((tmp_path / "run/checkpoints").glob(".tmp*"))
    assert_same_run(tmp_path / "run", whole)


def test_starting_afresh(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    in_process(tmp_path / "run", resume_from_checkpoint="none", seed=1, max_train_steps=6)
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl")] == [5, 6, 6]
    assert [p.name for p in (tmp_path / "run/samples").iterdir()] == ["step-000006.png"]
    assert state.load_latest(tmp_path / "run/checkpoints").meta["step"] == 6


@pytest.mark.slow
def test_a_full_disk_costs_the_save_not_the_run(tmp_path, monkeypatch, caplog, whole):
    real, calls = files.write_synced, []

    def full(path, data):
        calls.append(path)
        if len(calls) in (3, 4):  # the second save
            path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(files, "write_synced", full)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert "The training state of step 6 could not be saved (No space left on device)" in caplog.text
    assert not list((tmp_path / "run/checkpoints").glob(".tmp*"))
    assert_same_run(tmp_path / "run", whole)


def test_a_run_whose_states_are_all_damaged_is_not_thrown_away(tmp_path):
    in_process(tmp_path / "run", max_train_steps=3)
    for path in (tmp_path / "run/checkpoints").glob("*/state.safetensors"):
        path.write_bytes(b"")
    before = weights(tmp_path / "run")
    with pytest.raises(ValueError, match="every training state is damaged; --resume_from_checkpoint none"):
        in_process(tmp_path / "run", max_train_steps=3)
    assert all(torch.equal(v, before[k]) for k, v in weights(tmp_path / "run").items())


@pytest.mark.slow
def test_a_named_state_goes_on_from_there(tmp_path, whole):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 8, checkpoints_total_limit=9)
    in_process(tmp_path / "run", resume_from_checkpoint=str(tmp_path / "run/checkpoints/step-000003"))
    assert_same_run(tmp_path / "run", whole)


def test_a_state_that_is_not_there_is_named_with_what_is(tmp_path):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 3)
    for wanted in ("lates", str(tmp_path / "run")):
        with pytest.raises(ValueError, match=rf"--resume_from_checkpoint {wanted}: no .*, such as .*/step-000003$"):
            in_process(tmp_path / "run", resume_from_checkpoint=wanted)


@pytest.mark.slow
def test_rows_that_lack_their_numbers_do_not_end_a_resumed_run(tmp_path, caplog):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 8, logging_steps=1)
    rows = (tmp_path / "run/metrics.jsonl").read_text()
    odd = ['{"kind": "validation", "step": 1}', '{"kind": "train", "step": 1, "loss": "x", "loss_by_decile": []}']
    (tmp_path / "run/metrics.jsonl").write_text("\n".join([*odd, rows]))
    assert in_process(tmp_path / "run", logging_steps=1, plots=True).stopped == "finished"
    assert "rows without the numbers of their kind are left out: 2 of 11" in caplog.text
    assert (tmp_path / "run/training.png").exists()
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 12 + 2


@pytest.mark.parametrize("name", [b"out\xff", rb"run $\frac$ 1"])
def test_a_folder_may_be_called_anything(tmp_path, name):
    """Bytes that are not UTF-8, and what matplotlib would take for a formula."""
    folder = tmp_path / os.fsdecode(name)
    done = in_process(folder, max_train_steps=2, plots=True)
    assert (done.stopped, dict(done.saved.missing)) == ("finished", {})
    assert (folder / "training.png").exists()
    assert name.decode(errors="backslashreplace") in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_rows_stay_when_the_cadence_changes(tmp_path):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 5, logging_steps=2)
    in_process(tmp_path / "run", logging_steps=3, should_stop=lambda step: step >= 10)
    in_process(tmp_path / "run", logging_steps=4)
    steps = [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert steps == [2, 4, 6, 9, 12]


def test_a_signal_in_the_last_step_does_not_cost_the_end(tmp_path, whole):
    assert in_process(tmp_path / "run", should_stop=lambda step: step >= 12).stopped == "finished"
    assert_same_run(tmp_path / "run", whole)


def test_a_folder_of_other_things_is_not_taken_over(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(README.md\)"):
        in_process(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_a_disk_that_fills_while_the_model_is_exported_costs_that_export(tmp_path, monkeypatch, caplog, whole):
    from safetensors import SafetensorError

    real, calls = checkpoint.DDPMPipeline.save_pretrained, []

    def full(self, folder, **options):
        calls.append(folder)
        if len(calls) == 2:
            raise SafetensorError("I/O error: No space left on device")
        return real(self, folder, **options)

    monkeypatch.setattr(checkpoint.DDPMPipeline, "save_pretrained", full)
    assert in_process(tmp_path / "run").stopped == "finished"
    assert "No space left on device" in caplog.text
    assert_same_run(tmp_path / "run", whole)


def test_the_checkpoint_is_the_averaged_weights_bit_for_bit(whole):
    saved = state.load_latest(whole / "checkpoints")
    averaged = {k.removeprefix("module."): v for k, v in saved.part("ema").items() if k.startswith("module.")}
    pipeline = DDPMPipeline.from_pretrained(whole)
    loaded = pipeline.unet.state_dict()
    assert loaded.keys() == averaged.keys()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, averaged[name]), name
    assert any(not torch.equal(v, averaged[k]) for k, v in saved.part("unet").items())
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
    ours = checkpoint.load(whole)
    for name, tensor in ours.unet.state_dict().items():
        assert torch.equal(tensor, loaded[name])


@pytest.mark.parametrize("name", ["unet/conv_in.weight", "ema/module.conv_in.weight", "optimizer/0.exp_avg"])
def test_weights_that_are_not_finite_are_never_resumed(tmp_path, whole, caplog, name):
    """The state before them is used; the loss of a window may overflow in fp16 without harm."""
    root = tmp_path / "checkpoints"
    good = state.load_latest(whole / "checkpoints")
    assert name in good.tensors
    early = state.State(good.tensors | {"window/loss": torch.tensor([float("nan")])}, good.meta | {"step": 1})
    spoilt = good.tensors[name].clone()
    spoilt.view(-1)[0] = float("inf")
    for each in (early, state.State(good.tensors | {name: spoilt}, good.meta | {"step": 2})):
        state.save(root, each, keep=2)
    assert state.load_latest(root).meta["step"] == 1
    assert f"its weights are not finite: {name.partition('/')[2]} holds NaN or infinity in 1 of" in caplog.text
