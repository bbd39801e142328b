"""The options of the commands that search, and what they say to try."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnist100.cli.backend_options import add_backend
from mnist100.cli.errors import UsageError
from mnist100.cli.options import MOST_SEED, add_dataset, add_json, add_threads, some_text, whole
from mnist100.cli.recipe_options import add_recipe, value_of
from mnist100.search.folder import STUDY
from mnist100.search.points import Point, random_points
from mnist100.training.recipes import RecipeError, parse, wants

EPOCHS = 3  # enough to tell good values from bad ones, and a seventh of a whole run
TRIALS = 20  # the best of 20 draws is among the best 10 % of all with a chance of 88 %
MOST_TRIALS = 10_000

# A factor of ten to either side of the default recipe's rate, 3e-3: in three epochs on MNIST, 3e-4 got
# 82 % on dev and 2e-2 got 96 %. A λ of 1e-6 is as good as none; one of 0.1 was best, so the range goes on.
_RANGES = {"lr_min": 3e-4, "lr_max": 3e-2, "reg_min": 1e-6, "reg_max": 1.0}


@dataclass(frozen=True)
class Space:
    """What a search tries.

    Parameters
    ----------
    command
        Whose search it is.
    options
        The values of that command's own options, by name.
    varied
        The keys of the recipe that differ from trial to trial.
    points
        What follows from them, a point a trial.
    may_grow
        Those of `options` that may be larger when a search goes on.
    """

    command: str
    options: dict[str, Any]
    varied: tuple[str, ...]
    points: tuple[Point, ...]
    may_grow: tuple[str, ...] = ()


def add_search_options(parser: argparse.ArgumentParser, *, varied: Sequence[str]) -> None:
    """Add the options that every search has, and those of its recipe but for what it varies."""
    add_dataset(parser, "auto", "default: auto")
    parser.add_argument(
        "--out",
        type=some_text("a folder"),
        metavar="FOLDER",
        help="where to write; the same command goes on with what it finds there (default: the first "
        "free runs/COMMAND-NUMBER)",
    )
    parser.add_argument(
        "--storage",
        type=some_text("an Optuna storage URL or a file"),
        metavar="URL|FILE",
        help="where the Optuna study is kept: a URL such as sqlite:///study.db, or an SQLite file "
        f"(default: {STUDY} in the search's folder)",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="give up on a trial whose best dev accuracy is below the median of the complete trials "
        "at the same epoch, once there are three of them",
    )
    parser.add_argument(
        "--seed",
        type=whole(0, MOST_SEED),
        default=0,
        metavar="N",
        help="of what is drawn to try, and of every training, which is alike in all trials (default: 0)",
    )
    parser.add_argument(
        "--dev-size",
        type=whole(1, 2**31 - 1),
        metavar="N",
        help="training digits, or finished pairs, set aside to choose on (default: 10,000 of MNIST's "
        "60,000, 300 of digits, else one in six)",
    )
    add_backend(parser)
    add_threads(parser)
    add_json(parser)
    parser.add_argument(
        "--epochs",
        type=value_of("epochs"),
        default=EPOCHS,
        metavar="X",
        help=f"passes of a trial over the training pairs, at most (default: {EPOCHS}, whatever the "
        "recipe says)",
    )
    add_recipe(parser, without=("epochs", *varied))


def add_ranges(parser: argparse.ArgumentParser) -> None:
    """Add ``--trials`` and the ends of the ranges of a random search."""
    parser.add_argument(
        "--trials",
        type=whole(1, MOST_TRIALS),
        default=TRIALS,
        metavar="N",
        help=f"how many pairs of values to draw and try; may be raised later (default: {TRIALS})",
    )
    texts = {"lr": "learning rate", "reg": "strength of the L2 term"}
    for key, default in _RANGES.items():
        name, end = key.split("_")
        side = "least" if end == "min" else "largest"
        parser.add_argument(
            f"--{name}-{end}",
            type=above_zero,
            default=default,
            metavar="X",
            help=f"{side} {texts[name]}; drawn log-uniformly (default: {default:g})",
        )


def random_space(command: str, options: argparse.Namespace) -> Space:
    """Return what a random search of these options tries.

    Raises
    ------
    UsageError
        If a range is empty.
    """
    for name in ("lr", "reg"):
        low, high = (getattr(options, f"{name}_{end}") for end in ("min", "max"))
        if low > high:
            raise UsageError(
                f"argument --{name}-min: got {low:g}, wants at most --{name}-max, {high:g}"
            )
    points = random_points(
        options.trials,
        learning_rate=(options.lr_min, options.lr_max),
        reg_lambda=(options.reg_min, options.reg_max),
        seed=options.seed,
    )
    values = {key: getattr(options, key) for key in ("trials", *_RANGES)}
    return Space(command, values, RANDOM_KEYS, points, may_grow=("trials",))


RANDOM_KEYS = ("learning_rate", "reg_lambda")


def above_zero(text: str) -> float:
    """Read a number above 0, as a learning rate is."""
    try:
        value: float = parse("learning_rate", text)
    except RecipeError:
        raise argparse.ArgumentTypeError(f"got {text!r}, wants {wants('learning_rate')}") from None
    return value
