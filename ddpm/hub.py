"""Push and pull checkpoints, and the card that goes with them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, load
from .config import PRESETS, preset, reference_val_loss
from .errors import first_line

REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
# What a pull reads and a push sends: never training state, caches or other people's pickles.
PULLED = ["*.json", "*.md", "metrics.jsonl", "unet/*.safetensors"]
PUSHED = [
    "model_index.json",
    "unet/*",
    "scheduler/*",
    "README.md",
    "train_config.json",
    "metrics.jsonl",
    "*.png",
    "samples/*.png",
]


def pull(id_or_dir: str | os.PathLike, revision: str | None = None) -> Checkpoint:
    """A checkpoint from a directory or the Hub.

    Raises:
        ValueError: in one line why it cannot be had or is refused.
    """
    path = Path(id_or_dir).expanduser()
    if path.is_dir():
        return load(path)
    name = str(id_or_dir)
    if not REPO_ID.fullmatch(name):
        raise ValueError(f"model {name!r}: no such directory, and no name of a Hub repository like user/name")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=PULLED, etag_timeout=20))
    except Exception as error:  # the client's exceptions have no common base
        at = f" at {revision!r}" if revision else ""
        raise ValueError(f"model {name!r}{at} cannot be pulled: {first_line(error)}") from error
    return load(folder, name, revision=folder.name)


def check_login() -> str:
    """The name that the token of HF_TOKEN or the stored login belongs to.

    Raises:
        ValueError: there is no valid token, or the Hub cannot be reached, before hours of training are at stake.
    """
    from huggingface_hub import HfApi

    try:
        return HfApi().whoami()["name"]
    except Exception as error:
        raise ValueError(f"--push_to_hub: {first_line(error)}; log in with `hf auth login` or set HF_TOKEN") from None


def push(directory: Path, repo_id: str | None = None, private: bool = False) -> str:
    """Upload a model directory and return its address.

    Args:
        repo_id: <user>/<name>, or a name of the logged-in user's; default: the directory's name.
    Raises:
        ValueError: it did not work; says the command that does it later. Nothing on disk is changed.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        repo = api.create_repo(repo_id or directory.resolve().name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo.repo_id, folder_path=directory, allow_patterns=PUSHED, commit_message="Add model"
        )
    except Exception as error:
        name = repo_id or directory.resolve().name
        later = f"hf upload {name} {directory} . --exclude 'checkpoints/*' --exclude 'logs/*'"
        raise ValueError(f"not pushed ({first_line(error)}); the files are in {directory}. Later: {later}") from error
    return str(repo)


def model_card(directory: Path, settings: dict[str, Any], rows: list[dict[str, Any]], unet) -> str:
    """README.md of a model directory: what it is, how good, how made, how to use it.

    Args:
        settings: what train_config.json holds.
        rows: of metrics.jsonl.
    """
    from huggingface_hub import ModelCardData

    options, images, machine = settings["options"], settings["data"], settings["machine"]
    dataset = options["dataset_name"]
    if reference_val_loss(options["preset"], images["fingerprint"]) is not None:
        dataset = PRESETS[options["preset"]]["dataset_name"]  # the preset's own data, read from a folder
    on_hub = bool(REPO_ID.fullmatch(dataset)) and not Path(dataset).exists()
    public = dataset if on_hub or dataset == "digits" else None  # not the path of a folder on somebody's machine
    front = ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        license="apache-2.0",
        tags=["ddpm", "diffusion", "unconditional-image-generation"],
        datasets=[dataset] if on_hub else None,
    )
    target = {"epsilon": "the noise", "sample": "x_0", "v_prediction": "v"}[options["prediction_type"]]
    averaged = options["ema_half_life_images"] > 0
    weights = "The weights are exponential moving averages." if averaged else "The weights are not averaged."
    validation = [row for row in rows if row["kind"] == "validation"]
    train = [row for row in rows if row["kind"] == "train"]
    size = f"{images['resolution']}x{images['resolution']}x{images['channels']}"
    samples = sorted((directory / "samples").glob("step-*.png"))
    lines = [
        f"---\n{front}\n---\n",
        f"# {directory.resolve().name}: a DDPM for {public or 'images'} at {size}\n",
        f"A denoising diffusion probabilistic model (Ho et al. 2020): a UNet that predicts {target} from x_t, trained "
        f"with the mean squared error (L_simple for the noise). {weights}\n",
    ]
    if samples:
        lines.append(f"![samples](samples/{samples[-1].name})\n")
    lines.append("| | |\n|---|---|")
    if validation:
        last = validation[-1]
        lines += [
            f"| epsilon-MSE, held out | {last['val_loss_ema']:.4f} averaged weights, {last['val_loss']:.4f} raw |",
            f"| trained | {last['step']:,} steps, {last['images']:,} images |",
        ]
    if train:
        speeds = sorted(row["images_per_second"] for row in train)
        lines.append(f"| speed | {speeds[len(speeds) // 2]:.0f} images/s (median) on {machine['processor']}, "
                     f"{machine['processes']} process(es), {machine['threads']} threads |")  # fmt: skip
    lines += [
        f"| network | UNet2DModel, {sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters, "
        f"widths {tuple(options['block_out_channels'])}, {options['layers_per_block']} block(s) a level |",
        f"| diffusion | T = {options['num_train_timesteps']}, {options['beta_schedule']} betas, predicts "
        f"{options['prediction_type']}, {options['variance_type']} |",
        f"| data | {images['num_train']:,} training and {images['num_eval']:,} held-out images, fingerprint "
        f"`{images['fingerprint'][:16]}` |",
        "| every setting | `train_config.json` |\n",
        "## Use\n",
        "```python\nfrom diffusers import DDPMPipeline\n\n"
        f'pipeline = DDPMPipeline.from_pretrained("{directory.resolve().name}")  # this folder, or its id on the Hub\n'
        "images = pipeline(batch_size=16, num_inference_steps=1000).images\n```\n",
        "## Train\n",
        f"```\n{command(options | {'dataset_name': dataset}, public)}\n```\n",
    ]
    if (directory / "training.png").is_file():
        lines.append("![loss](training.png)\n")
    if (directory / "strip.png").is_file():
        lines.append("![one reverse trajectory: x_t over the network's guess of x_0](strip.png)\n")
    lines.append(
        "## Limits\n\nA small model for learning how diffusion works. It draws what its training images look like and "
        "nothing else, and was not measured for any other use.\n"
    )
    return "\n".join(lines)


def command(options: dict[str, Any], dataset: str | None) -> str:
    """The command line that trains with these options: the preset, and what differs from it."""
    defaults = preset(options["preset"]).to_json()
    words = ["accelerate launch train.py", f"--preset {options['preset']}"]
    if not dataset:
        words.append("--dataset_name <folder of your images>")
    machine_only = ("preset", "output_dir", "resume_from_checkpoint", "num_cpu_threads", "push_to_hub", "hub_model_id")
    for name, value in options.items():
        value = list(value) if isinstance(value, tuple) else value
        default = list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name]
        if value == default or name in machine_only or (name == "dataset_name" and not dataset):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no_{name}")
        else:
            words.append(f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(words)
