"""Simulates showers with the parametric sampler, a stand-in for Geant4 in size and tests.

Usage: python data_prep/simulate.py OUTPUT --dataset 3 --n 1000 --energies log-uniform:1GeV:1TeV [--seed 1]
"""

import sys

from caloman.cli import main

if __name__ == "__main__":
    sys.exit(main(["simulate", *sys.argv[1:]]))
