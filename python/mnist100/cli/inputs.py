"""The data of a command that trains: loaded, announced and split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from mnist100.cli.console import load_with_progress, say
from mnist100.cli.errors import UsageError
from mnist100.data import Source, Splits, Table, split
from mnist100.training import Recipe


def load_splits(
    console: Console, dataset: str, dev_size: int | None, recipe: Recipe
) -> tuple[Source, Splits]:
    """Load and split a data set, and say what is special about it.

    Parameters
    ----------
    console
        Where to say it.
    dataset, dev_size
        As the options of these names; `dev_size` None is the data set's own.
    recipe
        The training that the data are for.

    Raises
    ------
    DataError
        If the data cannot be had.
    UsageError
        If `dev_size` leaves nothing to train on.
    """
    source = load_with_progress(dataset)
    if source.notice:
        say(console, source.notice)
    if source.is_paired:
        say(console, _paired_line(source, recipe))
    try:
        splits = split(source, dev_size)
    except ValueError as error:  # only the data could tell that it is too large
        reason = str(error).removeprefix("dev_size: ")
        raise UsageError(f"argument --dev-size: {reason}") from None
    # The splits are copies: of MNIST, the whole would take 47 MB more for as long as the run lasts.
    return dataclasses.replace(source, train=splits.train, default_dev_size=0), splits


def dataset_name(source: Source) -> str:
    """Return what to give ``--dataset`` for the same data again, from any working directory."""
    return source.name if source.name in ("mnist", "digits") else str(Path(source.name).absolute())


def count_pairs(source: Source, table: Table | None) -> str:
    """Return how many pairs a split makes, as people read it."""
    return "no" if table is None else f"{source.repeats * len(table):,}"


def _paired_line(source: Source, recipe: Recipe) -> str:
    fresh = ", though the recipe's pairing is fresh" if recipe.pairing == "fresh" else ""
    return (
        f"{source.name} holds finished pairs: they are split by pair, so that dev may show digits "
        f"that training has seen, and every epoch uses the same pairs{fresh}"
    )
