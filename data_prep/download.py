"""Downloads the official CaloChallenge files: the same as ``caloman download``.

Usage: python data_prep/download.py 2 --folder data --files train
"""

import sys

from caloman.cli import main

if __name__ == "__main__":
    sys.exit(main(["download", *sys.argv[1:]]))
