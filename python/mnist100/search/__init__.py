"""Search for a learning rate and a λ: points to try, a study that remembers, and what came of it.

A search is a list of `Point`, one a trial; `run_search` trains each for a few epochs, and a `Study`
(Optuna's) keeps what is done, so that the same search goes on where it stopped. Only dev accuracy is
looked at. Everything random follows from the seed and the trial's number.
"""

from __future__ import annotations

from mnist100.search.folder import OtherSearchError
from mnist100.search.points import Point, random_points, sweep_points
from mnist100.search.results import TrialResult, best_of, ranked
from mnist100.search.runner import Search, TrialStep, run_search
from mnist100.search.study import Study, StudyError

__all__ = [
    "OtherSearchError",
    "Point",
    "Search",
    "Study",
    "StudyError",
    "TrialResult",
    "TrialStep",
    "best_of",
    "random_points",
    "ranked",
    "run_search",
    "sweep_points",
]
