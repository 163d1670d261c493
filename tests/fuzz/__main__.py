"""Runs random cases for some minutes, or a number of them; see ``scripts/fuzz --help``."""

import argparse
import pkgutil
import sys
import time
from itertools import islice

import fuzz
from fuzz.runner import run, table

KINDS = sorted(
    module.name
    for module in pkgutil.iter_modules(fuzz.__path__)
    if module.name != "runner" and not module.name.startswith("_")
)


def main() -> int:
    parser = argparse.ArgumentParser("scripts/fuzz", description=fuzz.__doc__)
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=KINDS, help="kinds of input")
    parser.add_argument("--seed", type=int, default=0, help="of all cases; others with every other seed")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long, shared out to the kinds")
    parser.add_argument("--number", type=int, default=None, help="how many cases of each kind, instead of a time")
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to repeat one")
    options = parser.parse_args()
    results = []
    for kind in options.kind:
        start = time.monotonic()
        stop = None if options.number is None else options.first + options.number
        for result in run(kind, islice(enumerate(fuzz.cases(kind, options.seed)), options.first, stop)):
            results.append(result)
            if not result.good:
                where = f"{kind} {result.number} (seed {options.seed})"
                print(f"{where}: {result.outcome}: {result.name}: {result.detail}", flush=True)
            if stop is None and time.monotonic() - start > 60 * options.minutes / len(options.kind):
                break
    print(table(results))
    return int(not all(result.good for result in results))


if __name__ == "__main__":
    sys.exit(main())
