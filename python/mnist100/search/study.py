"""The memory of a search: an Optuna study in a database."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist100.search.folder import check_same
from mnist100.search.points import Point
from mnist100.search.results import OUTCOMES, TrialResult
from mnist100.training.history import EpochRecord

if TYPE_CHECKING:
    import optuna

NAME = "mnist100"  # of the study in its database, which may hold others
_FACTS = "search"
_TRIAL = "trial"
_OUTCOME = "outcome"
_HISTORY = "history"

# A median of fewer says nothing. Optuna's own default is five; these searches are short.
_TRIALS_BEFORE_PRUNING = 3


class StudyError(RuntimeError):
    """A study that cannot be opened or used; the message names its storage and the reason.

    Attributes
    ----------
    reason : what the database said, or what else is wrong
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Study:
    """What an Optuna study keeps of a search. It holds its database until `close`.

    Parameters
    ----------
    storage
        An Optuna storage URL such as ``sqlite:///study.db``, or the path of an SQLite file.
    facts
        What decides the search, ready for JSON; a new study keeps it.
    prune
        Whether `LiveTrial.report` gives up on trials below the median.
    may_grow
        Facts whose number may be larger than the study's; it then keeps the larger one.

    Raises
    ------
    StudyError
        If the storage cannot be opened or its study is not a search's.
    OtherSearchError
        If the study is of a search with other facts.
    """

    def __init__(
        self,
        storage: str,
        facts: Mapping[str, Any],
        *,
        prune: bool,
        may_grow: Collection[str] = (),
    ) -> None:
        import optuna

        optuna.logging.disable_default_handler()
        url = storage_url(storage)
        pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=_TRIALS_BEFORE_PRUNING)
            if prune
            else optuna.pruners.NopPruner()
        )
        self.name = shown(storage)
        self._storage: optuna.storages.RDBStorage | None = None
        with self._explained():
            self._storage = optuna.storages.RDBStorage(url)
            # Every trial's values are given, so that nothing is ever sampled.
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(),
                pruner=pruner,
            )
            kept = self._study.user_attrs.get(_FACTS)
        try:
            if kept is not None:
                check_same(self.name, kept, facts, may_grow=may_grow)
            elif self._study.get_trials(deepcopy=False):
                reason = f"has a study {NAME!r} that no search made"
                raise StudyError(f"storage: got {self.name!r}, which {reason}", reason)
            self._study.set_user_attr(_FACTS, dict(facts))
        except BaseException:
            self.close()
            raise

    def finished(self) -> dict[int, TrialResult]:
        """Return the trials that are done, by number."""
        done = (_result(trial) for trial in self._study.get_trials(deepcopy=False))
        return {one.trial: one for one in done if one is not None}

    @contextmanager
    def trial(self, number: int, point: Point, points: Iterable[Point]) -> Iterator[LiveTrial]:
        """Begin a trial; a block that ends without `LiveTrial.finish` leaves it as failed.

        Parameters
        ----------
        number
            Of the trial, from 1.
        point
            What it tries.
        points
            Those of all trials; they bound the search space that the study shows.
        """
        import optuna

        space: dict[str, optuna.distributions.BaseDistribution] = {}
        for key in point.as_dict():
            values = [one.as_dict()[key] for one in points]
            low, high = min(values), max(values)
            space[key] = optuna.distributions.FloatDistribution(low, high, log=low > 0)
        self._study.enqueue_trial(point.as_dict(), user_attrs={_TRIAL: number})
        live = LiveTrial(self._study, self._study.ask(space), number, point)
        try:
            yield live
        finally:
            live.abandon()

    def close(self) -> None:
        """Close the database."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what a database says when it cannot be opened into one line."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
            self.close()
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StudyError(
                f"storage: got {self.name!r}, which cannot be opened: {reason}; wants an Optuna "
                "storage URL, such as sqlite:///study.db, or the path of an SQLite file",
                reason,
            ) from error

    def fail_abandoned(self) -> None:
        """Mark trials that were begun and never ended, by a process that was killed, as failed."""
        from optuna.trial import TrialState

        unfinished = (TrialState.RUNNING, TrialState.WAITING)
        for trial in self._study.get_trials(deepcopy=False, states=unfinished):
            self._study.tell(trial.number, state=TrialState.FAIL)


class LiveTrial:
    """A trial in progress."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial, number: int, point: Point) -> None:
        self._study = study
        self._trial = trial
        self._number = number
        self._point = point
        self._ended = False

    def report(self, record: EpochRecord) -> bool:
        """Take in an epoch; return whether to give the trial up."""
        assert record.dev_acc is not None
        self._trial.report(record.dev_acc, record.epoch)
        return self._trial.should_prune()

    def finish(self, outcome: str, history: Iterable[EpochRecord]) -> TrialResult:
        """End the trial; return its result."""
        from optuna.trial import TrialState

        result = TrialResult(self._number, self._point, outcome, tuple(history))
        epochs = [dataclasses.astuple(record) for record in result.history]
        self._trial.set_user_attr(_HISTORY, epochs)
        self._trial.set_user_attr(_OUTCOME, outcome)
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        state = dict(zip(OUTCOMES, states, strict=True))[outcome]
        value = result.accuracy if state is TrialState.COMPLETE else None
        self._study.tell(self._trial, value, state)
        self._ended = True
        return result

    def abandon(self) -> None:
        """Mark the trial as failed, unless it has ended."""
        from optuna.trial import TrialState

        if not self._ended:
            self._study.tell(self._trial, state=TrialState.FAIL)


def storage_url(storage: str) -> str:
    """Return the URL of a storage that is given as one, or as the path of an SQLite file."""
    if "://" in storage:
        return storage
    path = str(Path(storage).expanduser())
    # Optuna fills in its schema's version where a URL has braces.
    return f"sqlite:///{path}".replace("{", "{{").replace("}", "}}")


def shown(storage: str) -> str:
    """Return a storage as messages and files may show it: without a password."""
    if "://" not in storage:
        return storage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(storage).render_as_string(hide_password=True)
    except ArgumentError:  # which opening it will tell
        return storage


def _result(trial: optuna.trial.FrozenTrial) -> TrialResult | None:
    """What a trial came to; None if it did not end by itself."""
    facts = trial.user_attrs
    if not trial.state.is_finished() or facts.get(_OUTCOME) not in OUTCOMES:
        return None
    history = tuple(EpochRecord(*values) for values in facts[_HISTORY])
    return TrialResult(facts[_TRIAL], Point(**trial.params), facts[_OUTCOME], history)
