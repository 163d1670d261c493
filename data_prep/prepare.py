"""Turns official files into one that training reads at disk speed: the same as ``caloman prepare``.

Usage: python data_prep/prepare.py dataset_3_1.hdf5 dataset_3_2.hdf5 ds3.h5 --dataset 3
"""

import sys

from caloman.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
