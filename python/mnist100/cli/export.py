"""Write a trained network to a file for other programs: ONNX, PyTorch or NumPy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import mnist100
from mnist100 import export, modelfile
from mnist100.cli.console import open_console, print_json, say
from mnist100.cli.options import add_json, add_model
from mnist100.files import check_new_file
from mnist100.models import Model

_WRITERS: dict[str, Callable[[Model, Path], None]] = {
    ".onnx": export.save_onnx,
    ".pt": export.save_torch,
    ".npz": modelfile.save_model,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_model(parser)
    parser.add_argument(
        "--out",
        type=_file,
        required=True,
        metavar="FILE",
        help="new .onnx (raw pixels in, labels and probabilities out), .pt or .npz file to write",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    out: Path = options.out
    check_new_file(out)
    _WRITERS[out.suffix](mnist100.load_model(options.model), out)
    if options.json:
        print_json({"model": str(options.model), "out": str(out), "bytes": out.stat().st_size})
    else:
        size = out.stat().st_size / 1e6
        say(open_console(json_output=False), f"Written: {out} ({size:.1f} MB)")


def _file(text: str) -> Path:
    path = Path(text)
    if path.suffix not in _WRITERS or not path.stem:
        raise argparse.ArgumentTypeError(f"got {text!r}, wants a file named .onnx, .pt or .npz")
    return path
