"""Measure everything, interleaved, and write RESULTS.md and its chart.

python bench/report.py              # ten minutes: all, written to bench/, with the README's table
python bench/report.py --quick --out FOLDER   # one to three minutes: fewer rounds, no torch.compile
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import chart
import goals
import results
import startup
from measure import FULL, QUICK, Contest, Lab
from results import Findings
from timing import copy_bandwidth
from workloads import (
    CONVOLUTIONS,
    EPOCH,
    GEMMS,
    INFERENCE,
    LATENCY,
    LAYERS,
    STEP,
    WINDOWS,
)

HERE = Path(__file__).parent
LIVE_STEPS = 100


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--threads", type=int, default=min(2, cores), help="of every library (default: %(default)s)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a look, in one to three minutes: few rounds, no torch.compile",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE,
        metavar="FOLDER",
        help="for RESULTS.md and the charts (default: bench/, and the table in README.md)",
    )
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.threads <= cores:
        parser.error(f"--threads: got {chosen.threads}, wants 1 to {cores}, the cores")
    if chosen.quick and chosen.out == HERE:
        parser.error("--quick: got no --out, wants a folder: published results take a full run")
    return chosen


def contests(lab: Lab, *, quick: bool) -> dict[str, Contest]:
    """Every contest of one workload between libraries, by name."""
    workloads = [STEP, INFERENCE, LATENCY, *WINDOWS, *GEMMS, *LAYERS]
    workloads += [one for one in CONVOLUTIONS if not quick or one.sizes[1:3] == (32, 14)]
    found = {}
    for workload in workloads:
        # NumPy's convolutions of 128 channels would take longer than all the rest.
        numpy = workload in GEMMS if quick else workload not in CONVOLUTIONS
        detail = workload in LAYERS or workload in CONVOLUTIONS
        found[workload.name] = lab.contest(workload, numpy=numpy, detail=detail)
    return found


def threads_and_sets(lab: Lab, facts: dict[str, Any]) -> tuple[list[goals.Row], dict[str, float]]:
    """The rows on threads and instruction sets, and the peak of each set."""
    scaling = lab.scaling((1, 2)) if (os.cpu_count() or 1) > 1 else None
    widest = facts["isa"]
    names = [widest] if widest == "v3" or "v3" not in facts["isas_supported"] else [widest, "v3"]
    times, peaks = lab.instruction_sets(names)
    why = f"{widest} is the widest here"
    wide = widest.startswith("v4")
    rows = [goals.scaling_row(scaling), goals.isa_row(widest, times if wide else None, why)]
    return rows, peaks


def measure(chosen: argparse.Namespace, console: Console) -> Findings:
    """Measure everything; the order keeps what is compared close in time."""
    began = time.monotonic()
    load = os.getloadavg()[0]
    with Lab(chosen.threads, QUICK if chosen.quick else FULL, console) as lab:
        facts = {worker.name: worker.ask("facts") for worker in (lab.ours, lab.torch, lab.numpy)}
        peak = lab.ours.ask("fma_peak", threads=chosen.threads)
        live = lab.ours.ask("live_fractions", steps=LIVE_STEPS)
        bandwidth = copy_bandwidth(chosen.threads)
        found = contests(lab, quick=chosen.quick)
        bare = lab.epoch()
        whole = lab.contest(EPOCH, numpy=False, detail=True)
        rows, peaks = threads_and_sets(lab, facts["mnist100"])
        # Whatever else runs can only lower it: the larger is nearer the truth.
        peak = max(peak, peaks[facts["mnist100"]["isa"]])
        starts = startup.start_times(lab.effort.starts)
    memory = None
    if not chosen.quick:
        with tempfile.TemporaryDirectory() as folder:
            memory = startup.training_memory(Path(folder), chosen.threads)
    return Findings(
        command=f"python bench/report.py{' --quick' if chosen.quick else ''}",
        threads=chosen.threads,
        minutes=(time.monotonic() - began) / 60,
        load=load,
        facts=facts,
        peak=peak,
        peaks=peaks,
        bandwidth=bandwidth,
        rows=[
            *goals.contest_rows(found),
            *goals.share_rows(list(found.values()), peak),
            goals.epoch_row(bare),
            *rows,
            goals.memory_row(memory),
            *goals.start_rows(starts),
        ],
        contests=list(found.values()),
        epoch=whole,
        live=live,
    )


def write(findings: Findings, folder: Path) -> None:
    """Write RESULTS.md and the charts, and beside the published ones the README's table."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(results.document(findings))
    (folder / "RESULTS.md").write_text(text, encoding="utf-8")
    chart.write(findings.rows, "mnist100 against PyTorch and NumPy, fp32", folder)
    if folder == HERE:
        results.update_readme(
            HERE.parent / "README.md", results.readme_lines(findings), results.REPORT
        )


def main() -> None:
    """Run the command."""
    chosen = options()
    console = Console(stderr=True)
    findings = measure(chosen, console)
    write(findings, chosen.out)
    console.print("\n".join(results.goal_table(findings.rows)), markup=False, soft_wrap=True)
    console.print(f"{chosen.out / 'RESULTS.md'}, {findings.minutes:.1f} minutes", highlight=False)


if __name__ == "__main__":
    main()
