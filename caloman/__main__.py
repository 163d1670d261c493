"""Runs the ``caloman`` command as ``python -m caloman``."""

import sys

from caloman.cli import main

sys.exit(main())
