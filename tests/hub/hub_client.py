"""A process that uses the real huggingface_hub client, for many tests: loading torch and diffusers takes seconds.

The endpoint, the transport and the cache are read when huggingface_hub is imported, so they come in the environment of
this process. It reads JSON lines {"call": ..., "args": {...}} and answers each with {"value"} or {"error", "message"},
and with what was logged and printed meanwhile. Waits between our tries are short by a setting. The client has no setting
for its own, which begin with a second: over all tests they add up to about ten.
"""

import contextlib
import dataclasses
import io
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from unittest import mock

import huggingface_hub.constants
import torch
from accelerate.state import AcceleratorState

import train as trainer
from ddpm import hub
from ddpm.config import preset
from ddpm.hub.background import Pusher
from ddpm.hub.limits import limits


def weights(unet) -> str:
    """Every bit of every weight, in short."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in sorted(unet.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def pull(**args):
    got = hub.pull(**args)
    summary = {name: getattr(got, name) for name in ("name", "revision", "offline", "resolution", "channels")}
    return summary | {
        "classes": got.classes and [list(got.classes.names), got.classes.vectors.double().sum().item()],
        "weights": weights(got.unet),
        "lowest_log_variance": got.lowest_log_variance,
        "betas": got.schedule.beta[[0, -1]].tolist(),
        "t": got.schedule.num_steps,
    }


def check(**args):
    try:
        return hub.check_access(**args)
    except hub.HubError as error:
        return {"message": str(error), "transient": error.transient}


def push(**args):
    return dataclasses.asdict(hub.push(**args))


def plain(model, revision=None):
    """As a stranger loads it."""
    from diffusers import DDPMPipeline

    return weights(DDPMPipeline.from_pretrained(model, revision=revision, use_safetensors=True).unet)


def train(output_dir, wait_for_milestones=False, **options):
    AcceleratorState._reset_state(reset_partial_state=True)
    config = preset(
        "digits", output_dir=Path(output_dir), **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    )
    submit = Pusher.submit

    def submit_and_wait(self, step):
        submit(self, step)
        self.wait(100)

    with mock.patch.object(Pusher, "submit", submit_and_wait if wait_for_milestones else submit):
        return trainer.main(config)


def milestone(directory, whole=True, **args):
    """A milestone, waited for, and then a last push of other weights, or none."""
    pushes, weights = Pusher(Path(directory), **args), Path(directory) / "unet/diffusion_pytorch_model.safetensors"
    pushes.submit(6)
    pushes.wait(60)
    first, other = pushes.pushed_url, bytearray(weights.read_bytes())
    other[-1] ^= 1
    weights.unlink()
    weights.write_bytes(other)
    done = pushes.finish(12) if whole else pushes.abandon()
    return {"first": first, "up": pushes.pushed_url, "done": done}


def pusher(directory, steps, pause_s, **args):
    """Submit now and then, as a training does, until a push has arrived at least; how often one was under way."""
    pushes, step, meanwhile = Pusher(Path(directory), **args), 0, 0
    while step < steps or not (pushes.pushed_url or step == 500):
        (Path(directory) / "metrics.jsonl").write_text(
            json.dumps({"kind": "train", "step": step, "images_per_second": 1})
        )
        pushes.submit(step)
        meanwhile += pushes.busy
        time.sleep(pause_s)
        step += 1
    return {"meanwhile": meanwhile, "done": pushes.finish(step), "steps": step}


def finish(directory, repo_id, step, command, temporary_folder=None, full_disk=False):
    """A last push, by another command than ours, with another folder for temporary files, or with a full disk."""
    pushes = Pusher(Path(directory), repo_id, command=command)
    full = mock.Mock(side_effect=OSError(28, "No space left on device"))
    with (
        mock.patch.object(tempfile, "tempdir", temporary_folder or tempfile.gettempdir()),
        mock.patch.object(tempfile, "TemporaryFile", full) if full_disk else contextlib.nullcontext(),
    ):
        return pushes.finish(step)


def wait(directory, stop_after_s=None, **args):
    """A last push, and how long it took; `stop_after_s` later somebody asks to stop."""
    pushes, began = Pusher(Path(directory), **args), time.monotonic()
    done = pushes.finish(12, lambda: stop_after_s is not None and time.monotonic() > began + stop_after_s)
    return {"done": done, "seconds": time.monotonic() - began}


def answer(line: str) -> dict:
    request = json.loads(line)
    args, settings = request["args"], request["settings"]
    constants, patches = huggingface_hub.constants, contextlib.ExitStack()
    patches.enter_context(mock.patch.dict(os.environ))
    for name, value in settings.pop("env", {}).items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    patches.enter_context(mock.patch.object(constants, "HF_HUB_CACHE", settings.pop("cache", constants.HF_HUB_CACHE)))
    patches.enter_context(mock.patch.object(constants, "HF_HUB_OFFLINE", settings.pop("offline", False)))
    for name, value in settings.items():
        patches.enter_context(mock.patch.object(limits, name, value))
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    try:
        with patches, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                result = {"value": globals()[request["call"]](**args)}
            except Exception as error:
                result = {"error": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    finally:
        logging.getLogger().removeHandler(handler)
    return result | {"said": said.getvalue()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger().setLevel(logging.INFO)
    limits.first_wait_s = 0.02
    answers, sys.stdout = sys.stdout, sys.stderr
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line)), file=answers, flush=True)
