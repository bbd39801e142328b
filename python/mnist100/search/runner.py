"""The loop of a search: train for each point that has no result yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist100.data import Splits
from mnist100.search import folder
from mnist100.search.points import Point
from mnist100.search.results import TrialResult, ranked
from mnist100.search.study import LiveTrial, Study
from mnist100.training.backends import Native
from mnist100.training.history import EpochRecord
from mnist100.training.interrupt import hold_signals
from mnist100.training.loop import fit
from mnist100.training.recipes import Recipe
from mnist100.training.reports import EpochReport, StepReport, TrainingError


@dataclass(frozen=True)
class Search:
    """What to try, and how.

    Parameters
    ----------
    points
        One a trial, in order; at least one.
    recipe
        All training choices but those of a point.
    seed
        Of the weights and everything drawn in training; the same in every trial, so that trials differ
        by their points alone.
    repeats
        How many permutations the digits of each split are paired in.
    """

    points: tuple[Point, ...]
    recipe: Recipe
    seed: int
    repeats: int = 1


@dataclass(frozen=True)
class TrialStep:
    """One training step of a search: the trial, from 1, how many there are, and the step in it."""

    trial: int
    trials: int
    step: StepReport


OnTrial = Callable[[TrialResult, Sequence[TrialResult]], None]
OnStep = Callable[[TrialStep], None]


class _Pruned(Exception):  # noqa: N818  # not an error
    """Ends the training of a trial that is given up."""


def run_search(
    search: Search,
    splits: Splits,
    study: Study,
    out: Path,
    *,
    backend: Native | None = None,
    on_step: OnStep | None = None,
    on_trial: OnTrial | None = None,
) -> list[TrialResult]:
    """Run the trials that the study has no result of, in order. The test set is not looked at.

    Parameters
    ----------
    search
        What to try.
    splits
        The digits to train on and to choose on. Read by every trial, changed by none.
    study
        What is done, and where to put what will be.
    out
        An existing folder for ``summary.csv``, the best point's recipe ``best.toml``, and the
        ``history.csv`` of every trial, written after each of its epochs. Those of trials that the study
        holds are written anew.
    backend
        What to compute with; None is our kernels.
    on_step, on_trial
        Called after every training step; and after every trial, with its result and all so far.

    Returns
    -------
    list of TrialResult
        One for each point, the best first.

    Raises
    ------
    ValueError
        If there is nothing to choose on.
    OSError
        If a file cannot be written.
    Interruption
        On Ctrl-C or SIGTERM, after the step in progress. What is done stays in `study` and `out`, and the
        trial in progress will be run again; the outcome then is that of a search never interrupted. A
        second signal does not wait.
    """
    if splits.dev is None:
        raise ValueError("splits: got no dev set, wants one: a search chooses on it")
    trials = len(search.points)
    study.fail_abandoned()
    done = study.finished()
    with hold_signals() as signals:
        for result in done.values():
            folder.write_trial(folder.trial_folder(out, result.trial), result.history)
        folder.write_results(out, search.recipe, done.values())
        for number, point in enumerate(search.points, start=1):
            if number in done:
                continue
            signals.raise_received()
            with study.trial(number, point, search.points) as live:
                place = folder.trial_folder(out, number)
                outcome, history = _train(
                    search, point, splits, live, place, backend, _step_of(number, trials, on_step)
                )
                done[number] = live.finish(outcome, history)
            folder.write_results(out, search.recipe, done.values())
            if on_trial is not None:
                on_trial(done[number], list(done.values()))
    return ranked(done.values())


def _step_of(
    trial: int, trials: int, on_step: OnStep | None
) -> Callable[[StepReport], None] | None:
    if on_step is None:
        return None
    return lambda report: on_step(TrialStep(trial, trials, report))


def _train(
    search: Search,
    point: Point,
    splits: Splits,
    live: LiveTrial,
    place: Path,
    backend: Native | None,
    on_step: Callable[[StepReport], None] | None,
) -> tuple[str, list[EpochRecord]]:
    """Train for a point; return how that ended, and its epochs."""
    recipe = search.recipe.replace(**point.as_dict())
    model = recipe.network(search.seed)
    history: list[EpochRecord] = []
    folder.write_trial(place, history)

    def take(report: EpochReport) -> None:
        history.append(report.record)
        folder.write_trial(place, history)
        if live.report(report.record) and report.record.epoch < recipe.epochs:
            raise _Pruned

    try:
        fit(
            model,
            splits,
            recipe,
            seed=search.seed,
            repeats=search.repeats,
            backend=backend,
            on_step=on_step,
            on_epoch=take,
        )
    except _Pruned:
        return "pruned", history
    except TrainingError:
        return "diverged", history
    return "complete", history
