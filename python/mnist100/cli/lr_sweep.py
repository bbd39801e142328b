"""Train a few epochs with each of some learning rates, and compare them on dev."""

from __future__ import annotations

import argparse

from mnist100.cli.recipe_options import chosen_recipe
from mnist100.cli.search_options import Space, above_zero, add_search_options
from mnist100.cli.searching import finish, search, search_folder
from mnist100.search.points import sweep_points

COMMAND = "lr-sweep"
_RATES = "5e-4,1e-3,2e-3,4e-3,8e-3"
_VARIED = ("learning_rate",)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--learning-rates",
        type=_rates,
        default=_rates(_RATES),
        metavar="X,X,...",
        help=f"what to try, each once (default: {_RATES})",
    )
    add_search_options(parser, varied=_VARIED)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    recipe = chosen_recipe(options)
    rates = options.learning_rates
    space = Space(
        COMMAND, {"learning_rates": rates}, _VARIED, sweep_points(rates, recipe.reg_lambda)
    )
    found = search(options, space, recipe, search_folder(options, COMMAND))
    finish(options, found, space)


def _rates(text: str) -> list[float]:
    rates = [above_zero(part.strip()) for part in text.split(",")]
    if len(set(rates)) < len(rates):
        raise argparse.ArgumentTypeError(f"got {text!r}, wants every learning rate once")
    return rates
