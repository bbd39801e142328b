"""The folder that a search leaves: its files, and whose it is."""

from __future__ import annotations

import fcntl
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from mnist100.files import atomic_writer
from mnist100.search.results import TrialResult, best_of, write_summary
from mnist100.training import run_folder
from mnist100.training.history import EpochRecord, write_history
from mnist100.training.recipes import Recipe

CONFIG = "search.toml"
STUDY = "study.db"
SUMMARY = "summary.csv"
PICTURE = "search.png"
BEST = "best.toml"
TRIALS = "trials"


class OtherSearchError(RuntimeError):
    """A folder or a study is of another search.

    Attributes
    ----------
    place : the folder or the study
    key : the first fact that differs, with dots between the levels
    had, got : its value there, and that of the present search; None is none
    """

    def __init__(self, place: str, key: str, had: Any, got: Any) -> None:
        super().__init__(f"{place}: is of another search: {key} was {had!r} and is {got!r}")
        self.place, self.key, self.had, self.got = place, key, had, got


def check_same(
    place: str,
    had: Mapping[str, Any],
    got: Mapping[str, Any],
    *,
    may_grow: Collection[str] = (),
    above: str = "",
) -> None:
    """Compare the facts of a search with those that `place` holds.

    Parameters
    ----------
    place
        The folder or the study.
    had, got
        Its facts, and those of the present search.
    may_grow
        Keys whose number may be larger now.
    above
        The keys, with dots, of the table that `had` and `got` are.

    Raises
    ------
    OtherSearchError
        If any of them differs.
    """
    for key in {**had, **got}:
        old, new = had.get(key), got.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            check_same(place, old, new, may_grow=may_grow, above=f"{above}{key}.")
        elif old != new and not (above + key in may_grow and _is_more(new, old)):
            raise OtherSearchError(place, above + key, old, new)


def _is_more(new: Any, old: Any) -> bool:
    return isinstance(new, int) and isinstance(old, int) and new > old


def check_folder(out: Path, facts: Mapping[str, Any], *, may_grow: Collection[str] = ()) -> bool:
    """Make sure that a search may use a folder, and tell whether it has done so before.

    `may_grow` is as in `check_same`.

    Raises
    ------
    OtherSearchError
        If the folder is another search's.
    OSError
        If it is a run's, or cannot be written to.
    ValueError
        If its ``search.toml`` is not one.
    """
    file = out / CONFIG
    if not file.exists():
        run_folder.check_folder(out, resumable=False)
        return False
    check_same(str(out), _recorded(file), facts, may_grow=may_grow)
    return True


def _recorded(file: Path) -> dict[str, Any]:
    try:
        recorded = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not a TOML file: {error}") from None
    facts: dict[str, Any] = recorded.get("search", {})
    return facts


@contextmanager
def claimed(
    out: Path,
    facts: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    may_grow: Collection[str] = (),
) -> Iterator[None]:
    """Hold a folder for a search: made if need be, with its ``search.toml``, and kept from others.

    Parameters
    ----------
    out
        The folder.
    facts
        What decides the search; without None.
    provenance
        What else ``search.toml`` says of how it was started.
    may_grow
        As in `check_same`; ``search.toml`` is written anew for what has grown.

    Raises
    ------
    As `check_folder`, and BlockingIOError if another process holds the folder.
    """
    if not check_folder(out, facts, may_grow=may_grow):
        out.mkdir(parents=True, exist_ok=True)
        _write_config(out, facts, provenance)
    with ExitStack() as held:
        held.enter_context(_held(out))
        check_folder(out, facts, may_grow=may_grow)  # which may have changed before it was held
        if _recorded(out / CONFIG) != facts:
            # The new file is held before the old one is let go.
            _write_config(out, facts, provenance)
            held.enter_context(_held(out))
        yield


def _write_config(out: Path, facts: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    with atomic_writer(out / CONFIG) as file:
        tomli_w.dump({**provenance, "search": facts}, file)


@contextmanager
def _held(out: Path) -> Iterator[None]:
    with (out / CONFIG).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{out}: another process is searching here; wait for it"
            ) from None
        yield


def trial_folder(out: Path, trial: int) -> Path:
    """Return the folder of a trial's files."""
    return out / TRIALS / str(trial)


def write_trial(folder: Path, history: Iterable[EpochRecord]) -> None:
    """Write the ``history.csv`` of a trial."""
    folder.mkdir(parents=True, exist_ok=True)
    write_history(folder / run_folder.HISTORY, history)


def write_results(out: Path, recipe: Recipe, results: Iterable[TrialResult]) -> None:
    """Write ``summary.csv`` and, once a trial is complete, ``best.toml``: the recipe with its point."""
    results = list(results)
    write_summary(out / SUMMARY, results)
    best = best_of(results)
    if best is not None:
        with atomic_writer(out / BEST) as file:
            tomli_w.dump(recipe.replace(**best.point.as_dict()).as_dict(), file)
