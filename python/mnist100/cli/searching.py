"""What the commands that search have in common: the search itself, its endings and its result."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import mnist100
from mnist100.cli.backend_options import chosen_backend
from mnist100.cli.console import name_of, open_console, print_json, say, threads_in_use
from mnist100.cli.errors import CommandError
from mnist100.cli.inputs import count_pairs, dataset_name, load_splits
from mnist100.cli.recipe_options import chosen_recipe
from mnist100.cli.search_display import SearchDisplay, advice_line, best_line
from mnist100.cli.search_endings import explained_search, how_to_go_on
from mnist100.cli.search_options import Space
from mnist100.cli.seldom import Seldom
from mnist100.data import Source, Splits
from mnist100.search import (
    Search,
    Study,
    StudyError,
    TrialResult,
    best_of,
    folder,
    ranked,
    run_search,
)
from mnist100.search.study import shown
from mnist100.training import Recipe, run_folder
from mnist100.training.backends import Native
from mnist100.training.provenance import environment, table_checksums

SECONDS_BETWEEN_PICTURES = 1.0  # drawing takes a third of one, a trial on few digits a tenth


@dataclass(frozen=True)
class Found:
    """A search that is complete: what it was made with, and its trials, the best first."""

    console: Console
    source: Source
    splits: Splits
    backend: Native
    out: Path
    results: list[TrialResult]
    best: TrialResult
    seconds: float


def search_folder(options: argparse.Namespace, command: str) -> Path:
    """Return where a command writes."""
    return Path(options.out) if options.out else run_folder.default_folder(command)


def search(
    options: argparse.Namespace,
    space: Space,
    recipe: Recipe,
    out: Path,
    *,
    again: Path | None = None,
) -> Found:
    """Search, or go on with the search in a folder.

    Parameters
    ----------
    options
        Those that every search has.
    space
        What to try.
    recipe
        Of all trials.
    out
        The search's folder.
    again
        The ``--out`` of the command that goes on with it; None is `out`.

    Raises
    ------
    UsageError, CommandError
        If folder or storage are another search's, the storage cannot be opened, or no trial succeeds.
    Interrupted
        On Ctrl-C or SIGTERM; the message says how to go on.
    """
    if not (out / folder.CONFIG).exists():
        run_folder.check_folder(out, resumable=False)
    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    backend = chosen_backend(options, recipe)
    console = open_console(json_output=options.json)
    source, splits = load_splits(console, options.dataset, options.dev_size, recipe)
    if splits.dev is None:
        raise CommandError(
            f"{source.name}: has too few training data to set some aside to choose on"
        )
    started = time.perf_counter()
    job = _Job(console, space, recipe, options.seed, source, splits, backend, out)
    results: list[TrialResult] = []
    with explained_search(how_to_go_on(options, again or out), out, results, len(space.points)):
        job.run(options.storage, options.prune, options.command, results)
    best = best_of(results)
    if best is None:
        raise CommandError(
            f"{out}: every trial diverged; try lower learning rates, with another --out"
        )
    say(console, best_line(best, source))
    seconds = time.perf_counter() - started
    return Found(console, source, splits, backend, out, ranked(results), best, seconds)


def whole_recipe(options: argparse.Namespace) -> Recipe:
    """Return the recipe of a training of its full length; ``--epochs`` is of the trials."""
    return chosen_recipe(argparse.Namespace(**vars(options) | {"epochs": None}))


def finish(options: argparse.Namespace, found: Found, space: Space) -> None:
    """Say what to do with a search's result, or print it."""
    epochs = max(whole_recipe(options).epochs, options.epochs)
    advice = advice_line(found.source, found.out, epochs, options.dev_size, options.seed)
    say(found.console, advice)
    if options.json:
        print_json(as_json(found, space, options))


def as_json(found: Found, space: Space, options: argparse.Namespace) -> dict[str, Any]:
    """Return what ``--json`` prints of a search; every accuracy in it is on dev."""
    return {
        "command": space.command,
        "dataset": found.source.name,
        "notice": found.source.notice,
        "out": str(found.out),
        "seed": options.seed,
        "measured_on": "dev",
        "accuracy": found.best.accuracy,
        "best": found.best.as_dict(),
        "trials": [one.as_dict() for one in found.results],
        "seconds": found.seconds,
    }


@dataclass(frozen=True)
class _Job:
    """A search with all that it needs."""

    console: Console
    space: Space
    recipe: Recipe
    seed: int
    source: Source
    splits: Splits
    backend: Native
    out: Path

    def run(
        self, storage: str | None, prune: bool, command: str, results: list[TrialResult]
    ) -> None:
        """Run the trials that are left; `results` grows with them."""
        facts = self._facts(prune)
        place = storage or str(self.out / folder.STUDY)
        provenance = {
            "command": command.replace(place, shown(place)),
            "dataset": dataset_name(self.source),
            "environment": environment(self.backend.name),
        }
        kept = facts | {"storage": shown(storage or folder.STUDY)}
        may_grow = self.space.may_grow
        if not folder.check_folder(self.out, kept, may_grow=may_grow) and storage is None:
            self.out.mkdir(parents=True, exist_ok=True)
        with (
            # A storage that cannot be opened leaves no folder behind that would be another search's.
            contextlib.closing(self._study(storage, facts, prune)) as study,
            folder.claimed(self.out, kept, provenance, may_grow=may_grow),
        ):
            results[:] = study.finished().values()
            self._introduce(len(results))
            self._run_trials(study, results)

    def _study(self, storage: str | None, facts: dict[str, Any], prune: bool) -> Study:
        if storage is not None:
            return Study(storage, facts, prune=prune, may_grow=self.space.may_grow)
        file = self.out / folder.STUDY
        is_new = not file.exists()
        if is_new and (self.out / folder.SUMMARY).exists():
            raise CommandError(
                f"{file}: is missing, and {folder.SUMMARY} would be lost; bring it back, or give another --out"
            )
        try:
            return Study(str(file), facts, prune=prune, may_grow=self.space.may_grow)
        except StudyError as error:
            if is_new:  # of a full disk, a part of the database
                file.unlink(missing_ok=True)
            hint = "make room, or give another --out"
            raise CommandError(f"{file}: cannot be used ({error.reason}); {hint}") from None

    def _run_trials(self, study: Study, results: list[TrialResult]) -> None:
        # Matplotlib takes half a second to import, which a wrong option should not have to wait for.
        from mnist100.search_plots import save_search

        trials = len(self.space.points)
        if len(results) == trials:
            say(self.console, f"{self.out} is complete: there is no trial left to run")
        name = name_of(self.source)
        title = f"{self.recipe.model} on {name}, {self._length()}"
        display = SearchDisplay(self.console, name, trials, done=len(results))
        drawing = Seldom(
            lambda: save_search(results, self.out / folder.PICTURE, title), SECONDS_BETWEEN_PICTURES
        )
        if results:
            drawing()

        def on_trial(result: TrialResult, so_far: Sequence[TrialResult]) -> None:
            results[:] = so_far
            display.on_trial(result, is_best=best_of(so_far) == result)
            drawing()

        with display.running(), drawing.at_the_end():
            run_search(
                Search(self.space.points, self.recipe, self.seed, self.source.repeats),
                self.splits,
                study,
                self.out,
                backend=self.backend,
                on_step=display.on_step,
                on_trial=on_trial,
            )

    def _facts(self, prune: bool) -> dict[str, Any]:
        """Return what decides a search, the instruction set aside; without None, for TOML."""
        recipe = self.recipe.as_dict()
        data = table_checksums({"train": self.splits.train, "dev": self.splits.dev})
        return {
            "command": self.space.command,
            **self.space.options,
            "seed": self.seed,
            "prune": prune,
            "backend": self.backend.name,
            "device": self.backend.device,
            "recipe": {key: recipe[key] for key in recipe if key not in self.space.varied},
            "data": data | {"repeats": self.source.repeats},
        }

    def _length(self) -> str:
        """Say how long a trial is."""
        epochs = self.recipe.epochs
        return "one epoch each" if epochs == 1 else f"at most {epochs} epochs each"

    def _introduce(self, done: int) -> None:
        count = len(self.space.points)
        trials = f"{count} trial{'s' if count > 1 else ''} ({self._length()})"
        before = f"Going on after {done} of {trials}" if done else f"Searching with {trials}"
        say(
            self.console,
            f"{before}: {self.recipe.model} on {self.source.name}, "
            f"{count_pairs(self.source, self.splits.train)} training and "
            f"{count_pairs(self.source, self.splits.dev)} dev pairs, {self.backend.name} backend on "
            f"{self.backend.device}, {threads_in_use()}, into {self.out}",
        )
