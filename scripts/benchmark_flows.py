"""Times a coupling spline flow against those of zuko, nflows and normflows, and against its bare matrix products.

Every flow has the same number of couplings, bins and layers, and is called as its users call it, without a gradient.
A library that is not installed is left out. The second table holds CaloFlow's teacher and student.

Usage: python scripts/benchmark_flows.py [--features 32 368] [--batch 4096] [--threads 1 2] [--device cpu]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from caloman.flows import AutoregressiveFlow, CouplingFlow

COUPLINGS, BINS, BOUND, HIDDEN, BLOCKS = 6, 8, 5.0, 128, 2
Call = Callable[[], object]


def ours(features: int, batch: int, device: str) -> dict[str, Call]:
    """The two directions of this package's flow, and the matrix products inside one of them."""
    flow = CouplingFlow(features, 0, COUPLINGS, "spline", BINS, BOUND, HIDDEN, BLOCKS, mixing="permutation")
    flow = randomized(flow).to(device)
    data = torch.randn(batch, features, device=device)
    return {
        "log-density": lambda: flow.log_prob(data),
        "sampling": lambda: flow.sample(torch.randn(batch, features, device=device)),
        "products": matrix_products(flow, data),
    }


def zuko(features: int, batch: int, device: str) -> dict[str, Call]:
    """The same flow of zuko."""
    from zuko.flows import NICE
    from zuko.transforms import MonotonicRQSTransform

    univariate = partial(MonotonicRQSTransform, bound=BOUND)
    shapes, widths = [(BINS,), (BINS,), (BINS - 1,)], [HIDDEN] * (1 + 2 * BLOCKS)
    flow = NICE(features, 0, COUPLINGS, univariate=univariate, shapes=shapes, hidden_features=widths)
    flow = randomized(flow).to(device)
    data = torch.randn(batch, features, device=device)
    return {"log-density": lambda: flow().log_prob(data), "sampling": lambda: flow().sample((batch,))}


def nflows(features: int, batch: int, device: str) -> dict[str, Call]:
    """The same flow of nflows."""
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import CompositeTransform, PiecewiseRationalQuadraticCouplingTransform, RandomPermutation

    net = partial(ResidualNet, hidden_features=HIDDEN, num_blocks=BLOCKS)
    coupling = partial(PiecewiseRationalQuadraticCouplingTransform, num_bins=BINS, tails="linear", tail_bound=BOUND)
    mask = torch.arange(features) % 2
    chain = [part for _ in range(COUPLINGS) for part in (coupling(mask, net), RandomPermutation(features))]
    flow = randomized(Flow(CompositeTransform(chain), StandardNormal([features]))).to(device)
    data = torch.randn(batch, features, device=device)
    return {"log-density": lambda: flow.log_prob(data), "sampling": lambda: flow.sample(batch)}


def normflows(features: int, batch: int, device: str) -> dict[str, Call]:
    """The same flow of normflows."""
    import normflows as nf

    coupling = partial(nf.flows.CoupledRationalQuadraticSpline, features, BLOCKS, HIDDEN, num_bins=BINS)
    chain = [
        part for _ in range(COUPLINGS) for part in (coupling(tail_bound=BOUND), nf.flows.Permute(features, "shuffle"))
    ]
    base = nf.distributions.DiagGaussian(features, trainable=False)
    flow = randomized(nf.NormalizingFlow(base, chain)).to(device)
    data = torch.randn(batch, features, device=device)
    return {"log-density": lambda: flow.log_prob(data), "sampling": lambda: flow.sample(batch)}


def randomized(flow: nn.Module) -> nn.Module:
    """The flow away from its initial weights, for evaluation."""
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.05)
    return flow.eval()


def matrix_products(flow: nn.Module, data: Tensor) -> Call:
    """The products of inputs and weights that one call of the flow contains, and nothing else."""
    operands: list[tuple[Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda m, args, _: operands.append((args[0].clone(), m.weight.T.contiguous())))
        for module in flow.modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.inference_mode():
        flow.log_prob(data)  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    return lambda: [inputs @ weight for inputs, weight in operands]


def fastest(calls: dict[str, Call], repeats: int, device: str) -> dict[str, float]:
    """Shortest of several wall times [s] of each call, taken in turn so that all see the same load."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            with torch.inference_mode():
                call()
            if device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: min(values[1:]) for name, values in times.items()}


def compare(features: int, options: argparse.Namespace) -> Iterator[str]:
    """Lines with the times of all libraries, and our ratios."""
    calls: dict[str, Call] = {}
    for library in (ours, zuko, nflows, normflows):
        try:
            made = library(features, options.batch, options.device)
        except ImportError as error:
            yield f"  {library.__name__:<10} left out: {error}"
            continue
        calls |= {f"{library.__name__} {what}": call for what, call in made.items()}
    times = fastest(calls, options.repeats, options.device)
    for name, seconds in times.items():
        yield f"  {name:<22} {1e3 * seconds:9.1f} ms"
    for what in ("log-density", "sampling"):
        own = times[f"ours {what}"]
        peers = [seconds for name, seconds in times.items() if name.endswith(what) and not name.startswith("ours")]
        best = f"{min(peers) / own:.2f} times as fast as the best other, " if peers else ""
        yield f"  ours, {what}: {best}{own / times['ours products']:.2f} times its products"


def teacher_and_student(options: argparse.Namespace) -> Iterator[str]:
    """Lines with the times of CaloFlow's flow II on 368 voxels, per shower."""
    published = partial(AutoregressiveFlow, 368, 6, transforms=8, bins=8, bound=14.0, blocks=1)
    flows = {"teacher": published(hidden=378), "student": published(hidden=736, direction="sampling")}
    for batch in (1, 100, 1000):
        noise, context = (torch.randn(batch, size, device=options.device) for size in (368, 6))
        calls: dict[str, Call] = {
            name: partial(randomized(flow).to(options.device).sample, noise, context) for name, flow in flows.items()
        }
        times = fastest(calls, 2, options.device)
        per_shower = ", ".join(f"{name} {1e3 * seconds / batch:.2f} ms" for name, seconds in times.items())
        yield f"  batch {batch:>5}: {per_shower} per shower, ratio {times['teacher'] / times['student']:.1f}"


def main() -> None:
    """Prints the tables for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="+", default=[32, 368])
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for threads in options.threads:
        torch.set_num_threads(threads)
        for features in options.features:
            print(f"D = {features}, batch {options.batch}, {options.device}, {threads} threads", flush=True)
            print("\n".join(compare(features, options)), flush=True)
        print(f"CaloFlow, {options.device}, {threads} threads", flush=True)
        print("\n".join(teacher_and_student(options)), flush=True)


if __name__ == "__main__":
    main()
