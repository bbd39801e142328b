"""Measure a trained network on test data: accuracy, every class, and the hardest ones."""

from __future__ import annotations

import argparse
from pathlib import Path

import mnist100
from mnist100.cli.console import (
    accuracy_line,
    class_line,
    class_table,
    load_with_progress,
    name_of,
    open_console,
    print_json,
    say,
)
from mnist100.cli.options import add_dataset, add_json, add_threads, whole
from mnist100.data import PAIRING_SEED, pair
from mnist100.evaluation import evaluate
from mnist100.models import Model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder or model file")
    add_dataset(parser, None, "default: what the model was trained on")
    parser.add_argument(
        "--topk",
        type=whole(1, 100),
        default=5,
        metavar="K",
        help="how many of the hardest classes to list (default: 5)",
    )
    add_threads(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    model = mnist100.load_model(options.model)
    source = load_with_progress(options.dataset or _recorded(model))
    console = open_console(json_output=options.json)
    if source.notice:
        say(console, source.notice)
    pairs = pair(source.test, seed=PAIRING_SEED, repeats=source.repeats)
    result = evaluate(model, pairs)
    hardest = result.hardest(options.topk)
    if options.json:
        labels = [one.label for one in hardest]
        about = {"dataset": source.name, "model": str(options.model), "notice": source.notice}
        print_json(about | result.as_dict() | {"hardest": labels})
        return
    name = name_of(source)
    say(console, f"Accuracy by class on {name}, % (tens down, ones across)")
    for line in class_table(result):
        say(console, line)
    say(console, f"\nHardest classes on {name} (lowest accuracy):")
    for one in hardest:
        say(console, class_line(one))
    say(console, "\n" + accuracy_line(result, name))


def _recorded(model: Model) -> str:
    """Return the data set that a model says it was trained on; files from elsewhere say nothing."""
    recorded = model.metadata.get("dataset")
    return recorded if isinstance(recorded, str) and recorded else "auto"
