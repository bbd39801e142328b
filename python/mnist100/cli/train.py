"""Train a network, keep the one that is best on dev, and test it."""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

import mnist100
from mnist100.cli.backend_options import add_backend, open_backend
from mnist100.cli.console import (
    TrainingDisplay,
    accuracy_line,
    name_of,
    open_console,
    percent,
    print_json,
    say,
    threads_in_use,
)
from mnist100.cli.endings import explained, explained_test
from mnist100.cli.inputs import count_pairs, dataset_name, load_splits
from mnist100.cli.options import MOST_SEED, add_dataset, add_json, add_threads, some_text, whole
from mnist100.cli.plan import Plan, check_data, make_plan
from mnist100.cli.recipe_options import add_recipe
from mnist100.cli.seldom import Seldom
from mnist100.data import Source, Splits, published_pairs
from mnist100.evaluation import evaluate
from mnist100.models import Model
from mnist100.training import EpochReport, FitResult, fit, run_folder, tensorboard
from mnist100.training.backends import Native
from mnist100.training.interrupt import hold_signals
from mnist100.training.keeper import is_complete
from mnist100.training.provenance import data_checksums, environment

VERSION = importlib.metadata.version("mnist100")
SECONDS_BETWEEN_CURVES = 1.0  # drawing takes a quarter of one, an epoch on a GPU a twentieth


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_dataset(parser, None, "default: auto")
    parser.add_argument(
        "--out",
        type=some_text("a folder"),
        metavar="FOLDER",
        help="the run's folder, new or empty of runs (default: the first free runs/MODEL-NUMBER)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out, by its own config.toml, as if it had never been stopped",
    )
    parser.add_argument(
        "--seed",
        type=whole(0, MOST_SEED),
        metavar="N",
        help="of the weights and everything drawn in training (default: 0)",
    )
    parser.add_argument(
        "--dev-size",
        type=whole(0, 2**31 - 1),
        metavar="N",
        help="training digits, or finished pairs, set aside to choose on; 0 for none, and no early "
        "stopping (default: 10,000 of MNIST's 60,000, 300 of digits, else one in six)",
    )
    parser.add_argument(
        "--log",
        choices=("tensorboard",),
        help=f"write every epoch to FOLDER/{tensorboard.FOLDER} too (needs tensorboardX)",
    )
    add_backend(parser)
    add_threads(parser)
    add_json(parser)
    add_recipe(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    plan = make_plan(options)
    if plan.log:
        tensorboard.check_installed()
    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    backend = open_backend(plan.backend, plan.device, plan.recipe)
    console = open_console(json_output=options.json)
    source, splits = load_splits(console, plan.dataset, plan.dev_size, plan.recipe)
    facts = run_facts(plan, source, splits, options.command)
    check_data(plan, facts, given=options.dataset)
    outcome = train_and_test(console, plan, backend, source, splits, facts)
    if options.json:
        print_json(outcome)


def train_and_test(
    console: Console,
    plan: Plan,
    backend: Native,
    source: Source,
    splits: Splits,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Train as planned, or go on, and test what was best on dev; return what ``--json`` prints.

    Parameters
    ----------
    console
        Where to say how it goes.
    plan, backend
        What to train, into which folder, and what computes it.
    source, splits
        The plan's data.
    facts
        What `run_facts` says of the run; those of a run that goes on have been checked.

    Raises
    ------
    Interrupted, CommandError
        If the run ends before its time; the message says what was kept.
    """
    model = plan.recipe.network(plan.seed)
    model.metadata.update(dataset=facts["dataset"], version=VERSION)
    _introduce(console, source, splits, model, plan)
    started = time.perf_counter()
    if not plan.config:
        # Before `explained`, which would clear the folder of a run that got there first.
        run_folder.create_folder(plan.out, facts)
    # Held from before the first file, so that a run is left with all that it needs to go on.
    with explained(plan.out), hold_signals():
        result = _fit(console, model, backend, splits, plan, source, facts)
    seconds = time.perf_counter() - started
    with explained_test(plan.out):
        test = evaluate(model, published_pairs(source.test, repeats=source.repeats))
    say(
        console,
        f"{accuracy_line(test, name_of(source))}; kept in {plan.out}; "
        f"see more: mnist100 evaluate {plan.out}",
    )
    return _outcome(source, plan, result, seconds) | test.as_dict()


def _introduce(console: Console, source: Source, splits: Splits, model: Model, plan: Plan) -> None:
    size = sum(parameter.value.size for parameter in model.parameters())
    say(
        console,
        f"Training {model.architecture} ({size:,} parameters) on {source.name}: "
        f"{count_pairs(source, splits.train)} training, {count_pairs(source, splits.dev)} dev and "
        f"{count_pairs(source, splits.test)} test pairs, {plan.backend} backend on {plan.device}, "
        f"{threads_in_use()}, into {plan.out}",
    )


def _fit(
    console: Console,
    model: Model,
    backend: Native,
    splits: Splits,
    plan: Plan,
    source: Source,
    facts: dict[str, Any],
) -> FitResult:
    """Train into the run folder, or go on there."""
    # Matplotlib takes half a second to import, which a wrong option should not have to wait for.
    from mnist100.plots import save_curves

    history = [] if plan.checkpoint is None else list(plan.checkpoint.history)
    complete = is_complete(history, plan.recipe)
    if complete:
        say(console, f"{plan.out} is complete: there is no epoch left to train")
    elif plan.config:
        say(console, _going_on_line(plan, facts))
        run_folder.clear_leftovers(plan.out)
        run_folder.write_config(plan.out, _with_resumption(plan, facts))
    display = TrainingDisplay(console, name_of(source))
    with display.running(), _epoch_log(plan, len(history) + 1) as log:

        def draw() -> None:
            title = f"{plan.out.name} on {name_of(source)}"
            save_curves(history, plan.out / run_folder.CURVES, title)

        drawing = Seldom(draw, SECONDS_BETWEEN_CURVES)

        def on_epoch(report: EpochReport) -> None:
            display.on_epoch(report)
            history.append(report.record)
            drawing()
            log(report)

        with drawing.at_the_end():
            result = fit(
                model,
                splits,
                plan.recipe,
                seed=plan.seed,
                repeats=source.repeats,
                backend=backend,
                out=plan.out,
                resume=plan.checkpoint,
                on_step=display.on_step,
                on_epoch=on_epoch,
            )
    if result.stopped_early:
        patience = plan.recipe.patience
        span = "an epoch" if patience == 1 else f"{patience} epochs"
        say(console, f"Stopped early: no gain on dev for {span}")
    say(console, _best_line(result, source))
    return result


@contextmanager
def _epoch_log(plan: Plan, first_epoch: int) -> Iterator[Callable[[EpochReport], None]]:
    """Give a block what takes the epochs for ``--log``."""
    if plan.log is None:
        yield lambda _: None
        return
    log = tensorboard.TensorBoardLog(plan.out / tensorboard.FOLDER, first_epoch)
    try:
        yield lambda report: log.add(report.record)
    finally:
        log.close()


def _best_line(result: FitResult, source: Source) -> str:
    if result.dev_accuracy is None:
        return f"Kept the weights of the last epoch, {result.best_epoch}: there is no dev set"
    return (
        f"Kept the weights of epoch {result.best_epoch}: dev accuracy "
        f"{percent(result.dev_accuracy)} on {name_of(source)}"
    )


def _going_on_line(plan: Plan, facts: dict[str, Any]) -> str:
    before, now = plan.config.get("environment", {}), facts["environment"]
    odd = [key for key in ("mnist100", "isa", "torch") if before.get(key) != now.get(key)]
    rounding = "".join(
        f"; it was started with {key} {before.get(key)} and goes on with {now[key]}, which may "
        "round otherwise"
        for key in odd
    )
    if plan.checkpoint is None:
        return f"Going on with {plan.out} from its beginning{rounding}"
    tally = plan.checkpoint.tally
    return f"Going on with {plan.out} in epoch {tally.epoch} after {tally.step} steps{rounding}"


def _with_resumption(plan: Plan, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the run's config with one more entry of how it went on."""
    environment = facts["environment"]
    entry = {"command": facts["command"], **environment}
    return plan.config | {"resumed": [*plan.config.get("resumed", []), entry]}


def run_facts(plan: Plan, source: Source, splits: Splits, command: str) -> dict[str, Any]:
    """Return what ``config.toml`` says of a run."""
    return {
        "command": command,
        "dataset": dataset_name(source),
        "seed": plan.seed,
        "dev_size": 0 if splits.dev is None else len(splits.dev),
        "backend": plan.backend,
        "device": plan.device,
        **({"log": plan.log} if plan.log else {}),
        "recipe": plan.recipe.as_dict(),
        "environment": environment(plan.backend),
        "data": data_checksums(splits),
    }


def _outcome(source: Source, plan: Plan, result: FitResult, seconds: float) -> dict[str, Any]:
    return {
        "dataset": source.name,
        "notice": source.notice,
        "out": str(plan.out),
        "seed": plan.seed,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "dev_accuracy": result.dev_accuracy,
        "stopped_early": result.stopped_early,
        "seconds": seconds,
    }
