"""Read the numbers in pictures: two digits side by side, drawn or scanned."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mnist100
from mnist100.cli.backend_options import add_backend, chosen_backend
from mnist100.cli.console import open_console, percent, print_json, say
from mnist100.cli.errors import CommandError
from mnist100.cli.options import add_json, add_model, add_threads, whole
from mnist100.models import Model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model(parser)
    parser.add_argument(
        "pictures",
        type=Path,
        nargs="+",
        metavar="PICTURE",
        help="a .png, .jpg, .webp, .bmp or .gif file of one number; 28x56 pixels are taken as they are",
    )
    parser.add_argument(
        "--topk",
        type=whole(1, 100),
        default=3,
        metavar="K",
        help="how many of the most probable numbers to list (default: 3)",
    )
    add_backend(parser)
    add_threads(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    backend = chosen_backend(options)
    model = mnist100.load_model(options.model)
    backend.place(model)
    rows = []
    for path in options.pictures:
        row = {"file": str(path), **_read(model, path, options.topk)}
        rows.append(row)
        if not options.json:
            _tell(row)
    if options.json:
        print_json({"model": str(options.model), "predictions": rows})
    _raise_failures([row["error"] for row in rows if "error" in row])


def _read(model: Model, path: Path, topk: int) -> dict[str, Any]:
    """Return what a picture shows, or why it cannot be read."""
    from mnist100 import pictures, reading  # SciPy and Pillow take a while to import

    try:
        (found,) = reading.read(model, [pictures.read_pair(path)])
    except (pictures.PictureError, OSError) as error:
        return {"error": f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)}
    return found.as_dict(topk)


def _tell(row: dict[str, Any]) -> None:
    if "error" not in row:
        likely = (f"{one['label']:02d} {percent(one['probability'])}" for one in row["topk"])
        say(open_console(json_output=False), f"{row['file']}: " + "  ".join(likely))


def _raise_failures(errors: list[str]) -> None:
    """End with a line for each picture that could not be read; the others have been told."""
    if not errors:
        return
    console = open_console(json_output=True)
    for line in errors[:-1]:
        say(console, f"mnist100: error: {line}")
    raise CommandError(errors[-1])
