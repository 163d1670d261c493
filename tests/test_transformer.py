"""Couplings of patches conditioned by transformers: exact, and every patch tells every other."""

import pytest
import torch
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.rivals import TransformerCouplingFlow

SHAPE, D, C = (2, 4, 3), 24, 3
PATCHES = [(1, 2, 1), (2, 1, 3), (2, 2, 1)]


def make(patch=(1, 2, 1), context=C, shape=SHAPE, transforms=4):
    size = shape[0] * shape[1] * shape[2]
    return TransformerCouplingFlow(
        size, context, shape, patch, transforms, bins=4, bound=4.0, hidden=6, depth=2, heads=2, mlp_ratio=2
    )


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("context", [0, C])
def test_inverse_and_log_determinant_both_ways(patch, context, randomize):
    flow = randomize(make(patch, context)).double()
    inputs, condition = doubles(3, D), doubles(3, context) if context else None
    for inverse in (False, True):
        steps = flow.trace(inputs, condition, inverse)
        assert_close(flow.trace(steps[-1].outputs, condition, not inverse)[-1].outputs, inputs)
        jacobian = torch.autograd.functional.jacobian(
            lambda x, inv=inverse: flow.trace(x, condition, inv)[-1].outputs, inputs, vectorize=True
        )
        expected = torch.stack([jacobian[i, :, i] for i in range(3)]).slogdet().logabsdet
        assert_close(sum(step.log_det for step in steps), expected)


def test_starts_as_a_normal_with_one_mean_and_one_variance():
    flow, inputs = make(), 3 + 2 * torch.randn(500, D) * torch.linspace(0.1, 1, D)
    flow.fit(lambda: ((part, None) for part in inputs.split(100)))
    expected = torch.distributions.Normal(inputs.mean(), inputs.std(correction=0)).log_prob(inputs).sum(1)
    assert_close(flow.log_prob(inputs, torch.randn(500, C)), expected)
    flow.transforms[0].double()
    assert_close(flow.transforms[0].inverse(flow.transforms[0](inputs.double())[0])[0], inputs.double())


def test_a_pair_of_couplings_moves_every_entry_once_and_whole_patches(randomize):
    flow = randomize(make((2, 2, 1), transforms=2)).double()
    mesh = torch.arange(D).reshape(SHAPE)
    patches = {frozenset(mesh[:, a : a + 2, r].flatten().tolist()) for a in (0, 2) for r in range(3)}
    order = flow.transforms[1](torch.arange(D)[None])[0][0]
    halves = [order[coupling.moved] for coupling in flow.transforms[2:4]]
    assert torch.equal(torch.cat(halves).sort().values, torch.arange(D))
    assert {frozenset(part.tolist()) for half in halves for part in half.split(4)} == patches


def test_new_halves_are_drawn_of_whole_patches():
    flow = make((1, 2, 1), transforms=6)
    _, patches, _, _, first, _, _, second = flow.transforms[:8]
    order = patches(torch.arange(D)[None])[0]
    pairs = {tuple(pair.tolist()) for pair in order.reshape(-1, 2)}
    for permutation in (first, second):
        order = permutation(order)[0]
        assert {tuple(pair.tolist()) for pair in order.reshape(-1, 2)} == pairs
    assert not torch.equal(first.order, second.order)


@pytest.mark.parametrize("patch", PATCHES)
def test_a_moved_patch_sees_all_kept_ones_and_the_condition(patch, randomize):
    coupling = randomize(make(patch)).double().transforms[2]
    kept, context = doubles(1, D // 2).requires_grad_(), doubles(1, C).requires_grad_()
    parameters = coupling.conditioner(kept, context).unflatten(1, (-1, D // 2))
    for entry in (0, D // 2 - 1):
        gradients = torch.autograd.grad(parameters[0, :, entry].sum(), [kept, context], retain_graph=True)
        assert all((gradient != 0).all() for gradient in gradients)


def test_the_order_of_tokens_is_that_of_their_positions(randomize):
    conditioner = randomize(make()).double().transforms[2].conditioner
    kept, context, order = doubles(5, 6, 2), doubles(5, C), torch.randperm(6)
    outputs = conditioner(kept.flatten(1), context).unflatten(1, (-1, 6, 2))
    with torch.no_grad():
        conditioner.positions.copy_(conditioner.positions[order])
    assert_close(conditioner(kept[:, order].flatten(1), context).unflatten(1, (-1, 6, 2)), outputs[:, :, order])


def test_published_size():
    with torch.device("meta"):
        flow = TransformerCouplingFlow(6480, 46, (45, 16, 9), (3, 8, 1))
    published = 90_719_040  # of configs/model/cinn/cinn_ds2_electrons.yaml, without the network of a time it never uses
    positions = 40 * (135 * 192 - 96)  # ours are a table, those are 96 frequencies
    boxes = 40 * 24 * 2 * 193  # those splines have two parameters more
    assert sum(parameter.numel() for parameter in flow.parameters()) == published + positions - boxes + 2


def test_every_parameter_gets_a_gradient(randomize):
    flow = randomize(make())
    flow.log_prob(torch.randn(200, D), torch.randn(200, C)).sum().backward()
    assert [name for name, p in flow.named_parameters() if not (p.grad.isfinite().all() and p.grad.any())] == []


def test_weights_and_halves_are_restored(randomize):
    flow, other = randomize(make()), make()
    other.load_state_dict(flow.state_dict())
    noise, context = torch.randn(9, D), torch.randn(9, C)
    assert_close(other.sample(noise, context), flow.sample(noise, context))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 368}, r"shape = \(2, 4, 3\) has 24 voxels, but the vectors have 368"),
        ({"patch": (2, 3, 1)}, r"patch = \(2, 3, 1\) does not divide shape"),
        ({"patch": (2, 4, 1)}, "into 3 patches, which cannot be halved"),
        ({"heads": 4}, "hidden = 6 is not a multiple of heads = 4"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    settings = {"features": D, "context": C, "shape": SHAPE, "patch": (1, 2, 1), "hidden": 6, "heads": 2}
    with pytest.raises(CalomanError, match=message):
        TransformerCouplingFlow(**settings | options)
