"""Show what this installation is made of: version, instruction sets, threads, compiler."""

from __future__ import annotations

import argparse

import mnist100
from mnist100._config import config
from mnist100.cli.console import print_json
from mnist100.cli.options import add_json


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if options.json:
        print_json(config())
    else:
        mnist100.show_config()
