"""Train every recipe from several seeds on MNIST, test each run once, and write ACCURACY.md.

python bench/accuracy.py --out runs/accuracy    # two hours; goes on where it was stopped
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from results import ACCURACY, machine, table, update_readme

HERE = Path(__file__).parent

# What to type after `mnist100 train --dataset mnist`, by the name of the row.
ROWS = {
    "reference": ["--recipe", "reference"],
    "reference, batch 1024": ["--recipe", "reference", "--batch-size", "1024"],
    "default": [],
    "fast": ["--recipe", "fast"],
    "cnn-best": ["--recipe", "cnn-best"],
    # Chosen on dev, then trained on dev's digits too.
    "best": ["--recipe", "best", "--dev-size", "0"],
}


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    test: float  # accuracy, a fraction
    dev: float | None  # None if all digits were trained on
    wall: float  # seconds from the command's start to its end
    training: float  # seconds, without evaluation


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each recipe (default: 5)")
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which recipes (default: all)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the runs")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write these rows into bench/ACCURACY.md and the README's table too",
    )
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1:
        parser.error(f"--seeds: got {chosen.seeds}, wants at least 1")
    return chosen


def outcome(row: str, seed: int, folder: Path) -> Outcome:
    """Train and test, or go on, or read what an earlier call has left."""
    run = folder / f"{row.replace(', ', '-').replace(' ', '-')}-{seed}"
    kept = run.with_suffix(".json")
    if not kept.exists():
        command = [sys.executable, "-m", "mnist100", "train", "--json"]
        if (run / "config.toml").exists():
            command += ["--resume", "--out", str(run)]
        else:
            command += ["--dataset", "mnist", "--seed", str(seed), "--out", str(run), *ROWS[row]]
        said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
        kept.write_text(said, encoding="utf-8")
    told: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        training = sum(float(epoch["seconds"]) for epoch in csv.DictReader(file))
    return Outcome(told["accuracy"], told["dev_accuracy"], told["seconds"], training)


def lines(found: dict[str, list[Outcome]]) -> list[str]:
    """The table: a row a recipe."""
    seeds = max(len(runs) for runs in found.values())
    head = [
        "`mnist100 train --dataset mnist --seed N …`",
        *(f"seed {seed}" for seed in range(seeds)),
        "mean ± deviation",
        "dev, mean",
        "training",
        "wall time",
    ]
    rows = []
    for row, runs in found.items():
        missing = [""] * (seeds - len(runs))
        devs = [one.dev for one in runs if one.dev is not None]
        tests = [100 * one.test for one in runs]
        spread = f" ± {statistics.stdev(tests):.2f}" if len(runs) > 1 else ""
        rows.append(
            [
                label(row),
                *(f"{test:.2f} %" for test in tests),
                *missing,
                f"**{statistics.mean(tests):.2f} %**{spread}",
                f"{100 * statistics.mean(devs):.2f} %" if devs else "none",
                f"{statistics.median(one.training for one in runs):.0f} s",
                f"{statistics.median(one.wall for one in runs):.0f} s",
            ]
        )
    return table(head, rows)


def label(row: str) -> str:
    """The first cell of a row."""
    return f"`{' '.join(ROWS[row])}`" if ROWS[row] else "(default)"


def merged(text: Sequence[str], about: str, document: str) -> list[str]:
    """Return a table with the rows of a published document that it lacks.

    Parameters
    ----------
    text
        The lines of the table.
    about
        The line below it: how and where its seconds were taken.
    document
        What ``ACCURACY.md`` says; may be empty.

    Raises
    ------
    SystemExit
        If those rows are of another machine or of other seeds.
    """
    head, rule, *rows = text
    there = document.splitlines()
    found = {row.split("|")[1].strip(): row for row in rows}
    kept = {row.split("|")[1].strip(): row for row in there if row.startswith("| ")}
    kept = {cell: row for cell, row in kept.items() if cell in map(label, ROWS)}
    if not kept.keys() <= found.keys() and not {head, about} <= set(there):
        raise SystemExit(
            f"ACCURACY.md: has rows of another machine or of other seeds; publish all of {', '.join(kept)}"
        )
    every = kept | found
    return [head, rule, *(every[label(row)] for row in ROWS if label(row) in every)]


def main() -> None:
    """Run the command."""
    chosen = options()
    console = Console(stderr=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Outcome]] = {row: [] for row in chosen.rows}
    for seed in range(chosen.seeds):
        for row in chosen.rows:
            one = outcome(row, seed, chosen.out)
            found[row].append(one)
            console.print(
                f"{row}, seed {seed}: {one.test:.2%} on test, {one.training:.0f} s of training"
            )
    text = lines(found)
    console.print("\n".join(text), soft_wrap=True, markup=False, highlight=False)
    if chosen.publish:
        about = f"Medians of seconds; {machine()}"
        file = HERE / "ACCURACY.md"
        text = merged(text, about, file.read_text(encoding="utf-8") if file.exists() else "")
        file.write_text("\n".join(["# Accuracy", "", *text, "", about, ""]), encoding="utf-8")
        update_readme(HERE.parent / "README.md", [*text, "", about], ACCURACY)


if __name__ == "__main__":
    main()
