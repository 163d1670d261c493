"""What a benchmark found, for people and for programs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 1  # version of benchmark.json


@dataclass(frozen=True)
class Benchmark:
    """The result of `caloman benchmark`.

    Args:
        content: of benchmark.json.
    """

    content: Mapping[str, Any]

    def __str__(self) -> str:
        notes = (f"! {note}" for note in self.content["notes"])
        return "\n".join([*self._measured(), "", *self._ratios(), *self._inside(), "", *self._published(), *notes])

    def _measured(self) -> Iterator[str]:
        hardware, runs = self.content["hardware"], self.content["runs"]
        load = " to ".join(f"{load:.1f}" for load in hardware["load"])
        yield f"ms per shower on {hardware['threads']} thread(s) of {hardware['cpu']}, load {load}"
        yield f"{runs} runs: mean ± standard deviation, fastest, and least time of the processor"
        head = f"{'ms':>20}{'fastest':>10}{'processor':>11}{'peak GB':>9}"
        yield f"{'':33}{'engine':>10}{'device':>7}{'batch':>7}{'showers':>9}{head}"
        for row in self.content["timings"]:
            name = f"{row['generator']} ({row['parameters'] / 1e6:.2f} M)"
            time = f"{row['mean']:.4g} ± {row['std']:.2g}"
            yield (
                f"{name:33}{row['engine'][-10:]:>10}{row['device']:>7}{row['batch']:>7}{row['showers']:>9}{time:>20}"
                f"{row['fastest']:>10.4g}{row['processor']:>11.4g}{row['peak_gb']:>9.2f}"
            )

    def fastest(self, generator: str, device: str, batch: int) -> dict[str, float]:
        """Engine -> time of its best run [ms per shower], the fastest engine first; processor time unless on a GPU."""
        wanted = (generator, device, batch)
        rows = [r for r in self.content["timings"] if (r["generator"], r["device"], r["batch"]) == wanted]
        time = "processor" if device == "cpu" else "fastest"
        return {row["engine"]: row[time] for row in sorted(rows, key=lambda row: row[time])}

    def _ratios(self) -> Iterator[str]:
        """This run's fastest engine against each engine of the others."""
        names = dict.fromkeys(row["generator"] for row in self.content["timings"])
        cases = dict.fromkeys((row["device"], row["batch"]) for row in self.content["timings"])
        for device, batch in cases:
            for engine, own in list(self.fastest("this run", device, batch).items())[:1]:
                words = [
                    f"{own / time:.2f} of {name}'s {other}"
                    for name in names
                    for other, time in self.fastest(name, device, batch).items()
                    if name != "this run"
                ]
                if words:
                    yield f"{device}, batch {batch}, best runs: {engine} takes {', '.join(words)}"

    def _inside(self) -> Iterator[str]:
        milliseconds, gigabytes = self.content["weights"].values()
        streamed = (
            f"reading all weights once: {1e3 * gigabytes:.1f} MB in {milliseconds:.2f} ms, "
            f"{1e3 * gigabytes / milliseconds:.1f} GB/s"
        )
        for engine, own in list(self.fastest("this run", "cpu", 1).items())[:1]:
            streamed += f"; a shower at batch 1 takes {own / milliseconds:.2f} times that ({engine})"
        yield streamed
        for batch, parts in self.content["shares"].items():
            yield f"eager, batch {batch}: " + ", ".join(f"{name} {share:.0f} %" for name, share in parts.items())
        energies = self.content["energies"]
        pairs = zip(energies["ms"], energies["mev"], strict=True)
        times = ", ".join(f"{time:.4g} ms at {energy / 1e3:.4g} GeV" for time, energy in pairs)
        yield f"eager, batch {energies['batch']}: {times}"

    def _published(self) -> Iterator[str]:
        published = self.content["published"]
        if not published:
            return
        keys = list(next(iter(published.values())))
        yield "published ms per shower (the challenge does not name its hardware, so compare ratios only)"
        yield f"{'':25}" + "".join(f"{key:>11}" for key in keys)
        for name, times in sorted(published.items(), key=lambda item: item[1]["CPU 100"]):
            yield f"{name:25}" + "".join(f"{times[key][0]:>11.4g}" if key in times else f"{'-':>11}" for key in keys)
