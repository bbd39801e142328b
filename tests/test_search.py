"""Searches: what they try, what they remember, and that a stopped one ends like any other."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from matplotlib.image import imread

from mnist100 import models, search_plots
from mnist100.data import Splits
from mnist100.search import (
    OtherSearchError,
    Point,
    Search,
    Study,
    StudyError,
    TrialResult,
    TrialStep,
    best_of,
    folder,
    random_points,
    ranked,
    run_search,
    sweep_points,
)
from mnist100.search.study import shown, storage_url
from mnist100.training import EpochRecord, fit, load_recipe, read_history
from mnist100.training.interrupt import Interruption
from mnist100.training.recipes import Recipe
from runs import easy_splits, tiny_recipe

RANGES: dict[str, Any] = {"learning_rate": (1e-4, 1e-2), "reg_lambda": (1e-6, 1e-2)}
FACTS = {"command": "random-search", "seed": 7, "recipe": {"epochs": 2}, "data": {"dev": "abc"}}

# Three that train, one that learns nothing and may be pruned, one that diverges, one more that trains.
RATES = (2e-2, 1e-2, 1.5e-2, 1e-9, 1e30, 5e-3)
POINTS = sweep_points(RATES, 1e-4)


class Untouchable:
    """A test set that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test set was asked for its {name}")

    def __len__(self) -> int:
        raise AssertionError("the test set was asked for its length")


@pytest.fixture(scope="module")
def splits() -> Splits:
    easy = easy_splits()
    test: Any = Untouchable()
    return Splits(easy.train, easy.dev, test)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return tiny_recipe(model="mlp", epochs=2)


@pytest.fixture(scope="module")
def whole(splits: Splits, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search, with pruning, that was never stopped."""
    out = tmp_path_factory.mktemp("whole")
    run(out, splits, recipe)
    return out


@contextlib.contextmanager
def opened(place: Path, facts: dict[str, Any] = FACTS, prune: bool = True) -> Iterator[Study]:
    with contextlib.closing(Study(str(place), facts, prune=prune)) as study:
        yield study


def run(
    out: Path, splits: Splits, recipe: Recipe, points: tuple[Point, ...] = POINTS, **options: Any
) -> list[TrialResult]:
    """Search in a folder, or go on there."""
    prune = options.pop("prune", True)
    with opened(out / "study.db", prune=prune) as study:
        return run_search(Search(points, recipe, 7), splits, study, out, **options)


def without_times(results: list[TrialResult]) -> list[TrialResult]:
    return [
        dataclasses.replace(
            one,
            history=tuple(
                dataclasses.replace(record, seconds=0.0, images_per_second=0.0)
                for record in one.history
            ),
        )
        for one in results
    ]


def summary(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def test_points_follow_from_the_seed_and_their_place() -> None:
    points = random_points(50, seed=3, **RANGES)
    assert points == random_points(50, seed=3, **RANGES)
    assert points[:7] == random_points(7, seed=3, **RANGES)
    assert len({point.learning_rate for point in points}) > 45
    assert set(points).isdisjoint(random_points(50, seed=4, **RANGES))
    for key, (low, high) in RANGES.items():
        values = [point.as_dict()[key] for point in points]
        assert low <= min(values) < max(values) <= high
        assert all(value == float(f"{value:.3e}") for value in values)


def test_points_are_log_uniform() -> None:
    points = random_points(2000, seed=0, **RANGES)
    for key, (low, high) in RANGES.items():
        places = [math.log(point.as_dict()[key] / low) / math.log(high / low) for point in points]
        counts = np.histogram(places, bins=4, range=(0, 1))[0]
        # Five deviations, √(n·p·(1 - p)) each.
        assert abs(counts - 500).max() < 5 * math.sqrt(2000 * 0.25 * 0.75)


def test_a_range_may_be_a_value() -> None:
    points = random_points(2, learning_rate=(1e-3, 1e-3), reg_lambda=(1 / 3, 1 / 3), seed=0)
    assert points == (Point(1e-3, 1 / 3),) * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": (0.0, 1.0)}, r"learning_rate: got \(0.0, 1.0\), wants 0 < least"),
        ({"reg_lambda": (1e-2, 1e-3)}, r"reg_lambda: got \(0.01, 0.001\), wants 0 < least"),
        ({"reg_lambda": (1e-2, math.inf)}, "reg_lambda: got .*both finite"),
        ({"trials": 0}, "trials: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_nonsense_is_not_drawn_from(change: dict[str, Any], message: str) -> None:
    arguments = {"trials": 2, "seed": 0, **RANGES, **change}
    with pytest.raises(ValueError, match=message):
        random_points(arguments.pop("trials"), **arguments)


def record(epoch: int, dev: float) -> EpochRecord:
    return EpochRecord(epoch, 1.0, dev + 0.01, dev, 1e-3, 2.0, 100.0)


RESULTS = [
    TrialResult(1, Point(1e-3, 1e-4), "complete", (record(1, 0.5), record(2, 0.7))),
    TrialResult(2, Point(1e-2, 1e-5), "diverged", ()),
    TrialResult(3, Point(2e-3, 1e-6), "complete", (record(1, 0.9), record(2, 0.8))),
    TrialResult(4, Point(3e-3, 1e-3), "complete", (record(1, 0.8), record(2, 0.9))),
    TrialResult(5, Point(1e-4, 1e-2), "pruned", (record(1, 0.1),)),
]


def test_the_summary_is_sorted_by_dev_accuracy(tmp_path: Path, recipe: Recipe) -> None:
    assert [one.trial for one in ranked(RESULTS)] == [3, 4, 1, 5, 2]
    assert best_of(RESULTS) == RESULTS[2]
    assert best_of(RESULTS[1:2]) is None
    folder.write_results(tmp_path, recipe, RESULTS)
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert lines == [
        "rank,trial,outcome,learning_rate,reg_lambda,dev_acc,train_acc,best_epoch,epochs,seconds",
        "1,3,complete,0.002,1e-06,0.9,0.91,1,2,4.0",
        "2,4,complete,0.003,0.001,0.9,0.91,2,2,4.0",
        "3,1,complete,0.001,0.0001,0.7,0.71,2,2,4.0",
        "4,5,pruned,0.0001,0.01,0.1,0.11,1,1,2.0",
        "5,2,diverged,0.01,1e-05,,,,0,0",
    ]
    best = load_recipe(tmp_path / "best.toml")
    assert best == recipe.replace(learning_rate=2e-3, reg_lambda=1e-6)


def test_a_search_that_only_diverged_has_no_best(tmp_path: Path, recipe: Recipe) -> None:
    folder.write_results(tmp_path, recipe, RESULTS[1:2])
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


def test_a_trial_is_a_training_of_its_own(
    splits: Splits, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[TrialStep] = []
    seen: list[tuple[int, int]] = []
    results = run(
        tmp_path,
        splits,
        recipe,
        POINTS[:2],
        on_step=steps.append,
        on_trial=lambda one, so_far: seen.append((one.trial, len(so_far))),
    )
    assert sorted(seen) == [(1, 1), (2, 2)]
    assert [(at.trial, at.trials, at.step.epoch, at.step.step) for at in steps] == [
        (trial, 2, epoch, step) for trial in (1, 2) for epoch in (1, 2) for step in (1, 2, 3)
    ]
    for result in results:
        assert result.outcome == "complete"
        model = models.mlp(dropout=recipe.dropout, seed=7)
        alone = fit(model, splits, recipe.replace(**result.point.as_dict()), seed=7)
        expected = dataclasses.replace(result, history=alone.history)
        assert without_times([result]) == without_times([expected])
        assert result.accuracy == alone.dev_accuracy
        trial = tmp_path / "trials" / str(result.trial)
        assert tuple(read_history(trial / "history.csv")) == result.history
    assert capfd.readouterr() == ("", "")  # Optuna's log included


def test_outcomes(whole: Path) -> None:
    rows = {int(row["trial"]): row for row in summary(whole)}
    outcomes = [rows[trial]["outcome"] for trial in range(1, 7)]
    assert outcomes == ["complete", "complete", "complete", "pruned", "diverged", "complete"]
    assert rows[4]["epochs"] == "1"
    assert len(read_history(whole / "trials" / "4" / "history.csv")) == 1
    assert rows[5]["rank"] == "6"
    assert float(rows[1]["dev_acc"]) > float(rows[4]["dev_acc"])


def test_nothing_is_pruned_unless_asked(splits: Splits, recipe: Recipe, tmp_path: Path) -> None:
    results = run(tmp_path, splits, recipe, POINTS[:4], prune=False)
    assert {one.outcome for one in results} == {"complete"}


def test_the_study_is_one_that_optuna_reads(whole: Path) -> None:
    study = optuna.load_study(study_name="mnist100", storage=f"sqlite:///{whole / 'study.db'}")
    assert study.best_value == float(summary(whole)[0]["dev_acc"])
    assert study.best_params["learning_rate"] == float(summary(whole)[0]["learning_rate"])
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE"] * 3 + ["PRUNED", "FAIL", "COMPLETE"]
    assert len(study.trials[0].intermediate_values) == 2
    storage: Any = study._storage
    storage._backend.engine.dispose()


@pytest.mark.parametrize(
    ("place", "number"),
    [((1, 1, 1), signal.SIGINT), ((4, 1, 2), signal.SIGTERM), ((6, 2, 3), signal.SIGINT)],
)
def test_a_stopped_search_ends_as_one_that_was_not(
    place: tuple[int, int, int],
    number: int,
    splits: Splits,
    recipe: Recipe,
    whole: Path,
    tmp_path: Path,
) -> None:
    trained: list[int] = []

    def stop(at: TrialStep) -> None:
        trained.append(at.trial)
        if (at.trial, at.step.epoch, at.step.step) == place:
            os.kill(os.getpid(), number)

    with pytest.raises(Interruption) as caught:
        run(tmp_path, splits, recipe, on_step=stop)
    assert caught.value.signal == number
    assert len(summary(tmp_path)) == place[0] - 1
    trained.clear()
    run(tmp_path, splits, recipe, on_step=lambda at: trained.append(at.trial))
    assert min(trained) == place[0]
    assert summary(tmp_path) == summary(whole)
    assert (tmp_path / "best.toml").read_bytes() == (whole / "best.toml").read_bytes()


def test_a_killed_search_goes_on(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    with opened(tmp_path / "study.db") as study:
        study.trial(1, POINTS[0], POINTS).__enter__()  # left as a kill leaves it
    with opened(tmp_path / "study.db") as study:
        assert study.finished() == {}
    run(tmp_path, splits, recipe)
    assert summary(tmp_path) == summary(whole)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as database:
        states = [state for (state,) in database.execute("SELECT state FROM trials")]
    assert sorted(states) == ["COMPLETE"] * 4 + ["FAIL"] * 2 + ["PRUNED"]


def test_files_that_are_lost_are_written_anew(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    with opened(whole / "study.db") as study:
        results = run_search(Search(POINTS, recipe, 7), splits, study, tmp_path)
    assert [one.trial for one in results] == [int(row["trial"]) for row in summary(whole)]
    for path in (path for path in whole.rglob("*") if path.is_file() and path.suffix != ".db"):
        assert (tmp_path / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_there_has_to_be_something_to_choose_on(
    splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="splits: got no dev set, wants one"):
        run(tmp_path, Splits(splits.train, None, splits.test), recipe)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 8}, "seed was 7 and is 8"),
        ({"recipe": {"epochs": 3}}, "recipe.epochs was 2 and is 3"),
        ({"data": {"dev": "abc", "train": "x"}}, "data.train was None and is 'x'"),
    ],
)
def test_another_search_is_refused(change: dict[str, Any], key: str, tmp_path: Path) -> None:
    place, out = tmp_path / "a.db", tmp_path / "out"
    with opened(place), folder.claimed(out, FACTS, {"command": "mnist100"}):
        pass
    with pytest.raises(OtherSearchError, match=f"{place}: is of another search: {key}"):
        Study(str(place), FACTS | change, prune=False)
    with (
        pytest.raises(OtherSearchError, match=f"{out}: is of another search: {key}"),
        folder.claimed(out, FACTS | change, {}),
    ):
        pass
    with opened(place), folder.claimed(out, FACTS, {}):  # both are as they were
        assert 'command = "mnist100"' in (out / "search.toml").read_text()


def test_a_search_may_grow_and_not_shrink(tmp_path: Path) -> None:
    place, out = tmp_path / "a.db", tmp_path / "out"
    small, large = FACTS | {"trials": 4}, FACTS | {"trials": 6}
    grow = {"may_grow": ("trials",)}
    for facts in (small, large, large):
        Study(str(place), facts, prune=False, **grow).close()
        with (
            folder.claimed(out, facts, {"command": "mnist100"}, **grow),
            pytest.raises(BlockingIOError, match="another process is searching here"),
            folder.claimed(out, facts, {}, **grow),
        ):
            pass
    assert "trials = 6" in (out / "search.toml").read_text()
    refused = "is of another search: trials was 6 and is"
    for facts, options in ((small, grow), (FACTS | {"trials": 7}, {})):
        with pytest.raises(OtherSearchError, match=refused):
            Study(str(place), facts, prune=False, **options)
        with (
            pytest.raises(OtherSearchError, match=refused),
            folder.claimed(out, facts, {}, **options),
        ):
            pass


def test_two_processes_do_not_search_in_one_folder(tmp_path: Path) -> None:
    with (
        folder.claimed(tmp_path, FACTS, {}),
        pytest.raises(BlockingIOError, match="another process is searching here"),
        folder.claimed(tmp_path, FACTS, {}),
    ):
        pass


def test_a_run_is_no_place_for_a_search(tmp_path: Path) -> None:
    (tmp_path / "model.npz").touch()
    with pytest.raises(FileExistsError, match="already holds a run"):
        folder.check_folder(tmp_path, FACTS)
    (tmp_path / "search.toml").write_text("[")
    with pytest.raises(ValueError, match=r"search\.toml: not a TOML file"):
        folder.check_folder(tmp_path, FACTS)


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("/no/such/folder/study.db", "unable to open database file"),
        ("nonsense://here", "Can't load plugin"),
        ("://", "Could not parse"),
        (__file__, "file is not a database"),
    ],
    ids=["no folder", "no plugin", "no URL", "no database"],
)
def test_a_storage_that_cannot_be_opened(storage: str, reason: str) -> None:
    with pytest.raises(StudyError, match=rf"storage: got .*, which cannot be opened: .*{reason}"):
        Study(storage, FACTS, prune=False)


def test_a_study_of_something_else_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    other = optuna.storages.RDBStorage(url)
    for name in ("their own", "mnist100"):
        study = optuna.create_study(storage=other, study_name=name)
        study.add_trial(optuna.trial.create_trial(value=1.0))
        if name == "their own":  # beside which ours may be
            Study(url, FACTS, prune=False).close()
            optuna.delete_study(study_name="mnist100", storage=other)
    other.engine.dispose()
    with pytest.raises(StudyError, match="that no search made"):
        Study(url, FACTS, prune=False)


def test_storages_by_path_and_by_url(tmp_path: Path) -> None:
    assert storage_url("a/b.db") == "sqlite:///a/b.db"
    assert storage_url("mysql://host/name") == "mysql://host/name"
    assert shown("mysql://me:secret@host/name") == "mysql://me:***@host/name"
    odd = tmp_path / "a {b} c.db"
    with opened(odd):
        assert odd.exists()


def test_the_picture_of_a_search(tmp_path: Path) -> None:
    plane, by_rate, by_lambda = search_plots.search_figure(RESULTS, "a search").axes
    assert plane.get_xscale() == plane.get_yscale() == by_rate.get_xscale() == "log"
    assert len(plane.collections) == 3
    assert len(plane.lines) == 2  # the best, and the one that diverged
    star = by_lambda.lines[-1]
    assert star.get_xdata() == [1e-6]
    assert star.get_ydata() == pytest.approx([0.1])
    assert by_rate.get_ylim()[0] > by_rate.get_ylim()[1]  # errors, upside down
    search_plots.save_search(RESULTS, tmp_path / "search.png", "a search")
    assert imread(tmp_path / "search.png").shape == (705, 1950, 4)


def test_the_picture_of_a_sweep() -> None:
    results = [
        dataclasses.replace(one, point=Point(one.point.learning_rate, 0.0)) for one in RESULTS
    ]
    by_rate, by_epoch = search_plots.search_figure(results, "a sweep").axes
    points = np.asarray(by_rate.lines[1].get_xydata())
    np.testing.assert_allclose(points, [[1e-4, 0.9], [1e-3, 0.3], [2e-3, 0.1], [3e-3, 0.1]])
    assert len(by_epoch.lines) == 4
    legend = by_epoch.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["0.0001", "0.001", "0.002", "0.003"]


@pytest.mark.parametrize(
    ("rates", "accuracies"),
    [
        ((5e-4, 1e-3, 2e-3), (0.045, 0.06, 0.105)),
        ((2e-2, 2.1e-2, 2.2e-2, 2.3e-2), (0.7505, 0.768, 0.768, 0.768)),
        ((3e-3,), (0.511,)),
        ((3e-3, 3e-2), (0.0, 0.001)),
        ((1e-3, 3e-3), (0.98, 1.0)),
    ],
)
def test_every_accuracy_can_be_read(
    rates: tuple[float, ...], accuracies: tuple[float, ...]
) -> None:
    results = [
        TrialResult(number, Point(rate, 0.0), "complete", (record(1, accuracy),))
        for number, (rate, accuracy) in enumerate(zip(rates, accuracies, strict=True), 1)
    ]
    by_rate, by_epoch = search_plots.search_figure(results, "a sweep").axes
    for axes in (by_rate, by_epoch):
        high, low = axes.get_ylim()
        ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
        assert len(ticks) >= 2
        assert max(ticks) <= 1  # no accuracy below none
    left, right = by_rate.get_xlim()
    assert 2 <= sum(left <= tick <= right for tick in by_rate.get_xticks()) <= 8


@pytest.mark.parametrize("results", [RESULTS[:1], RESULTS[1:2], RESULTS[4:], RESULTS[1:3]])
def test_a_picture_of_little(results: list[TrialResult], tmp_path: Path) -> None:
    search_plots.save_search(results, tmp_path / "search.png", "a search")
    assert (tmp_path / "search.png").stat().st_size > 1000
