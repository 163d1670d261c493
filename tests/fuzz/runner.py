"""Runs each case in a process of its own, with limits on memory and time."""

import contextlib
import importlib
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from caloman.cli import main
from fuzz import Case

MEMORY = 2 * 2**30
HEADROOM = 8 * 2**30
"""Address space that a case may take beyond what is loaded: far more than `MEMORY`, so that it shows in the table."""
SECONDS = 60
"""Processor time that a case may take; a process that waits for something is given up after as much wall time."""
OUTPUTS = (1, 2)
OUTCOMES = ("refused", "accepted", "traceback", "crash", "hang", "memory", "stray")
GOOD = ("refused", "accepted")


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Args:
        kind: its kind.
        number: its position in the sequence of its seed.
        name: its name.
        outcome: one of `OUTCOMES`; a stray is a file that a command left where it should not.
        detail: the end of what it printed.
    """

    kind: str
    number: int
    name: str
    outcome: str
    detail: str

    @property
    def good(self) -> bool:
        return self.outcome in GOOD


def run(kind: str, cases: Iterable[tuple[int, Case]]) -> Iterator[Result]:
    """Runs cases one after the other, in processes that have all modules and caches of this one."""
    with _folders() as folder:
        _warm(kind, folder)
    for number, case in cases:
        with _folders() as folder:
            outcome, detail = _run(case, folder)
        yield Result(kind, number, case.name, outcome, detail)


@contextlib.contextmanager
def _folders() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in ("input", "output"):
            (folder / part).mkdir()
        yield folder


def _warm(kind: str, folder: Path) -> None:
    """Runs the commands of a kind on good input, which has to be accepted, or no damage to it would tell anything."""
    kept = [os.dup(number) for number in OUTPUTS]
    _print_to(folder / "printed")
    try:
        with contextlib.chdir(folder / "output"):
            statuses = [main(list(line)) for line in importlib.import_module(f"fuzz.{kind}").warm(folder / "input")]
    finally:
        sys.stdout.flush()
        for number, old in zip(OUTPUTS, kept, strict=True):
            os.dup2(old, number)
            os.close(old)
    if any(statuses):
        raise SystemExit((folder / "printed").read_text())


def _print_to(path: Path) -> None:
    with path.open("w") as printed:
        for number in OUTPUTS:
            os.dup2(printed.fileno(), number)


def _run(case: Case, folder: Path) -> tuple[str, str]:
    child = os.fork()
    if child == 0:
        _child(case, folder)
    status, usage, hung = _wait(child)
    printed = (folder / "printed").read_text(errors="replace")
    detail = " | ".join(printed.split("\n")[-6:])[-600:]
    if hung or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return "hang", detail
    if os.WIFSIGNALED(status):
        return "crash", f"signal {os.WTERMSIG(status)}: {detail}"
    if usage.ru_maxrss * 1024 > MEMORY:
        return "memory", f"{usage.ru_maxrss / 2**20:.1f} GiB: {detail}"
    if re.search(r"^Traceback", printed, re.MULTILINE):
        return "traceback", detail
    if (folder / "stray").exists():
        return "stray", (folder / "stray").read_text()
    return ("refused" if os.WEXITSTATUS(status) else "accepted"), detail


def _wait(child: int) -> tuple[int, resource.struct_rusage, bool]:
    """Waits for the end of a process, or for a minute in which it did nothing."""
    watched, used, since = psutil.Process(child), 0.0, time.monotonic()
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage, False
        if time.monotonic() - since > SECONDS:
            before, used, since = used, sum(watched.cpu_times()[:2]), time.monotonic()
            if used - before < SECONDS / 100:
                os.kill(child, signal.SIGKILL)
                _, status, usage = os.wait4(child, 0)
                return status, usage, True
        time.sleep(0.002)


def _child(case: Case, folder: Path) -> None:
    """Writes the input and runs the commands, in the forked process, which ends here."""
    status = 70
    try:
        _print_to(folder / "printed")
        os.chdir(folder / "output")
        commands = case.write(folder / "input")
        before = _listing(folder / "input")
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, size + HEADROOM))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        statuses = [_command(arguments, folder) for arguments in commands]
        if _listing(folder / "input") != before:
            (folder / "stray").write_text("input was changed")
        status = int(any(statuses))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _command(arguments: Iterable[str], folder: Path) -> int:
    before = _listing(Path.cwd())
    try:
        status = main(list(arguments))
    except SystemExit as error:
        status = int(error.code or 0)
    left = _listing(Path.cwd()) - before
    if any(name.startswith(".") for name, _ in left) or (status and left):
        (folder / "stray").write_text(f"{' '.join(arguments)} left {sorted(left)}")
    return status


def _listing(folder: Path) -> set[tuple[str, int]]:
    return {(str(path.relative_to(folder)), path.lstat().st_size) for path in folder.rglob("*")}


def table(results: Iterable[Result]) -> str:
    """Number of cases of each kind by outcome."""
    results = list(results)
    lines = [f"{'kind':12}{'inputs':>8}" + "".join(f"{outcome:>11}" for outcome in OUTCOMES)]
    for kind in dict.fromkeys(result.kind for result in results):
        counts = Counter(result.outcome for result in results if result.kind == kind)
        lines.append(f"{kind:12}{counts.total():>8}" + "".join(f"{counts[outcome]:>11}" for outcome in OUTCOMES))
    return "\n".join(lines)
