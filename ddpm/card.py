"""The model card: README.md of a model directory, written from its settings and metrics."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from .config import PRESETS, preset, reference_val_loss
from .metrics import read_metrics

REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
MARK = (
    "<!-- Written by the code, and written anew after training, evaluation and push. To edit it, remove this line. -->"
)
# Options that say where a run took place, not what it was.
OF_THE_PLACE = (
    "preset output_dir resume_from_checkpoint num_cpu_threads report_to push_to_hub hub_model_id hub_private_repo"
).split()


def write(directory: Path, repo_id: str | None = None) -> None:
    """Write README.md anew from what lies in a model directory, unless somebody has made it their own.

    Does nothing for models that train.py did not write.

    Args:
        repo_id: <user>/<name> on the Hub, for the commands in the card.
    """
    path, weights = directory / "README.md", directory / "unet/diffusion_pytorch_model.safetensors"
    own_words = path.is_file() and MARK not in path.read_text(encoding="utf-8")
    if own_words or not (directory / "train_config.json").is_file() or not weights.is_file():
        return
    settings = json.loads((directory / "train_config.json").read_text(encoding="utf-8"))
    rows = read_metrics(directory / "metrics.jsonl")
    text = model_card(directory, settings, rows, _num_parameters(weights), repo_id)
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _num_parameters(weights: Path) -> int:
    """From the header of a safetensors file, which comes first: eight bytes of length, then JSON."""
    with open(weights, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def model_card(
    directory: Path,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    num_parameters: int,
    repo_id: str | None = None,
) -> str:
    """README.md of a model directory: what it is, how good, how made, how to use it, what it is not good for.

    Args:
        settings: what train_config.json holds.
        rows: of metrics.jsonl.
        repo_id: <user>/<name> on the Hub; default: hub_model_id of the settings, else the card speaks of a folder.
    """
    options, images = settings["options"], settings["data"]
    if not repo_id and REPO_ID.fullmatch(options.get("hub_model_id") or ""):
        repo_id = options["hub_model_id"]
    name = repo_id.split("/")[1] if repo_id else directory.resolve().name
    data = _dataset(options, images["fingerprint"])
    validation, evaluation = _last(rows)
    pixels = f"{images['resolution']}x{images['resolution']}x{images['channels']}"
    target = {"epsilon": "the noise", "sample": "x_0", "v_prediction": "v"}[options["prediction_type"]]
    averaged = "exponential moving averages" if options["ema_half_life_images"] > 0 else "not averaged"
    samples = sorted((directory / "samples").glob("step-*.png"))
    parts = [
        f"---\n{_front(name, data, rows)}\n---",
        MARK,
        f"# {name}: a DDPM for {data or 'images'} at {pixels}",
        f"A denoising diffusion probabilistic model ([Ho et al. 2020](https://arxiv.org/abs/2006.11239)): a UNet with "
        f"{num_parameters / 1e6:.2f} M parameters that predicts {target} from x_t at T = "
        f"{options['num_train_timesteps']} noise levels. The weights are {averaged}. It is a plain diffusers "
        "`DDPMPipeline` in safetensors.",
    ]
    if samples:
        parts.append(
            f"![samples of the model](samples/{samples[-1].name})\n\nAncestral samples in {options['sample_steps']} "
            "steps, not selected."
        )
    if (directory / "strip.png").is_file():
        parts.append("![one reverse trajectory: x_t over the network's guess of x_0](strip.png)")
    parts += ["## Measured", _measured(validation, evaluation)]
    if (directory / "training.png").is_file():
        parts.append("![loss against step, and by timestep](training.png)")
    parts += [
        "## Data",
        f"{_link(data)}: {images['num_train']:,} training and {images['num_eval']:,} held-out images, {pixels}, "
        f"fingerprint `{images['fingerprint'][:16]}`. "
        + " ".join(f"{note[:1].upper()}{note[1:]}." for note in images["notes"]),
        "## Network and diffusion",
        f"`UNet2DModel`: widths {' '.join(map(str, options['block_out_channels']))}, {options['layers_per_block']} "
        f"residual block(s) a level, attention in the middle{_levels(options['attention_levels'])}. "
        f"{options['beta_schedule']} betas, T = {options['num_train_timesteps']}, sampling variance "
        f"{options['variance_type']}.",
        _settings(settings, rows, data),
        "## Use",
        _use(directory, repo_id, options),
        "## Train and evaluate",
        _commands(directory, repo_id, options, data, evaluation),
        "## Limits",
        f"A model for learning how diffusion works. It draws {pixels} images like those it was trained on and nothing "
        "else, without labels or prompts to steer it; what its training images lack or overstate, its samples lack or "
        "overstate. It was measured as said above and for no other use.",
    ]
    return "\n\n".join(parts) + "\n"


def _dataset(options: dict[str, Any], fingerprint: str) -> str | None:
    """The data's public name; None for a folder on somebody's machine, whose path is nobody's business."""
    name = options["dataset_name"]
    if reference_val_loss(options["preset"], fingerprint) is not None:
        return PRESETS[options["preset"]]["dataset_name"]  # the preset's own data, read from a folder
    return name if _public(name) else None


def _public(name: str) -> bool:
    return name == "digits" or (bool(REPO_ID.fullmatch(name)) and not Path(name).exists())


def _link(data: str | None) -> str:
    if data is None:
        return "Images of one's own"
    return "scikit-learn's handwritten digits" if data == "digits" else f"[{data}](https://hf.co/datasets/{data})"


def _levels(levels: list[int]) -> str:
    return f" and at level {', '.join(map(str, levels))} (0: full resolution)" if levels else ""


def _last(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last rows of validation and of evaluation; empty where there is none, or none of the weights as they are."""
    found = {
        kind: next((row for row in reversed(rows) if row["kind"] == kind), {}) for kind in ("validation", "evaluation")
    }
    validation, evaluation = found.values()
    trained_on = validation.get("step", 0) > (evaluation.get("step") or 0)
    return validation, {} if trained_on else evaluation


def _front(name: str, data: str | None, rows: list[dict[str, Any]]) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    validation, evaluation = _last(rows)
    measured = {
        "bits_per_dim": ("bits/dim, upper bound", evaluation.get("bits_per_dim")),
        "val_loss": ("epsilon-MSE, held out", evaluation.get("val_loss", validation.get("val_loss_ema"))),
        "frechet_distance": (
            f"Fréchet distance, features of {evaluation.get('feature_network')}",
            evaluation.get("frechet_distance"),
        ),
    }
    about = {
        "task_type": "unconditional-image-generation",
        "task_name": "Unconditional image generation",
        "dataset_type": data or "images",
        "dataset_name": data or "images of one's own",
        "dataset_split": evaluation.get("split"),
    }
    results = [
        EvalResult(metric_type=metric, metric_name=label, metric_value=round(value, 6), **about)
        for metric, (label, value) in measured.items()
        if value is not None
    ]
    card = ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        license="apache-2.0",
        tags=["ddpm", "diffusion", "unconditional-image-generation"],
        datasets=[data] if data and REPO_ID.fullmatch(data) else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return str(card)


def _table(lines: dict[str, object]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in lines.items())])


def _measured(validation: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """What there are figures for, and how they came about."""
    lines: dict[str, object] = {}
    if validation:
        lines["trained"] = f"{validation['step']:,} steps, {validation['images']:,} images"
    if "bits_per_dim" in evaluation:
        error = evaluation.get("bits_per_dim_se")
        held = f"{evaluation['num_images']:,} images" if "num_images" in evaluation else "images"
        lines["bits/dim, upper bound"] = (
            f"**{evaluation['bits_per_dim']:.4f}**{f' ± {error:.4f} (standard error)' if error is not None else ''}, "
            f"{held} of split {evaluation.get('split', 'test')}, variance {evaluation.get('variance_type')}"
        )
        terms = (("prior", "prior_bits"), ("KL terms", "kl_bits_total"), ("reconstruction", "reconstruction_bits"))
        of_bound = [f"{name} {evaluation[key]:.4g}" for name, key in terms if evaluation.get(key) is not None]
        if of_bound:
            lines["of it"] = ", ".join(of_bound)
    if evaluation.get("frechet_distance") is not None:
        drawn = [f"{evaluation['num_samples']:,} samples" if "num_samples" in evaluation else "samples"]
        if "sampler" in evaluation:
            drawn.append(f"{evaluation['sampler']} in {evaluation.get('num_inference_steps')} steps")
        real = evaluation.get("frechet_distance_real")
        floor = f"; real against real images: {real:.3f}" if real is not None else ""
        accuracy = evaluation.get("feature_accuracy")
        network = f"{evaluation.get('feature_network')}{f' (accuracy {accuracy:.4f})' if accuracy else ''}"
        lines["Fréchet distance"] = (
            f"**{evaluation['frechet_distance']:.3f}**, {', '.join(drawn)}{floor}; features of {network}, comparable "
            "only within these features"
        )
    losses = [f"**{evaluation['val_loss']:.4f}**"] if "val_loss" in evaluation else []
    if validation:
        averaged, raw = validation["val_loss_ema"], validation["val_loss"]
        losses.append(f"at the end of training {averaged:.4f} (averaged weights), {raw:.4f} (raw)")
    if losses:
        lines["epsilon-MSE, held out"] = "; ".join([*losses, "predicting no noise gives 1"])
    return _table(lines) if lines else "Nothing yet."


def _settings(settings: dict[str, Any], rows: list[dict[str, Any]], data: str | None) -> str:
    """Every setting, folded away."""
    machine = settings["machine"]
    lines = {f"`{k}`": _shown(v) for k, v in settings["options"].items() if k not in OF_THE_PLACE[1:]}
    lines["`dataset_name`"] = data or "a folder"
    lines["machine"] = f"{machine['processor']}, {machine['processes']} process(es), {machine['threads']} threads"
    speeds = sorted(row["images_per_second"] for row in rows if row["kind"] == "train")
    if speeds:
        lines["speed"] = f"{speeds[len(speeds) // 2]:.0f} images/s (median)"
    lines["versions"] = ", ".join(f"{package} {version}" for package, version in settings["versions"].items())
    return f"<details><summary>Every setting</summary>\n\n{_table(lines)}\n\n</details>"


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return "default" if value is None else str(value)


def _use(directory: Path, repo_id: str | None, options: dict[str, Any]) -> str:
    model = repo_id or _folder(directory)
    where = "" if repo_id else "  # this folder, or its id on the Hub"
    return f"""```python
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("{model}"){where}
images = pipeline(batch_size=16, num_inference_steps={options["num_train_timesteps"]}).images
```

In the page that shows every step of the way, from a checkout of the Space:

```
python app.py --model {model}
```"""


def _folder(directory: Path) -> str:
    """A relative folder as it was given; of an absolute one only the name, for the rest is nobody's business."""
    return directory.name if directory.is_absolute() else directory.as_posix()


def _commands(
    directory: Path, repo_id: str | None, options: dict[str, Any], data: str | None, evaluation: dict[str, Any]
) -> str:
    """How to get the same model and the same figures."""
    evaluate = evaluation.get("command") or f"python -m ddpm.evaluate {repo_id or _folder(directory)}"
    folder = str(evaluation.get("dataset") or options["dataset_name"])
    if not _public(folder):
        evaluate = evaluate.replace(folder, data or "FOLDER")
    return f"```\n{command(options | {'dataset_name': data or 'FOLDER'}, options['preset'])}\n{evaluate}\n```"


def command(options: dict[str, Any], preset_name: str) -> str:
    """The command line that trains with these options: the preset, and what differs from it."""
    defaults = preset(preset_name).to_json()
    words = ["accelerate launch train.py", f"--preset {preset_name}"]
    for name, value in options.items():
        if name in OF_THE_PLACE or value is None or _shown(value) == _shown(defaults.get(name)):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no_{name}")
        else:
            words.append(f"--{name} {_shown(value)}" if value not in ([], ()) else f"--{name}")
    return " ".join(words)
