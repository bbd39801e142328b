"""``python -m mnist100`` is the command ``mnist100``."""

from __future__ import annotations

import sys

from mnist100.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
