"""Draw the curves of one run, or lay those of several over each other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnist100.cli.console import open_console, print_json, say
from mnist100.cli.errors import CommandError
from mnist100.cli.options import add_json, add_picture
from mnist100.training.history import EpochRecord, read_history
from mnist100.training.run_folder import HISTORY


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder or history.csv"
    )
    add_picture(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from mnist100 import plots  # matplotlib takes half a second to import

    out = Path(options.out)
    plots.check_picture(out)
    histories = [_read(path) for path in options.runs]
    names = _names(options.runs)
    if len(histories) == 1:
        figure = plots.curves(histories[0], names[0])
    else:
        figure = plots.comparison(dict(zip(names, histories, strict=True)))
    plots.save_figure(figure, out)
    if options.json:
        print_json({"out": str(out), "runs": names})
    else:
        say(open_console(json_output=False), f"Drawn: {out}")


def _read(path: Path) -> list[EpochRecord]:
    file = path / HISTORY if path.is_dir() else path
    if not file.is_file():
        raise CommandError(f"{path}: no run with a finished epoch here (no {HISTORY})")
    history = read_history(file)
    if not history:
        raise CommandError(f"{file}: holds no epoch")
    return history


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what to call each run: its folder's name, or more of the path if two are the same."""
    folders = [(path if path.is_dir() else path.parent).resolve() for path in paths]
    names = [folder.name for folder in folders]
    if len(set(names)) == len(names):
        return names
    if len(set(folders)) < len(folders):
        raise CommandError(f"runs: got {', '.join(map(str, paths))}, wants each of them once")
    return [str(folder) for folder in folders]
