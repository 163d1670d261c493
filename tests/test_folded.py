import pytest
import torch
from torch.testing import assert_close

from caloman.flows import CopulaFlow, CouplingFlow, Flow
from caloman.flows.folded import FoldedFlow, fold
from caloman.models import Density

FLOWS = {
    "spline, matrices": lambda d, c: CouplingFlow(d, c, transforms=4, bins=5, bound=3.0, hidden=8),
    "spline, permutations": lambda d, c: CouplingFlow(d, c, transforms=5, bins=4, hidden=8, mixing="permutation"),
    "affine, permutations": lambda d, c: CouplingFlow(d, c, 6, "affine", hidden=8, blocks=1, mixing="permutation"),
    "affine, matrices": lambda d, c: CouplingFlow(d, c, 3, "affine", hidden=8),
    "actnorm": lambda d, c: CouplingFlow(d, c, transforms=4, hidden=8, mixing="permutation", actnorm=True),
}


def randomized(module):
    """Random weights, far from the identity."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.double()


def has_folded(model):
    return any(isinstance(part, FoldedFlow) for part in model.modules())


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize(("features", "context"), [(7, 3), (4, 0), (2, 1)])
def test_a_folded_flow_gives_the_same_samples(kind, features, context):
    flow = randomized(FLOWS[kind](features, context))
    noise = 3 * torch.randn(200, features, dtype=torch.float64)  # outside of the box, too
    condition = torch.randn(200, context, dtype=torch.float64) if context else None
    folded = fold(Density(features, context, lambda *_: flow)).flow
    assert isinstance(folded, FoldedFlow)
    with torch.no_grad():
        assert_close(folded.sample(noise, condition), flow.sample(noise, condition), rtol=1e-7, atol=1e-7)
        assert folded.sample(noise[:0], None if condition is None else condition[:0]).shape == (0, features)


def test_marginals_that_see_the_condition_alone_are_folded():
    flow = randomized(CopulaFlow(3, 2, lambda d, c: CouplingFlow(d, c, transforms=2, hidden=8)))
    noise, context = torch.randn(2, 100, 3, dtype=torch.float64)
    with torch.no_grad():
        assert_close(FoldedFlow(flow).sample(noise, context[:, :2]), flow.sample(noise, context[:, :2]))


@pytest.mark.parametrize("options", [{"residual": False}, {"transforms": 0}])
def test_other_flows_stay_as_they_are(options):
    model = Density(3, 1, lambda d, c: CouplingFlow(d, c, **{"transforms": 2, "hidden": 8} | options))
    assert not has_folded(fold(model))


def test_the_model_itself_is_not_changed():
    model = Density(3, 1, lambda d, c: CouplingFlow(d, c, transforms=2, hidden=8))
    assert has_folded(fold(model))
    assert isinstance(model.flow, Flow)
