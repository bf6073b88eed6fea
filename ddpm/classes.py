"""The classes of a class-conditional model: their names, and the vectors by which a network tells them apart.

UNet2DModel adds a vector for the class to the embedding of t, and nothing else in it depends on the class. The
embedding's last layer is linear. So the vector of "no label" can be added to the bias of that layer once and for all,
which leaves a network that needs no label; what remains of every class is the difference between its vector and that of
"no label". A checkpoint holds that network as a plain DDPMPipeline, and the differences in a file of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from diffusers import UNet2DModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddpm.class_names import FILES, NAMES, VECTORS, Named, shortened
from ddpm.errors import first_line
from ddpm.files import write_text
from ddpm.names import counted, distinct, is_name

TENSOR, DIGEST = "class_embedding", "time_embedding_sha256"
MAX_CLASSES = 10_000


@dataclass(frozen=True, eq=False)
class Classes(Named):
    """The classes that a network knows.

    Attributes:
        names: of the K classes, all different.
        vectors: (K, D) float32 on the CPU, what is added to the embedding of t for each class; D is `width_of` the
            network. For "no label", nothing is added.
        unlabelled: the name of the class that the network draws where no label is asked for, because it was trained
            with labels only; None for a network that knows "no label".
    """

    names: tuple[str, ...]
    vectors: Tensor
    unlabelled: str | None = None

    def with_none(self, device: torch.device | str = "cpu") -> Tensor:
        """(K + 1, D): the vectors, and zeros for "no label" in the last row, which index -1 finds."""
        return torch.cat([self.vectors, torch.zeros(1, self.vectors.shape[1])]).to(device)


def fold(unet: UNet2DModel, base: int = -1) -> tuple[UNet2DModel, Tensor]:
    """A network with a table of class vectors, as a network without one and the differences between the vectors.

    The results are the same up to rounding: the vector that is folded in is added to a bias in float64.

    Args:
        unet: with `num_class_embeds` set; it is not changed.
        base: the row of the table that is folded in; the last is "no label" in networks that this program trains.
    Returns:
        The network without the table, in eval mode, whose answer is that for class `base`; and (K, D) float32, the
        other rows less that row, in order.
    """
    weights = {name: value.detach() for name, value in unet.state_dict().items()}
    table, bias = weights.pop("class_embedding.weight").double(), "time_embedding.linear_2.bias"
    weights[bias] = (weights[bias].double() + table[base]).to(weights[bias].dtype)
    others = [row for row in range(len(table)) if row != base % len(table)]
    folded = _with(unet, weights, num_class_embeds=None, class_embed_type=None)
    return folded, (table[others] - table[base]).float().cpu()


class Weights(NamedTuple):
    """A network as it is drawn with, measured and exported.

    unet: it takes no labels. classes: the classes that it knows; None for any but a class-conditional network.
    """

    unet: Any
    classes: Classes | None


def separated(unet: Any, names: Sequence[str]) -> Weights:
    """A network that trains here, made by `build_unet`, as it is drawn with; see `fold`.

    Args:
        names: of its classes, if it has some.
    """
    if not getattr(unet, "config", {}).get("num_class_embeds"):
        return Weights(unet, None)
    folded, vectors = fold(unet)
    return Weights(folded, Classes(distinct(names), vectors))


def accepting_vectors(unet: UNet2DModel) -> UNet2DModel:
    """The same network, with the same weights in the same memory, that takes class vectors (B, D) as `class_labels`.

    Diffusers does so with `class_embed_type="identity"`. Vectors of zeros give what the network gives without any.
    """
    return _with(unet, unet.state_dict(), class_embed_type="identity")


def _with(unet: UNet2DModel, weights: Mapping[str, Tensor], **changed: Any) -> UNet2DModel:
    """A network of another configuration that has these weights in place, in eval mode."""
    config = {name: value for name, value in unet.config.items() if not name.startswith("_")}
    with torch.device("meta"):
        made = UNet2DModel(**{**config, **changed})
    made.load_state_dict(weights, assign=True)
    return made.eval().requires_grad_(False)


def is_conditional(unet: Any) -> bool:
    """Whether a network takes class vectors; see `accepting_vectors`."""
    config = getattr(unet, "config", None)
    return bool(config) and config.get("class_embed_type") == "identity"


def width_of(unet: Any) -> int:
    """D, the length of a class vector."""
    return unet.config.get("time_embedding_dim") or 4 * unet.config["block_out_channels"][0]


# ------------------------------------------------------------------------------------------------------------- on disk


def save(directory: Path, classes: Classes, unet: UNet2DModel) -> None:
    """Write the two files.

    Args:
        unet: the network without a table. Its time embedding is noted, so that vectors are never used with the weights
            of another moment.
    Raises:
        OSError, SafetensorError: the disk is full or the folder is not writable.
    """
    write_text(directory / NAMES, json.dumps(list(classes.names), ensure_ascii=False, indent=1) + "\n")
    # One note and no more: their order in the file would be another in every process.
    safetensors.torch.save_file({TENSOR: classes.vectors.contiguous()}, directory / VECTORS, {DIGEST: digest(unet)})


def read(directory: Path, unet: UNet2DModel, full_precision: bool = True) -> Classes | None:
    """The classes of the network in a model directory; None if it has neither of the two files.

    Args:
        unet: the network without a table; on the meta device if its weights are not loaded.
        full_precision: whether its weights are stored in float32, so that they can be told apart from others.
    Raises:
        ValueError: a file is missing, damaged, or does not belong to the network.
    """
    there = [name for name in FILES if (directory / name).is_file()]
    if not there:
        return None
    names = _read_json(directory / NAMES) if NAMES in there else None
    if there == [NAMES] and isinstance(names, dict):
        return None  # somebody's table of names, such as many repositories have; no model of this program writes it
    if len(there) < len(FILES):
        missing = next(name for name in FILES if name not in there)
        raise ValueError(f"there is {there[0]} but no {missing}; a class-conditional model has both")
    names = _checked_names(names)
    vectors, noted = _read_vectors(directory / VECTORS, (len(names), width_of(unet)))
    if noted and not belongs(noted, unet, full_precision):
        raise ValueError(
            f"{VECTORS} belongs to other weights than those in unet/: one of the two was replaced alone, or a process "
            "was killed between the two; save or download the model again"
        )
    return Classes(names, vectors)


def names_in(directory: Path) -> tuple[str, ...] | None:
    """The names in a folder's labels.json; None if there is no such file, or it holds something else."""
    try:
        return _checked_names(_read_json(directory / NAMES)) if (directory / NAMES).is_file() else None
    except ValueError:
        return None


def _read_json(path: Path) -> Any:
    """The content of a JSON file. Raises ValueError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged ({first_line(error)[:200]})") from None


def _checked_names(names: Any) -> tuple[str, ...]:
    """The content of labels.json, if it is a list of names. Raises ValueError."""
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"{NAMES} is no list of 1 to {MAX_CLASSES:,} names")
    if (odd := next((name for name in names if not is_name(name)), None)) is not None or None in names:
        raise ValueError(f"{NAMES}: {shortened(json.dumps(odd))} is no name; names are texts of one line")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{NAMES}: {shortened(twice[0])!r} is there more than once; all names must differ")
    return tuple(names)


def _read_vectors(path: Path, expected: tuple[int, int]) -> tuple[Tensor, str | None]:
    """The vectors in labels.safetensors, float32, and the digest of the weights that they belong to.

    Args:
        expected: their shape.
    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = file.get_slice(TENSOR)
            shape, kind = tuple(stored.get_shape()), stored.get_dtype()
            if shape != expected or kind not in ("F32", "F16", "BF16"):
                raise ValueError(
                    f"{VECTORS} holds numbers of type {kind} and shape {shape}; the {counted(expected[0], 'name')} in "
                    f"{NAMES} and the network need F32 and {expected}"
                )
            vectors, noted = file.get_tensor(TENSOR).float(), (file.metadata() or {}).get(DIGEST)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{VECTORS} is damaged or has no tensor {TENSOR} ({first_line(error)[:200]})") from None
    if not bool(torch.isfinite(vectors).all()):
        raise ValueError(f"{VECTORS} holds NaN or infinity")
    return vectors, noted


def belongs(noted: str, unet: UNet2DModel, full_precision: bool = True) -> bool:
    """Whether a file that noted this digest belongs to these weights; also true where that cannot be told.

    Args:
        unet: on the meta device if its weights are not loaded.
        full_precision: whether they are stored in float32.
    """
    return not full_precision or unet.device.type == "meta" or _is_half(unet) or noted == digest(unet)


def digest(unet: UNet2DModel) -> str:
    """Tells the weights of one moment of a training from those of another."""
    content = hashlib.sha256()
    for tensor in unet.time_embedding.linear_2.parameters():  # weight and bias
        content.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def _is_half(unet: UNet2DModel) -> bool:
    """Whether the weights have been in half precision, so that their digest is no longer that of training."""
    weight = unet.time_embedding.linear_2.weight
    return any(torch.equal(weight.to(half).to(weight.dtype), weight) for half in (torch.float16, torch.bfloat16))
