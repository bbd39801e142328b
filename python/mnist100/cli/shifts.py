"""Measure trained networks on test images that have moved, and draw how their accuracy falls."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import mnist100
from mnist100.cli.console import load_with_progress, name_of, open_console, print_json, say
from mnist100.cli.errors import CommandError
from mnist100.cli.options import add_dataset, add_json, add_picture, add_threads, whole
from mnist100.data import published_pairs
from mnist100.shifts import ShiftAccuracies, shift_accuracies


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="RUN_OR_MODEL", help="run folder or model file"
    )
    add_picture(parser)
    parser.add_argument(
        "--reach",
        type=whole(1, 28),
        default=4,
        metavar="PIXELS",
        help="how far the images move, each way (default: 4)",
    )
    add_dataset(parser, "auto", "default: auto")
    add_threads(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from mnist100 import plots  # matplotlib takes half a second to import

    out = Path(options.out)
    plots.check_picture(out)
    names = _names(options.models)
    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    models = {
        name: mnist100.load_model(path) for name, path in zip(names, options.models, strict=True)
    }
    for name, model in models.items():
        if model.normalisation is None:
            raise CommandError(f"{name}: holds no normalisation, wants a trained model")
    source = load_with_progress(options.dataset)
    console = open_console(json_output=options.json)
    if source.notice:
        say(console, source.notice)
    pairs = published_pairs(source.test, repeats=source.repeats)
    found: dict[str, ShiftAccuracies] = {}
    for name, model in models.items():
        found[name] = shift_accuracies(model, pairs, options.reach)
        for axis, accuracies in _axes(found[name]).items():
            line = "  ".join(f"{by:+d}: {accuracy:.2%}" for by, accuracy in accuracies.items())
            say(console, f"{name} on {name_of(source)}, moved {axis}  {line}")
    plots.save_figure(plots.shift_curves(found, name_of(source)), out)
    if options.json:
        tables = {name: _axes(one) for name, one in found.items()}
        about = {"dataset": source.name, "notice": source.notice, "out": str(out)}
        print_json(about | {"accuracy": tables})
    else:
        say(console, f"Drawn: {out}")


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what to call each model: its folder or file, or the path if two are the same."""
    names = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise CommandError(f"models: got {', '.join(names)}, wants each of them once")
    return names


def _axes(found: ShiftAccuracies) -> dict[str, dict[int, float]]:
    return {"across": dict(found.across), "down": dict(found.down)}
