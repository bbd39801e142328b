"""The options that change a recipe: its name and single values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import Any

from mnist100.cli.errors import UsageError
from mnist100.models import ARCHITECTURES
from mnist100.training import recipes

_OPTIONS = {
    "model": "the network",
    "channels": "widths of the siamese network, like 16-32,32-64,64",
    "epochs": "passes over the training pairs, at most",
    "batch_size": "pairs in one step",
    "precision": "of products on a GPU: fp32, tf32 or bf16",
    "learning_rate": "Adam's rate; the peak of a one-cycle schedule",
    "reg_lambda": "strength of the L2 term",
    "weight_decay": "decoupled decay of the weights",
    "dropout": "probability that a unit is dropped",
    "patience": "epochs without a gain on dev before training stops",
    "min_delta": "gain in dev accuracy from which an epoch counts",
}


def add_recipe(parser: argparse.ArgumentParser, *, without: Collection[str] = ()) -> None:
    """Add ``--recipe`` and one option for each value of it that a command line may change.

    Parameters
    ----------
    parser
        To add them to.
    without
        Keys that the command chooses itself.
    """
    parser.add_argument(
        "--recipe",
        type=_recipe,
        metavar="NAME|FILE",
        help="default, reference (the origin's training), fast, cnn-best, best, a TOML file or the config.toml of a "
        "run (default: default); the options below change single values of it",
    )
    for key in (key for key in _OPTIONS if key not in without):
        parser.add_argument(
            "--" + key.replace("_", "-"),
            type=value_of(key),
            metavar="|".join(ARCHITECTURES) if key == "model" else "X",
            help=_OPTIONS[key],
        )


def chosen_recipe(options: argparse.Namespace) -> recipes.Recipe:
    """Return the recipe that the options ask for.

    Raises
    ------
    UsageError
        If they give widths to a network that has its own.
    """
    recipe: recipes.Recipe = options.recipe or recipes.load_recipe("default")
    given = _given(options)
    chosen = recipe.replace(**given)
    if "channels" in given and chosen.model != "siamese":
        raise UsageError(
            f"argument --channels: got {chosen.channels} with --model {chosen.model}, which has widths "
            "of its own; wants --model siamese"
        )
    return chosen


def is_option(key: str) -> bool:
    """Return whether a key of recipes has an option of its own."""
    return key in _OPTIONS


def contradictions(options: argparse.Namespace, recipe: recipes.Recipe) -> dict[str, Any]:
    """Return what the options say otherwise than `recipe`, by key."""
    asked = chosen_recipe(options).as_dict() if options.recipe else _given(options)
    return {key: value for key, value in asked.items() if value != getattr(recipe, key)}


def _given(options: argparse.Namespace) -> dict[str, Any]:
    values = {key: getattr(options, key, None) for key in _OPTIONS}
    return {key: value for key, value in values.items() if value is not None}


def _recipe(name: str) -> recipes.Recipe:
    try:
        return recipes.load_recipe(name)
    except recipes.RecipeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def value_of(key: str) -> Callable[[str], Any]:
    """Make an option type: a value of a key of recipes."""

    def convert(text: str) -> Any:
        try:
            return recipes.parse(key, text)
        except recipes.RecipeError:
            raise argparse.ArgumentTypeError(f"got {text!r}, wants {recipes.wants(key)}") from None

    return convert
