"""Which models a page serves: how they are named on the command line, in links and in requests, and opening them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ddpm.checkpoint import EMBEDDED, Checkpoint
from ddpm.errors import first_line

Found = dict[str, Checkpoint | str]
"""Each model's checkpoint by its name, or the reason, in one line, why there is none."""

AT_ONCE = 4  # models that are opened at the same time, since those of the Hub take their time


@dataclass(frozen=True)
class Wanted:
    """A model that is to be served: a directory or an id on the Hub, and there a commit, branch or tag."""

    path: str
    revision: str | None = None

    @classmethod
    def of(cls, given: str, revision: str | None) -> Wanted:
        """From what somebody wrote: a directory, an id, or ID@REVISION.

        Args:
            revision: that of a model which names none.
        """
        path, at, own = given.rpartition("@")
        return cls(path, own) if at and own and not Path(given).exists() else cls(given, revision)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the path or id; the last ones make the name."""
        path = Path(self.path)
        return (path.resolve() if path.is_dir() else path).parts


def wanted(given: Sequence[str], revision: str | None) -> list[Wanted]:
    """The models that somebody wrote, each of them once.

    Args:
        revision: that of every model which names none.
    """
    each = [Wanted.of(one, revision) for one in given]
    return list({(one.parts, one.revision): one for one in each}.values())


def names_of(models: Sequence[Wanted]) -> list[str]:
    """A short name for each model, and no name twice: the last part of its path or id. Where two are alike, the
    revision follows, then the part before goes in front, and at last a number follows."""
    forms: list[Callable[[Wanted], str]] = [
        lambda one: one.parts[-1],
        lambda one: one.parts[-1] + (f"@{one.revision}" if one.revision else ""),
        lambda one: "-".join(one.parts[-2:]),
        lambda one: "-".join(one.parts[-2:]) + (f"@{one.revision}" if one.revision else ""),
    ]
    names: list[str | None] = [None] * len(models)
    for form in forms:
        made = [name or form(one) for name, one in zip(names, models, strict=True)]
        count = Counter(made)
        names = [name or (new if count[new] == 1 else None) for name, new in zip(names, made, strict=True)]
    taken: set[str] = {name for name in names if name}
    for i, one in enumerate(models):
        number, name = 2, names[i] or one.parts[-1]
        while names[i] is None and name in taken:
            name, number = f"{one.parts[-1]}-{number}", number + 1
        names[i] = name
        taken.add(name)
    return [name for name in names if name]


def embedded() -> Found:
    """The models that come with this program, each in a folder below ddpm/assets; `EMBEDDED` is the first."""
    from ddpm.checkpoint import load

    folders = {index.parent for index in EMBEDDED.parent.glob("*/model_index.json")}
    return {
        folder.name: _opened(lambda folder=folder: load(folder, weights=False))
        for folder in sorted(folders, key=lambda folder: (folder != EMBEDDED, folder.name))
    }


def keep_facts() -> None:
    """Write what `ddpm.ui.server.facts` keeps of the embedded models. To be called once they have changed:

    python -c "from ddpm.ui.server.opening import keep_facts; keep_facts()"
    """
    from ddpm.ui.server.facts import Facts, keep
    from ddpm.ui.server.models import Models

    models = Models(embedded())
    try:
        keep(facts for name in models.names if isinstance(facts := models.facts(name), Facts))
    finally:
        models.close()


def open_models(models: Sequence[Wanted]) -> Found:
    """Open directories and models of the Hub, without their weights, by their names."""
    from ddpm.hub import pull

    def opened(one: Wanted) -> Checkpoint | str:
        return _opened(lambda: pull(one.path, one.revision, weights=False))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(names_of(models), threads.map(opened, models), strict=True))


def checked(found: Found) -> Found:
    """The same models, after the weights of the first one that has good ones were read. Those before it, with damaged
    weights, cannot be used."""
    result = dict(found)
    for name, one in found.items():
        if isinstance(one, str):
            continue
        read = _opened(one.with_weights)
        # Several models are read again when they are asked for, since only some of them stay in memory.
        result[name] = read if isinstance(read, str) or len(found) == 1 else one
        if not isinstance(read, str):
            break
    return result


def _opened(work: Callable[[], Checkpoint]) -> Checkpoint | str:
    """What `work` opens, or why it cannot."""
    try:
        return work()
    except Exception as error:
        return first_line(error)
