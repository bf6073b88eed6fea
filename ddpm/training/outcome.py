"""What a training left on the disk, in one line for its end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from ddpm.config import TrainConfig
from ddpm.training import state
from ddpm.training.folder import has_model
from ddpm.training.recorder import Progress


def of_finished(directory: Path, progress: Progress) -> tuple[bool, str]:
    """Whether the model of a run that went to its end is on the disk, and the line that says what is there.

    Args:
        progress: the last one of the main process; the run was not interrupted.
    """
    saved, step = progress.saved, progress.step
    reason = "the time limit is reached" if progress.stopped == "time" else progress.stopped
    if saved.model_step != step or not has_model(directory):
        why = saved.missing.get("the model", "its files are gone")
        line = f"{reason} at step {step}, but the model could not be saved ({why})"
        return False, f"{line}. {_model(directory, progress)}. {_state(directory, progress)}"
    line = f"{reason}: step {step}, in {directory}"
    if saved.missing:
        line += "; not saved there: " + _listed(saved.missing)
    if saved.state_step != step:
        return True, f"{line}. {_state(directory, progress)}"
    return True, f"{line}. To draw pictures: python -m ddpm.sample {shlex.quote(str(directory))}"


def of_interrupted(directory: Path, progress: Progress) -> tuple[bool, str]:
    """Whether the training state of an interrupted run is on the disk, and the line that says what is there."""
    saved, step = progress.saved, progress.step
    if saved.state_step == step:
        return True, f"Stopped at step {step}, state saved; the same command continues from there"
    why = saved.missing.get("the training state", "its files are gone")
    line = f"Stopped at step {step}, but the training state could not be saved ({why})"
    return False, f"{line}. {_model(directory, progress)}. {_state(directory, progress)}"


def of_ended_at_once(config: TrainConfig) -> str:
    """What a run that saved no state at its end can go on from, in one line."""
    found = state.folders(config.directory / "checkpoints")
    if not found:
        return _without_state(config.directory)
    newest = f"The newest training state is that of step {state.step_of(found[-1])}"
    if config.resume_from_checkpoint == "latest":
        return f"{newest}, from which the same command continues"
    return f"{newest}; with --resume_from_checkpoint latest, the command continues from there"


def _listed(missing: Mapping[str, str]) -> str:
    """What could not be written, and why; of many files the first three."""
    words = [f"{what} ({why})" for what, why in missing.items()]
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def _model(directory: Path, progress: Progress) -> str:
    if not has_model(directory):
        return f"There is no model in {directory}"
    if progress.saved.model_step is None:
        return f"The model in {directory} is an earlier one"
    return f"The model in {directory} is that of step {progress.saved.model_step}"


def _state(directory: Path, progress: Progress) -> str:
    step = progress.saved.state_step
    if step is None:
        return _without_state(directory)
    if step == progress.step:
        return "The training state is there: once there is space, the same command saves the model"
    return f"The newest training state is that of step {step}, from which the same command continues"


def _without_state(directory: Path) -> str:
    if has_model(directory):
        return "There is no training state: --resume_from_checkpoint none starts again and replaces the model"
    return "There is no training state: the same command starts again"
