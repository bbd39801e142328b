"""Search at random for a learning rate and an L2 strength, train with the best of them, and test it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mnist100.cli.console import print_json
from mnist100.cli.errors import CommandError
from mnist100.cli.plan import Plan, at_checkpoint, check_data, read_plan
from mnist100.cli.recipe_options import chosen_recipe, value_of
from mnist100.cli.search_options import (
    RANDOM_KEYS,
    add_ranges,
    add_search_options,
    random_space,
)
from mnist100.cli.searching import Found, as_json, search, search_folder, whole_recipe
from mnist100.cli.train import run_facts, train_and_test
from mnist100.search import folder
from mnist100.training import Recipe, run_folder

COMMAND = "auto-train"
SEARCH = "search"  # the search's folder, in that of the run

_FINAL = {
    "epochs": "epochs of the final training, at most (default: as the recipe says)",
    "batch_size": "pairs in one of its steps (default: as in the search)",
    "dropout": "probability that a unit is dropped in it (default: as in the search)",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_ranges(parser)
    for key, help_text in _FINAL.items():
        parser.add_argument(
            f"--final-{key.replace('_', '-')}", type=value_of(key), metavar="X", help=help_text
        )
    add_search_options(parser, varied=RANDOM_KEYS)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    out = search_folder(options, COMMAND)
    if not (out / SEARCH / folder.CONFIG).exists():
        run_folder.check_folder(out, resumable=False)
    final = _final_recipe(options)
    space = random_space(COMMAND, options)
    # What decides the training after the search decides whether a command is the same, too.
    values = space.options | {f"final_{key}": getattr(final, key) for key in _FINAL}
    # More trials may find another best, which a training that has begun cannot take up.
    may_grow = () if (out / run_folder.CONFIG).exists() else space.may_grow
    space = dataclasses.replace(space, options=values, may_grow=may_grow)
    found = search(options, space, chosen_recipe(options), out / SEARCH, again=out)
    outcome = _train(options, found, final.replace(**found.best.point.as_dict()), out)
    if options.json:
        print_json(outcome | {"search": as_json(found, space, options)})


def _final_recipe(options: argparse.Namespace) -> Recipe:
    """Return the recipe of the final training, but for what the search finds."""
    recipe = whole_recipe(options)
    given = {key: getattr(options, f"final_{key}") for key in _FINAL}
    return recipe.replace(**{key: value for key, value in given.items() if value is not None})


def _train(options: argparse.Namespace, found: Found, recipe: Recipe, out: Path) -> dict[str, Any]:
    """Train with what was found, or go on with that, as ``mnist100 train`` does."""
    plan = Plan(
        out=out,
        recipe=recipe,
        dataset=options.dataset,
        seed=options.seed,
        dev_size=options.dev_size,
        backend=found.backend.name,
        device=found.backend.device,
        log=None,
        config={},
        checkpoint=None,
    )
    if (out / run_folder.CONFIG).exists():
        plan = at_checkpoint(read_plan(out, dataset=options.dataset))
        if (plan.recipe, plan.seed) != (recipe, options.seed):
            raise CommandError(
                f"{out}: holds another run than this search ends in; give another --out"
            )
    facts = run_facts(plan, found.source, found.splits, options.command)
    check_data(plan, facts, given=None)
    return train_and_test(found.console, plan, found.backend, found.source, found.splits, facts)
