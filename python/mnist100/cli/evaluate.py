"""Measure a trained network on test data: accuracy, every class, and the hardest ones."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import mnist100
from mnist100.cli.backend_options import add_backend, chosen_backend
from mnist100.cli.console import (
    accuracy_line,
    calibration_line,
    class_line,
    class_table,
    digit_table,
    load_with_progress,
    name_of,
    open_console,
    print_json,
    say,
)
from mnist100.cli.errors import CommandError
from mnist100.cli.options import add_dataset, add_json, add_model, add_threads, some_text, whole
from mnist100.data import PairSet, published_pairs
from mnist100.evaluation import Answers, answer, summarise
from mnist100.files import check_writable
from mnist100.models import Model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model(parser)
    add_dataset(parser, None, "default: what the model was trained on")
    parser.add_argument(
        "--topk",
        type=whole(1, 100),
        default=5,
        metavar="K",
        help="how many of the hardest classes to list (default: 5)",
    )
    parser.add_argument(
        "--plots",
        type=some_text("a folder"),
        metavar="FOLDER",
        help="draw the errors there: confusion.png, and mistakes.png, the ones it was surest of",
    )
    add_backend(parser)
    add_threads(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    pictures = None if options.plots is None else _free_pictures(Path(options.plots))
    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    backend = chosen_backend(options)
    model = mnist100.load_model(options.model)
    backend.place(model)
    source = load_with_progress(options.dataset or _recorded(model))
    console = open_console(json_output=options.json)
    if source.notice:
        say(console, source.notice)
    pairs = published_pairs(source.test, repeats=source.repeats)
    answers = answer(model, pairs)
    result = summarise(answers)
    if pictures is not None:
        _draw(pictures, pairs, answers, f"{options.model} on {name_of(source)}")
    hardest = result.hardest(options.topk)
    if options.json:
        labels = [one.label for one in hardest]
        about = {
            "dataset": source.name,
            "model": str(options.model),
            "notice": source.notice,
            "plots": [str(path) for path in pictures or ()],
        }
        print_json(about | result.as_dict() | {"hardest": labels})
        return
    name = name_of(source)
    say(console, f"Accuracy by class on {name}, %, its 95% interval below (tens down, ones across)")
    for line in class_table(result):
        say(console, line)
    say(console, f"\nAccuracy by digit on {name}, with its 95% interval")
    for line in digit_table(result):
        say(console, line)
    say(console, f"\nHardest classes on {name} (lowest accuracy):")
    for one in hardest:
        say(console, class_line(one))
    say(console, "\n" + calibration_line(result, name))
    if pictures is not None:
        say(console, f"Drawn: {', '.join(map(str, pictures))}")
    say(console, accuracy_line(result, name))


def _free_pictures(folder: Path) -> list[Path]:
    """Return the pictures to draw, once it is sure that they can be and that nothing is there yet."""
    pictures = [folder / name for name in ("confusion.png", "mistakes.png")]
    for path in pictures:
        if os.path.lexists(path):
            raise CommandError(f"{path}: exists already; give another --plots")
    check_writable(folder, option="--plots")
    return pictures


def _draw(pictures: list[Path], pairs: PairSet, answers: Answers, title: str) -> None:
    from mnist100 import error_plots, plots  # matplotlib takes half a second to import

    confusion, mistakes = pictures
    confusion.parent.mkdir(parents=True, exist_ok=True)
    plots.save_figure(error_plots.confusion_figure(answers, title), confusion)
    plots.save_figure(error_plots.mistakes_figure(pairs, answers, title), mistakes)


def _recorded(model: Model) -> str:
    """Return the data set that a model says it was trained on; files from elsewhere say nothing."""
    recorded = model.metadata.get("dataset")
    return recorded if isinstance(recorded, str) and recorded else "auto"
