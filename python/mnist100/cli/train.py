"""Train a network, keep the one that is best on dev, and test it."""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

import mnist100
from mnist100 import models
from mnist100._config import config
from mnist100.cli.console import (
    TrainingDisplay,
    accuracy_line,
    load_with_progress,
    name_of,
    open_console,
    percent,
    print_json,
    say,
)
from mnist100.cli.errors import CommandError, Interrupted, UsageError
from mnist100.cli.options import MOST_SEED, add_dataset, add_json, add_threads, some_text, whole
from mnist100.cli.recipe_options import add_recipe, chosen_recipe
from mnist100.data import PAIRING_SEED, DigitSet, Source, Splits, pair, split
from mnist100.evaluation import evaluate
from mnist100.models import Model
from mnist100.training import FitResult, Recipe, TrainingError, fit, run_folder

VERSION = importlib.metadata.version("mnist100")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_dataset(parser, "auto", "default: auto")
    parser.add_argument(
        "--out",
        type=some_text("a folder"),
        metavar="FOLDER",
        help="the run's folder, new or empty of runs (default: the first free runs/MODEL-NUMBER)",
    )
    parser.add_argument(
        "--seed",
        type=whole(0, MOST_SEED),
        default=0,
        metavar="N",
        help="of the weights and everything drawn in training (default: 0)",
    )
    parser.add_argument(
        "--dev-size",
        type=whole(0, 2**31 - 1),
        metavar="N",
        help="training digits set aside to choose on; 0 for none, and no early stopping "
        "(default: one in six)",
    )
    add_threads(parser)
    add_json(parser)
    add_recipe(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    recipe = chosen_recipe(options)
    out = Path(options.out) if options.out else run_folder.default_folder(recipe.model)
    run_folder.check_folder(out)
    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    console = open_console(json_output=options.json)
    source = load_with_progress(options.dataset)
    if source.notice:
        say(console, source.notice)
    splits = _split(source, options.dev_size)
    model = models.ARCHITECTURES[recipe.model](dropout=recipe.dropout, seed=options.seed)
    model.metadata.update(dataset=_dataset(source), version=VERSION)
    _introduce(console, source, splits, model, out)
    started = time.perf_counter()
    with _explaining(out):
        result = _fit(console, model, splits, recipe, source, out, options.seed)
        seconds = time.perf_counter() - started
        test = evaluate(model, pair(source.test, seed=PAIRING_SEED, repeats=source.repeats))
    last_line = (
        f"{accuracy_line(test, name_of(source))}; kept in {out}; see more: mnist100 evaluate {out}"
    )
    say(console, last_line)
    if options.json:
        about = _outcome(source, out, options.seed, result, seconds)
        print_json(about | test.as_dict())


def _split(source: Source, dev_size: int | None) -> Splits:
    try:
        return split(source, dev_size)
    except ValueError as error:  # only the data could tell that it is too large
        reason = str(error).removeprefix("dev_size: ")
        raise UsageError(f"argument --dev-size: {reason}") from None


def _dataset(source: Source) -> str:
    """Return what to give ``--dataset`` for the same data again, from any working directory."""
    return source.name if source.name in ("mnist", "digits") else str(Path(source.name).absolute())


def _introduce(console: Console, source: Source, splits: Splits, model: Model, out: Path) -> None:
    def pairs(digits: DigitSet | None) -> str:
        return "no" if digits is None else f"{source.repeats * len(digits):,}"

    size = sum(parameter.value.size for parameter in model.parameters())
    say(
        console,
        f"Training {model.architecture} ({size:,} parameters) on {source.name}: "
        f"{pairs(splits.train)} training, {pairs(splits.dev)} dev and {pairs(splits.test)} test "
        f"pairs, {config()['threads']} threads, into {out}",
    )


def _fit(
    console: Console,
    model: Model,
    splits: Splits,
    recipe: Recipe,
    source: Source,
    out: Path,
    seed: int,
) -> FitResult:
    """Train into the run folder."""
    # Matplotlib takes half a second to import, which a wrong option should not have to wait for.
    from mnist100.plots import save_curves

    run_folder.create_folder(out, _config(source, splits, recipe, seed))
    display = TrainingDisplay(console, name_of(source))
    with display.running():
        result = fit(
            model,
            splits,
            recipe,
            seed=seed,
            repeats=source.repeats,
            out=out,
            on_step=display.on_step,
            on_epoch=display.on_epoch,
        )
    if result.stopped_early:
        say(console, f"Stopped early: no gain on dev for {recipe.patience} epochs")
    say(console, _best_line(result, source))
    save_curves(result.history, out / run_folder.CURVES, f"{out.name} on {name_of(source)}")
    return result


@contextmanager
def _explaining(out: Path) -> Iterator[None]:
    """Turn what ends a run before its time into a line that says what was kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(_kept(out)) from None
    except TrainingError as error:
        raise CommandError(f"{error} (--learning-rate); {_kept(out)}") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); make room "
            f"or give another --out; {_kept(out)}"
        ) from error


def _best_line(result: FitResult, source: Source) -> str:
    if result.dev_accuracy is None:
        return f"Kept the weights of the last epoch, {result.best_epoch}: there is no dev set"
    return (
        f"Kept the weights of epoch {result.best_epoch}: dev accuracy "
        f"{percent(result.dev_accuracy)} on {name_of(source)}"
    )


def _kept(out: Path) -> str:
    if run_folder.discard_if_unused(out):
        return "no epoch was finished, so nothing was kept"
    return f"the best model so far is kept in {out / run_folder.MODEL}"


def _config(source: Source, splits: Splits, recipe: Recipe, seed: int) -> dict[str, Any]:
    return {
        "version": VERSION,
        "dataset": _dataset(source),
        "seed": seed,
        "dev_size": 0 if splits.dev is None else len(splits.dev),
        "threads": config()["threads"],
        "recipe": recipe.as_dict(),
    }


def _outcome(
    source: Source, out: Path, seed: int, result: FitResult, seconds: float
) -> dict[str, Any]:
    return {
        "dataset": source.name,
        "notice": source.notice,
        "out": str(out),
        "seed": seed,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "dev_accuracy": result.dev_accuracy,
        "stopped_early": result.stopped_early,
        "seconds": seconds,
    }
