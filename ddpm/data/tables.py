"""Datasets that the `datasets` library reads: parquet and other tables in a folder, or a dataset on the Hub."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ddpm.data.cache import prepared_commits
from ddpm.data.cells import what_lies_at
from ddpm.data.columns import LOOKED_AT, SMALLEST, images_in_columns
from ddpm.data.decoding import Encoded
from ddpm.data.groups import as_group, base_of, by_code_points
from ddpm.data.listing import File
from ddpm.data.options import DataOptions
from ddpm.data.splits import EVAL_SPLITS, OTHER_SPLITS, TRAIN_SPLITS, words_in
from ddpm.data.wording import listed, shown
from ddpm.errors import first_line

log = logging.getLogger(__name__)

READERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset", ".csv": "csv"}  # of `datasets`
READERS |= {".json": "json", ".jsonl": "json", ".tsv": "csv"}
NOT_PLAIN = "the datasets library takes neither '::' nor names that are not UTF-8 in the path of a table; rename it"
PIXEL = re.compile(r"(?:pixel|px|p|x|v|f)?_?\d+(?:x\d+)?", re.IGNORECASE)  # as in MNIST's copies in .csv
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.\w+)")
NO_SPLIT = ("data", "part", "shard", *TRAIN_SPLITS)  # what comes before the numbers of shards is else a split


def hub_commit(options: DataOptions, near: str = "") -> str:
    """The commit of a dataset on the Hub; if the Hub is unreachable, the commit that was prepared last.

    Args:
        near: what to say about folders with nearly this name, if the dataset cannot be found.
    Raises:
        ValueError: there is no such dataset, or the Hub is unreachable and nothing was prepared before.
    """
    from huggingface_hub import HfApi

    name = options.dataset_name
    try:
        commit = HfApi().dataset_info(name, revision=options.revision, timeout=20).sha
        if commit:
            return commit
        raise ValueError("its answer names no commit")
    except Exception as error:  # connection, HTTP, offline, malformed answers: the exceptions have no common base
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403, 404) or type(error).__name__ in ("RepositoryNotFoundError", "RevisionNotFoundError"):
            at = f" at revision {options.revision!r}" if options.revision else ""
            raise ValueError(
                f"dataset {name!r}{at}: no such folder{near}, and not on the Hub, or not for this login; "
                "check the name, `hf auth login` for a private one, or give a local folder"
            ) from None
        known = prepared_commits(options)
        if not known:
            raise ValueError(
                f"dataset {name!r}: no such folder{near}, and the Hub cannot be reached ({first_line(error)})"
            ) from None
        log.warning("The Hub cannot be reached; using %s as prepared earlier, at commit %s", name, known[-1])
        return known[-1]


def load_tables(options: DataOptions, source: dict[str, Any], files: list[File] | None = None) -> dict[str, Any]:
    """The splits of a dataset, as the `datasets` library loads them.

    Args:
        files: read only those of these files of a folder that end like the first one, because `datasets` would choose
            between tables and pictures by their number. Default: whatever it chooses.
    Raises:
        ValueError: the dataset cannot be read.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what goes wrong is an exception, too
    files = files and _whole([file for file in files if file.ending == files[0].ending], options)
    try:
        if source["kind"] == "folder":
            # Streaming reads the files in place; otherwise `datasets` would first copy them into its own cache.
            if files and not options.dataset_config_name:
                ending, loaded = files[0].ending, {}
                more: dict[str, Any] = {"sep": "\t"} if ending == ".tsv" else {}
                for split, paths in _by_split(files).items():  # by itself, because its columns may differ
                    loaded |= datasets.load_dataset(READERS[ending], data_files={split: paths}, streaming=True, **more)
            elif not _is_plain(source["path"]):
                raise ValueError(f"{shown(source['path'])}: {NOT_PLAIN}")
            else:
                loaded = datasets.load_dataset(source["path"], options.dataset_config_name, streaming=True)
        else:
            loaded = datasets.load_dataset(source["id"], options.dataset_config_name, revision=source["commit"])
    except Exception as error:  # `datasets` raises whatever its readers raise
        raise ValueError(f"dataset {options.dataset_name!r} cannot be read: {first_line(error)}") from error
    assert isinstance(loaded, dict), "several splits, since none was asked for"
    return {str(name): split for name, split in loaded.items()}


def _by_split(files: list[File]) -> dict[str, list[str]]:
    """Patterns of the paths of tables by split, which is a word in the name of the file or of a folder, or what comes
    before the numbers of a shard ("extra-00000-of-00002.parquet"), as `datasets` names splits."""
    found: dict[str, list[str]] = {}
    for file in files:
        if not _is_plain(file.path):
            raise ValueError(f"{shown(file.path)}: {NOT_PLAIN}")
        words = [word for part in reversed(file.parts) for word in words_in(part)]
        split = next((word for word in words if word in ("train", *EVAL_SPLITS, *OTHER_SPLITS)), None)
        shard = SHARD.fullmatch(file.name)
        split = split or (shard[1] if shard and shard[1].lower() not in NO_SPLIT else "train")
        found.setdefault(split, []).append(glob.escape(file.path))
    return found


def _is_plain(path: str) -> bool:
    """Whether the `datasets` library can read from a path: "::" separates two addresses there, and it encodes paths."""
    try:
        return "::" not in path and bool(path.encode())
    except UnicodeEncodeError:
        return False


def _whole(files: list[File], options: DataOptions) -> list[File]:
    """The tables that hold rows, of one kind.

    Raises:
        ValueError: one of them is cut off, or is something else; the message names it.
    """
    import pyarrow.parquet

    full = []
    for file in files:
        try:
            if file.ending == ".tar":
                _read_to_the_end(file)
            with open(file.path, "rb") as opened:
                rows = pyarrow.parquet.read_metadata(opened).num_rows if file.ending == ".parquet" else file.size
        except (OSError, ValueError, tarfile.TarError, EOFError) as error:
            what = what_lies_at(file.path)
            reason = "it is empty" if not file.size else f"it is {what}" if what else first_line(error)
            raise ValueError(
                f"dataset {options.dataset_name!r} cannot be read: {shown(file.parts)}: {reason}"
            ) from None
        full += [file] * bool(rows)
    if not full:
        raise ValueError(f"dataset {options.dataset_name!r}: no rows in {listed(shown(f.parts) for f in files)}")
    return full


def _read_to_the_end(tar: File) -> None:
    """Raise a TarError if a tar archive is cut off or damaged. `tarfile` ends in silence where a header is."""
    with open(tar.path, "rb") as file:
        compressed = file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))
    mode: Any = "r:*" if compressed else "r:"  # to try every compression makes a message of many lines
    with tarfile.open(os.fsencode(tar.path), mode) as opened:
        for _ in opened:
            # Of a million pictures they would fill the memory.
            opened.members = []  # pyright: ignore[reportAttributeAccessIssue] - typeshed does not know it
        assert opened.fileobj, "it is open"
        opened.fileobj.seek(max(0, opened.offset - 1))
        end = opened.fileobj.read(1 + tarfile.BLOCKSIZE)  # a byte of what was read; then zeros, or nothing
        if (opened.offset and not end) or any(end[1:]) or 1 < len(end) <= tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it is cut off or damaged, for its end is missing")
        if opened.offset and len(end) == 1:
            log.warning("%s ends without the mark of an end; if it is cut off, images are missing", shown(tar.parts))


def missing_shards(files: Iterable[File]) -> list[str]:
    """The names of files that are missing, since others beside them say that there are so many."""
    found: dict[tuple[str, int, str], set[int]] = {}
    for file in files:
        if match := SHARD.fullmatch("/".join(file.parts)):
            found.setdefault((match[1], int(match[3]), match[4]), set()).add(int(match[2]))
    return [
        f"{start}-{number:05d}-of-{total:05d}{ending}"
        for (start, total, ending), there in found.items()
        for number in range(min(total, 10_000))
        if number not in there
    ]


@contextlib.contextmanager
def reading(options: DataOptions) -> Iterator[None]:
    """Turn what the `datasets` library raises while a table is read into one line.

    Raises:
        ValueError: that line.
    """
    try:
        yield
    except Exception as error:
        if type(error) is ValueError and str(error).startswith(("dataset ", "--")):
            raise  # it is our own
        different = type(error).__name__ == "CastError"  # whose message has many lines
        reason = "its tables have different columns" if different else first_line(error)
        raise ValueError(f"dataset {options.dataset_name!r} cannot be read: {reason}") from error


def image_column(dataset, options: DataOptions, beside_pictures: bool = False) -> str:
    """The name of the column that holds the images.

    Args:
        beside_pictures: the table lies beside pictures, so that only what is named like images may be lists of numbers.
    Raises:
        ValueError: there is no such column, or there are several and `options` name none.
    """
    import datasets

    features = dataset.features or {}
    columns = list(features) or list(next(iter(dataset.take(1)), {}))
    if options.image_column:
        if options.image_column not in columns:
            raise ValueError(f"--image_column {options.image_column!r}: the columns are {listed(columns)}")
        return options.image_column
    images = [name for name in columns if isinstance(features.get(name), datasets.Image)]
    # Parquet files that were written without the Hub's metadata still hold {"bytes", "path"} records.
    images = images or [name for name in columns if isinstance(features.get(name), dict) and "bytes" in features[name]]
    reason = None
    if not images:
        images, reason = images_in_columns(dataset, columns, only_named=beside_pictures)
    if len(images) == 1:
        return images[0]
    if reason and not images:
        raise ValueError(f"dataset {options.dataset_name!r}: {reason}")
    pixels = [name for name in columns if PIXEL.fullmatch(name)]
    if not images and len(pixels) >= SMALLEST**2:
        raise ValueError(
            f"dataset {options.dataset_name!r} has a column for each pixel: its columns are {listed(columns)}; store "
            "the pixels as an array of uint8 of shape (N, H, W) or (N, H, W, 3) in a .npy file, or as one list a row"
        )
    problem = f"more than one image column ({listed(images)})" if images else "no image column"
    raise ValueError(
        f"dataset {options.dataset_name!r} has {problem}; its columns are {listed(columns)}: pass --image_column"
    )


def label_columns(dataset, options: DataOptions) -> list[str]:
    """The columns that may hold the labels, the likeliest first: the one that `options` name, or those of class labels,
    or those that are called so and hold whole numbers, and then those that are called so and hold text.

    Raises:
        ValueError: there is no column of the name in `options`, or it holds images.
    """
    import datasets

    features = dataset.features or {}
    if options.label_column:
        columns = list(features) or list(next(iter(dataset.take(1)), {}))
        holds_images = isinstance(features.get(options.label_column), datasets.Image)
        if options.label_column not in columns or holds_images:
            why = "it holds images; " if holds_images else ""
            raise ValueError(f"--label_column {options.label_column!r}: {why}the columns are {listed(columns)}")
        return [options.label_column]
    typed = [c for c, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    dtypes = {name: str(getattr(features.get(name), "dtype", "")) for name in ("label", "labels")}
    numbers = [name for name, dtype in dtypes.items() if dtype.lstrip("u").startswith("int") and dtype != "uint64"]
    texts = [name for name, dtype in dtypes.items() if dtype in ("string", "large_string", "bool")]
    return list(dict.fromkeys(typed + numbers + texts))


def groups_of(dataset, column: str, options: DataOptions) -> Callable[[], list[str | None] | None]:
    """How to find the group of each row: by the column that `options` name, or by the names of files.

    Args:
        column: that of the images.
    Returns:
        a function, because it takes a pass over the table; its result is None if there are no groups.
    Raises:
        ValueError: there is no column of the name in `options`, or it holds the images.
    """
    import datasets

    if wanted := options.group_column:
        columns = list(dataset.features or {}) or list(next(iter(dataset.take(1)), {}))
        if wanted not in columns or wanted == column:
            why = "it holds the images; " if wanted == column else ""
            raise ValueError(f"--group_column {wanted!r}: {why}the columns are {listed(columns)}")
        return lambda: [as_group(row[wanted]) for row in dataset.select_columns([wanted])]
    if not isinstance((dataset.features or {}).get(column), datasets.Image):
        return lambda: None
    encoded = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def by_name() -> list[str | None] | None:
        first = [row[column] for row in encoded.take(LOOKED_AT)]  # only names of emoji are worth a pass over all rows
        if not all(cell and cell["path"] and base_of(cell["path"]) for cell in first):
            return None
        return by_code_points(row[column] and row[column]["path"] for row in encoded)

    return by_name


def label_names(dataset, column: str | None) -> dict[int, str]:
    """What the labels of a column are called, if the dataset says so."""
    kind = (dataset.features or {}).get(column)
    return dict(enumerate(map(str, getattr(kind, "names", None) or ())))


def rows_of(dataset, column: str, label: str | None, options: DataOptions) -> Iterator[tuple[Encoded, Any]]:
    """The encoded image and the label of each row, in order; the labels as the table has them.

    Raises:
        ValueError: a row cannot be read.
    """
    import datasets

    with reading(options):
        if isinstance((dataset.features or {}).get(column), datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
        rows = iter(dataset.select_columns([column, label] if label else [column]))
    while True:
        with reading(options):
            row = next(rows, None)
        if row is None:
            return
        yield row[column], row.get(label)
