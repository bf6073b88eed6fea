"""Labels of pictures from the tables that people keep beside them.

These are read: EDM's and StyleGAN's dataset.json, metadata.csv and metadata.jsonl, emoji.json of the packages
emoji-datasource-*, and any .csv or .tsv with a column of files and a column of labels, or one of 0 and 1 for each
class. They may name files with or without their ending, relative to the table or to the root, by their last part alone,
or by the path that they have on another machine.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddpm.data.archives import read
from ddpm.data.listing import ENDING, File
from ddpm.data.references import Index
from ddpm.data.splits import looks_like_split, words_in
from ddpm.data.wording import listed, readable, shown
from ddpm.names import counted

LABEL_COLUMNS = (
    "label labels class classes class_id class_name classname class_label category category_id category_name target y "
    "species breed diagnosis"
).split()
TEXT_COLUMNS = ("text", "caption", "captions", "prompt", "description", "title", "url", "additional_feature")
SPLIT_WORDS = {"split", "splits", "fold", "folds", "subset", "partition", "usage"}  # in names of columns of splits
SAMPLE = 200  # rows that decide which column is which
EMOJI_TABLE = "emoji.json"  # whose name is the same in all packages of emoji
MAX_TABLE = 1 << 29  # bytes; a larger file is no table of labels

UNFIT = (ValueError, OSError, LookupError, TypeError, AttributeError, RecursionError, csv.Error)
"""What reading raises of some other kind of table."""


@dataclass(frozen=True)
class _Rows:
    """What a table says about files.

    Attributes:
        pairs: references to files, with their labels as the table has them.
        guessed: whether no name says that these are labels.
    """

    pairs: list[tuple[str, Any]]
    guessed: bool = False


@dataclass(frozen=True)
class Undecided:
    """A table that names files, where no column is named like labels.

    Attributes:
        columns: the others, beside that of the files.
        references: what it calls the files.
        index: the pictures.
    """

    table: File
    columns: list[str]
    references: list[str]
    index: Index

    def names_most(self, pictures: Sequence[File]) -> bool:
        """Whether it names at least half of these pictures."""
        known = {file for reference in self.references for file in self.index.find(reference, self.table)}
        return len(known.intersection(pictures)) >= len(pictures) / 2


@dataclass(frozen=True)
class Labels:
    """The labels of pictures.

    Attributes:
        of: label by picture, an index into the sorted classes, or the number in the table.
        tables: the files that they were read from; none if they are the names of folders.
        names: what the labels are called; a number in the table is its own name and is not in here.
        guessed: whether no name in the tables says that these are labels.
        undecided: the tables in which no column is named like labels.
    """

    of: dict[File, int]
    tables: list[File]
    names: dict[int, str]
    guessed: bool = False
    undecided: list[Undecided] = field(default_factory=list)

    def note(self, pictures: list[File]) -> str:
        """Where the labels of these pictures are from, for the note on what is used; empty if not from tables."""
        known = sum(picture in self.of for picture in pictures)
        if not self.tables or not known:
            return ""
        part = "" if known == len(pictures) else f" for {known} of {counted(len(pictures), 'image')}"
        return f"; labels from {listed((shown(table.parts) for table in self.tables), 3)}{part}"


def is_table(file: File) -> bool:
    """Whether a file may hold labels, by its name."""
    name = file.name.lower()
    wanted = name in ("dataset.json", "metadata.jsonl", EMOJI_TABLE) or file.ending in (".csv", ".tsv")
    return wanted and "submission" not in name and file.size <= MAX_TABLE  # Kaggle's sample of an answer has no labels


class Numbering:
    """Whole numbers for the labels of a source, which may be text.

    Args:
        names: what the labels are called that are whole numbers already.
        named: whether the user has named the column of the labels, so that whatever it holds are labels.
    """

    def __init__(self, names: dict[int, str], named: bool = False) -> None:
        self._names, self._named = names, named
        self._texts: dict[str, int] = {}  # numbers in the order of the rows, until all are known

    def number(self, label: Any) -> int:
        """A number for the label of one row, -1 for none. It is the last word only if no label is text.

        Raises:
            ValueError: a whole number is too large.
        """
        if label is None:
            return -1
        if type(label) is int:
            if not -(2**63) <= label < 2**63:
                raise ValueError(f"label {label}: a whole number of at most 64 bits with its sign, or text, is needed")
            return label
        text = _text(label)
        return self._texts.setdefault(text, len(self._texts)) if text else -1

    def finish(self, *splits: MutableSequence[int]) -> dict[int, str]:
        """Put the final numbers in the place of those of `number`, and return what they are called.

        If most rows have a text of their own, such as a caption, none is a label.
        """
        if not self._texts:
            return self._names
        numbers, names = _numbered(self._texts)
        if not self._named and len(self._texts) > sum(map(len, splits)) / 2:
            numbers, names = dict.fromkeys(numbers, -1), {}
        final = [*(numbers[text] for text in self._texts), -1]  # at -1 stands what has none
        for labels in splits:
            for place, number in enumerate(labels):
                labels[place] = final[number]
        return names


def read_labels(pictures: Sequence[File], tables: Iterable[File], column: str | None = None) -> Labels:
    """The labels in all tables that fit the pictures; of no picture if there are none.

    Args:
        column: the column that holds them; None: one that is called so, or the only one beside that of the files.
    """
    found = _found(pictures, tables, column)
    numbers, names = _numbered(found.of.values())
    if len(numbers) < 2:
        return Labels({}, [], {}, undecided=found.undecided)
    of = {file: numbers[label] for file, label in found.of.items()}
    return Labels(of, found.tables, names, found.guessed, found.undecided)


def read_groups(pictures: Sequence[File], tables: Iterable[File], column: str) -> tuple[dict[File, str], list[File]]:
    """The groups that the tables name in a column, and these tables; none if no table fits the pictures and has such a
    column."""
    found = _found(pictures, tables, column)
    return found.of, found.tables


def emoji_records(listed: Any) -> list[dict[str, Any]]:
    """A record for each picture that emoji.json lists. A skin tone has the name and the category of its emoji. The
    squares of the tones by themselves are in no category, for they are parts of emoji.

    Raises:
        LookupError, TypeError, AttributeError: it is another kind of file.
    """
    records = []
    for emoji in listed:
        about = {name: value for name, value in emoji.items() if not isinstance(value, list | dict)}
        if about["category"] == "Component":
            about["category"] = None
        for picture in (emoji, *emoji.get("skin_variations", {}).values()):
            records.append(about | {"image": picture["image"]})
    return records


@dataclass(frozen=True)
class _Found:
    """What tables say about pictures: `Labels`, but as text."""

    of: dict[File, str]
    tables: list[File]
    guessed: bool
    undecided: list[Undecided]


def _found(pictures: Sequence[File], tables: Iterable[File], column: str | None) -> _Found:
    """What the tables that fit the pictures say about them. Guesses count only where no other table fits."""
    index = Index(pictures)
    undecided: list[Undecided] = []
    fitting: dict[bool, list[tuple[File, dict[File, str]]]] = {False: [], True: []}
    for table in sorted(tables, key=lambda file: (file.ending == ".csv", file.order)):
        try:
            rows = _rows(table, index, column)
            if labels := _fitting(rows.pairs, table, index):
                fitting[rows.guessed].append((table, labels))
        except _NoLabelColumnError as error:
            undecided.append(Undecided(table, error.columns, error.references, index))
        except UNFIT:
            continue
    guessed = not fitting[False]
    found: dict[File, str] = {}
    contradicted: set[File] = set()
    for _, labels in fitting[guessed]:
        contradicted |= {file for file, label in labels.items() if found.setdefault(file, label) != label}
    certain = {file: label for file, label in found.items() if file not in contradicted}
    return _Found(certain, [table for table, _ in fitting[guessed]], guessed, undecided)


def _numbered(labels: Iterable[str]) -> tuple[dict[str, int], dict[int, str]]:
    """Numbers for labels that are text, in sorted order, and what these numbers are called; numerals are themselves."""
    texts = sorted(set(labels))
    if all(re.fullmatch(r"\d{1,6}", text) for text in texts):  # longer ones are names, such as 20240131
        return {text: int(text) for text in texts}, {}
    return {text: number for number, text in enumerate(texts)}, {n: readable(text) for n, text in enumerate(texts)}


class _NoLabelColumnError(LookupError):
    """A table has no column that is called like labels.

    Attributes:
        references: what it calls the files.
        columns: those beside the names.
    """

    def __init__(self, references: list[str], columns: list[str]) -> None:
        self.references, self.columns = references, columns
        super().__init__(", ".join(columns))


def _rows(table: File, index: Index, column: str | None) -> _Rows:
    """The references and labels of a table.

    Raises:
        ValueError, OSError, LookupError, TypeError, csv.Error: this is no table of labels.
    """
    content = read(table)
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"  # as Excel writes tables
    text = content.decode(encoding, "surrogateescape")  # file names in it may be the file system's bytes
    if table.name.lower() == EMOJI_TABLE:
        records = emoji_records(json.loads(text))
        columns = list(dict.fromkeys(key for record in records for key in record))
        rows = [[record.get(name) for name in columns] for record in records]
        return _two_columns(columns, rows, table, index, column or "category")
    if table.ending == ".json" and not column:
        labels = json.loads(text)["labels"]
        pairs = labels.items() if isinstance(labels, dict) else labels or []
        return _Rows([(str(name), label) for name, label in pairs])
    if table.ending == ".jsonl":
        records = list(_records(text.split("\n")))
        columns = list(dict.fromkeys(key for record in records[:SAMPLE] for key in record))
        rows = [[record.get(name) for name in columns] for record in records]
        return _two_columns(columns, rows, table, index, column)
    delimiter = _delimiter(text)
    csv.field_size_limit(MAX_TABLE)  # a table beside pictures may hold long texts
    columns, *rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    if any(index.find(cell, table) and ENDING.search(cell.lower()) for cell in columns):  # there is no header
        columns, rows = [str(number) for number in range(len(columns))], [columns, *rows]
    return _two_columns(columns, [row for row in rows if len(row) == len(columns)], table, index, column)


def _delimiter(text: str) -> str:
    """What stands between the columns of a table: what every row has as often as the first one, for labels may have
    other signs in them, such as "A|B|C". A bar is a delimiter only if there is no other."""
    lines = [re.sub(r'"[^"]*"', "", line) for line in text.split("\n", SAMPLE)[:SAMPLE] if line.strip()]
    first = lines[0] if lines else ""
    likely = [sign for sign in ",;\t" if sign in first]

    def even(sign: str) -> tuple[int, int]:
        return sum(line.count(sign) == first.count(sign) for line in lines), first.count(sign)

    return max(likely, key=even) if likely else "|"


def _records(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects in lines of JSON. A line that is cut off or holds something else is left out."""
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield record


def _two_columns(
    columns: list[str], rows: list[list[Any]], table: File, index: Index, column: str | None = None
) -> _Rows:
    """The column of files and the column of labels.

    Raises:
        LookupError: there is none of these.
    """
    sample = rows[:: max(1, len(rows) // SAMPLE)]
    met = [{file for row in sample for file in index.find(str(row[number]), table)} for number in range(len(columns))]
    files = max(range(len(columns)), key=lambda number: len(met[number]))
    others = {name.strip().lower(): number for number, name in enumerate(columns) if number != files}
    named = [others[name] for name in ([column.strip().lower()] if column else LABEL_COLUMNS) if name in others]
    guessed = False
    if not named and len(others) == 1 and not column:
        name, number = next(iter(others.items()))
        values = {_text(row[number]) for row in rows}
        if name not in TEXT_COLUMNS and not _names_split(name) and len(values) <= len(rows) / 2:
            named = [number]
            # Without a header it is the form of a table of labels; a column of numbers with a name may be a width.
            guessed = not name.isdigit() and all(re.fullmatch(r"(-?\d+(\.\d+)?)?", value) for value in values)
    if not named and not column and (classes := _one_hot(columns, rows, files)):
        return _Rows(classes, guessed=True)
    if not named and not column:
        references = [str(row[files]) for row in rows]
        raise _NoLabelColumnError(references, [name for number, name in enumerate(columns) if number != files])
    return _Rows([(str(row[files]), row[named[0]]) for row in rows], guessed)


def _names_split(column: str) -> bool:
    """Whether a column is named like one that tells which split a picture belongs to: "is_train", "fold"."""
    return looks_like_split(column) or not SPLIT_WORDS.isdisjoint(words_in(column))


def _one_hot(columns: list[str], rows: list[list[Any]], files: int) -> list[tuple[str, str]] | None:
    """The references and labels of a table with a column of 0 and 1 for each class, of which every row has one 1; None
    of any other table. Columns that are named like splits are no classes, except among several others: a train is also
    a vehicle.

    Args:
        files: the number of the column of files.
    """
    binary = [n for n in range(len(columns)) if n != files and all(_text(row[n]) in ("0", "1") for row in rows)]
    plain = [n for n in binary if not _names_split(columns[n])]
    for classes in (plain, binary) if len(plain) > 1 and rows else ():
        ones = [[n for n in classes if _text(row[n]) == "1"] for row in rows]
        if all(len(found) == 1 for found in ones):
            return [(str(row[files]), columns[found[0]]) for row, found in zip(rows, ones, strict=True)]
    return None


def _fitting(rows: list[tuple[str, Any]], table: File, index: Index) -> dict[File, str]:
    """The labels of the pictures that a table names; none if it is rather about other files."""
    labels: dict[File, set[str]] = {}
    met = 0
    for reference, label in rows:
        found = index.find(reference, table)
        met += bool(found)
        text = _text(label)
        for file in found if text else ():
            labels.setdefault(file, set()).add(text)
    if not met or (met < len(rows) / 2 and len(labels) < index.size / 2):
        return {}
    return {file: min(several) for file, several in labels.items() if len(several) == 1}


def _text(label: Any) -> str:
    """A label as text; empty if there is none. Numbers of all kinds have one form, and one-hot vectors are numbers."""
    if isinstance(label, list):
        counts = Counter(label)
        one_hot = counts.get(1) == 1 and set(counts) <= {0, 1}
        return str(label.index(1)) if one_hot else ""
    if isinstance(label, bool):
        return str(int(label))
    if label != label:  # NaN, which stands for an empty cell in a column of numbers
        return ""
    text = "" if label is None else str(label).strip()
    text = re.sub(r"^(-?\d+)\.0*$", r"\1", text)
    return "" if text == "-1" else text  # which often stands for "not known"
