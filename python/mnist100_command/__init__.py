"""The console script ``mnist100``.

Apart from the package, so that what its import refuses (an instruction set that this CPU lacks, a
missing extension) ends in one line like every other failure.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return its exit code."""
    try:
        from mnist100.cli.main import main as run
    except KeyboardInterrupt:
        return 130
    except (ImportError, ValueError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"mnist100: error: {error}", file=sys.stderr)
        return 1
    return run()
