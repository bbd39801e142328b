"""Read the numbers in pictures: two digits side by side, drawn or scanned."""

from __future__ import annotations

import argparse
from pathlib import Path

import mnist100
from mnist100.cli.backend_options import add_backend, chosen_backend
from mnist100.cli.console import open_console, percent, print_json, say
from mnist100.cli.options import add_json, add_threads, whole


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder or model file")
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
    from mnist100 import pictures, reading  # SciPy and Pillow take a while to import

    if options.threads is not None:
        mnist100.set_num_threads(options.threads)
    backend = chosen_backend(options)
    model = mnist100.load_model(options.model)
    backend.place(model)
    images = [pictures.read_pair(path) for path in options.pictures]
    found = list(zip(options.pictures, reading.read(model, images), strict=True))
    if options.json:
        rows = [{"file": str(path), **one.as_dict(options.topk)} for path, one in found]
        print_json({"model": str(options.model), "predictions": rows})
        return
    console = open_console(json_output=False)
    for path, one in found:
        likely = one.most_probable(options.topk)
        say(console, f"{path}: " + "  ".join(f"{label:02d} {percent(p)}" for label, p in likely))
