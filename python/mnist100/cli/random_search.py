"""Draw learning rates and L2 strengths log-uniformly, train a few epochs with each, compare on dev."""

from __future__ import annotations

import argparse

from mnist100.cli.recipe_options import chosen_recipe
from mnist100.cli.search_options import (
    RANDOM_KEYS,
    add_ranges,
    add_search_options,
    random_space,
)
from mnist100.cli.searching import finish, search, search_folder

COMMAND = "random-search"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_ranges(parser)
    add_search_options(parser, varied=RANDOM_KEYS)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    space = random_space(COMMAND, options)
    found = search(options, space, chosen_recipe(options), search_folder(options, COMMAND))
    finish(options, found, space)
