"""What a training leaves on a disk that is too small, in files that were cut off, and in folders that hold a model."""

import contextlib
import errno
import json
import re
import resource
import shutil
import subprocess

import pytest
import torch
from diffusers import DDPMPipeline
from launch import launch
from tiny import assert_same_run, command, in_process, weights

from ddpm import files
from ddpm.metrics import MetricsLog, read_metrics
from ddpm.training import outcome, state
from ddpm.training.folder import Saved
from ddpm.training.recorder import Progress
from ddpm.unet import build_unet

# Of the training in tiny.py: the model takes 176 KiB, a training state 704 KiB, everything else about 50 KiB.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never cut off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert in_process(folder).stopped == "finished"
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """Makes a folder on a disk of so many KiB. Where this machine does not allow that, every single file is limited
    to so much, which is the second value: what `launch` needs."""
    mounted = []

    def make(kib, largest_file):
        folder = tmp_path / f"disk-{kib}"
        folder.mkdir()
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            words = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
            subprocess.run(words, check=True, capture_output=True)
            mounted.append(folder)
        return folder / "run", None if mounted else largest_file

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


FULL = r"(No space left on device|File too large)"


@pytest.mark.long
def test_a_state_that_does_not_fit_does_not_cost_the_model(small_disk, whole):
    out, limit = small_disk(640, 400_000)
    done = launch(*command(out), largest_file=limit)
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(out).items())
    assert DDPMPipeline.from_pretrained(out).unet.config.sample_size == 8
    assert re.search(
        rf"^finished: step 12, in \S+; not saved there: the training state \({FULL}\)\. There is no training state: "
        r"--resume_from_checkpoint none starts again and replaces the model$",
        last_line(done),
    ), done.stderr
    assert "intact" not in done.stderr
    assert not [p.name for p in (out / "checkpoints").iterdir() if p.name != ".lock"]
    again = launch(*command(out), largest_file=limit)
    assert again.returncode == 1
    assert "holds a model (model_index.json), but no training state to continue from" in last_line(again)


def test_no_success_is_said_where_nothing_could_be_saved(small_disk):
    out, limit = small_disk(120, 100_000)
    done = launch(*command(out), largest_file=limit)
    assert done.returncode == 1, done.stderr
    start = "train.py: error: finished at step 12, but the model could not be saved ("
    end = f"). There is no model in {out}. There is no training state: the same command starts again"
    assert last_line(done).startswith(start), done.stderr
    assert last_line(done).endswith(end), done.stderr
    assert "Traceback" not in done.stderr
    assert not [p for p in out.rglob("*") if p.name.startswith((".tmp", ".begun"))]


@pytest.mark.slow
def test_older_states_make_room_for_the_newest(small_disk, whole):
    out, limit = small_disk(1900, None)  # two states and the model, but not a third one beside them
    done = launch(*command(out), largest_file=limit)
    assert done.returncode == 0, done.stderr
    assert last_line(done) == f"finished: step 12, in {out}. To draw pictures: python -m ddpm.sample {out}"
    assert_same_run(out, whole)


def test_states_make_room_one_by_one_and_the_newest_stays(tmp_path, monkeypatch):
    """A quota (EDQUOT) on so many states, of which the last one may not be given up."""
    real, room = files.write_synced, 3

    def quota(path, data):
        if path.name == state.TENSORS and len(state.folders(tmp_path)) >= room:
            path.write_bytes(data[:10])
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        real(path, data)

    monkeypatch.setattr(files, "write_synced", quota)

    def save(step):
        state.save(tmp_path, state.State({"unet/a": torch.ones(3)}, {"step": step}), keep=9)

    for step in (1, 2, 3, 4):
        save(step)
    assert [p.name for p in state.folders(tmp_path)] == ["step-000002", "step-000003", "step-000004"]
    room = 1
    with pytest.raises(OSError, match="Disk quota exceeded"):
        save(5)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000004"]


@contextlib.contextmanager
def files_end_at(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_disk_that_was_full_for_a_while_costs_no_row(tmp_path, whole, caplog):
    """It fills up in the middle of the row of step 5, and has room again from step 8 on."""
    caplog.set_level("INFO")
    full = contextlib.ExitStack()

    def at_step(step):
        if step == 5:
            full.enter_context(files_end_at((tmp_path / "run/metrics.jsonl").stat().st_size + 30))
        if step == 8:
            assert (tmp_path / "run/metrics.jsonl").read_bytes() == b"", "no half row stays"
            full.close()
        return False

    with full:
        assert in_process(tmp_path / "run", at_step).saved == Saved(
            12, 12, {"samples/step-000006.png": "File too large"}
        )
    assert caplog.text.count("metrics.jsonl could not be saved (File too large)") == 1
    assert "The training state of step 6 could not be saved (File too large)" in caplog.text
    assert "metrics.jsonl could be saved again" in caplog.text
    assert_same_run(tmp_path / "run", whole)
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == len(read_metrics(whole / "metrics.jsonl"))


@pytest.mark.parametrize(
    ("saved", "files_of", "good", "line"),
    [
        (Saved(None, 8), "none", True, "Stopped at step 8, state saved; the same command continues from there"),
        (
            Saved(8, 6, {"the training state": "why"}),
            "model",
            False,
            "Stopped at step 8, but the training state could not be saved (why). The model in {0} is that of step 8. "
            "The newest training state is that of step 6, from which the same command continues",
        ),
        (
            Saved(None, None, {"the training state": "why", "the model": "why"}),
            "none",
            False,
            "Stopped at step 8, but the training state could not be saved (why). There is no model in {0}. "
            "There is no training state: the same command starts again",
        ),
    ],
)
def test_the_end_of_an_interrupted_run_says_what_is_there(tmp_path, saved, files_of, good, line):
    if files_of == "model":
        (tmp_path / "unet").mkdir()
        for name in ("model_index.json", "unet/diffusion_pytorch_model.safetensors"):
            (tmp_path / name).touch()
    assert outcome.of_interrupted(tmp_path, Progress(8, stopped="interrupted", saved=saved)) == (
        good,
        line.format(tmp_path),
    )


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=f"^--output_dir {tmp_path}/file/run: {tmp_path}/file is a file, not a folder$"
    ):
        in_process(tmp_path / "file/run")
    in_process(tmp_path / "run", should_stop=lambda step: step >= 6)
    with (
        files_end_at(10),
        pytest.raises(ValueError, match=f"^--output_dir {tmp_path}/run cannot be written to: File too"),
    ):
        in_process(tmp_path / "run")
    assert in_process(tmp_path / "run").stopped == "finished", "and nothing was lost"


@pytest.mark.slow
def test_the_model_of_a_finished_run_comes_back(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/unet")
    assert in_process(tmp_path / "run").stopped == "finished before, the model is saved now"
    assert_same_run(tmp_path / "run", whole)


# ----------------------------------------------------------------------------------------------------- metrics.jsonl

ROWS = [{"kind": "train", "step": step, "loss": 1 / step} for step in range(1, 9)]
LINES = [json.dumps(row).encode() for row in ROWS]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"\n".join([*LINES[:3], LINES[3][:20], *LINES[4:], b""]), [1, 2, 3, 5, 6, 7, 8]),
        (b"\n".join([*LINES[:3], LINES[3][:20] + LINES[4], *LINES[5:], b""]), [1, 2, 3, 5, 6, 7, 8]),
        (b"\n".join([*LINES[:7], LINES[7][:20]]), [1, 2, 3, 4, 5, 6, 7]),
        (b"\n".join([*LINES[:4], b"\0" * 100, b"\xff\xfe{", b"[" * 100_000, *LINES[4:], b""]), list(range(1, 9))),
    ],
)
def test_a_torn_line_costs_that_line_alone(tmp_path, caplog, content, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    assert [row["step"] for row in read_metrics(path)] == kept
    assert len(caplog.records) == 1
    assert f"{path}: " in caplog.text
    metrics = MetricsLog(path, resumed_step=9)
    metrics.append({"kind": "train", "step": 10})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [*kept, 10]


def test_half_a_row_is_ended_before_the_next_and_a_lost_file_is_written_again(tmp_path):
    path = tmp_path / "run/metrics.jsonl"
    metrics = MetricsLog(path)
    metrics.append(ROWS[0])
    with open(path, "ab") as file:
        file.write(LINES[1][:15])
    metrics.append(ROWS[1])
    shutil.rmtree(path.parent)
    metrics.append(ROWS[2])
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_resuming_keeps_the_rows_around_a_torn_line(tmp_path, whole, caplog):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 8, logging_steps=1)
    path = tmp_path / "run/metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2][:40] + "\n", *lines[3:]]))
    in_process(tmp_path / "run", logging_steps=1)
    assert "line 3 is not JSON and skipped" in caplog.text
    assert [row["step"] for row in read_metrics(path) if row["kind"] == "train"] == [1, 2, *range(4, 13)]


# --------------------------------------------------------------------------------------------- a model without states


def without_states(folder):
    shutil.rmtree(folder / "checkpoints")


def with_empty_checkpoints(folder):
    for path in state.folders(folder / "checkpoints"):
        shutil.rmtree(path)


def downloaded(folder):
    """A model of somebody else."""
    without_states(folder)
    for name in ("train_config.json", "metrics.jsonl"):
        (folder / name).unlink()


def flat(folder):
    """As old checkpoints lie."""
    downloaded(folder)
    for path in (folder / "unet").iterdir():
        path.rename(folder / path.name)
    for name in ("unet", "scheduler"):
        shutil.rmtree(folder / name)
    (folder / "model_index.json").unlink()


@pytest.mark.parametrize("change", [without_states, with_empty_checkpoints, downloaded, flat])
def test_a_model_without_states_is_not_trained_over(tmp_path, whole, change):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    change(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(
        ValueError, match=r"holds a model \(.*--init_from .* and another --output_dir .* --resume_from_checkpoint none"
    ) as refusal:
        in_process(folder, dataset_name="digits", max_train_steps=3)
    assert "\n" not in str(refusal.value)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert in_process(folder, max_train_steps=3, resume_from_checkpoint="none").stopped == "finished"
    assert state.load_latest(folder / "checkpoints").meta["step"] == 3


def test_a_folder_is_refused_before_the_images_are_prepared(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    without_states(tmp_path / "run")
    with pytest.raises(ValueError, match="holds a model"):
        in_process(tmp_path / "run", dataset_name="./nowhere")


@pytest.mark.slow
def test_a_run_that_another_one_overtakes_changes_nothing(tmp_path, whole):
    """Two start at the same moment; the other one has trained before this one has prepared its network."""

    def build(**options):
        done = launch(*command(tmp_path / "run"))
        assert done.returncode == 0, done.stderr
        return build_unet(**options)

    assert in_process(tmp_path / "run", build=build).stopped == "finished before, nothing changed"
    assert_same_run(tmp_path / "run", whole)
