"""Velocity networks: what they start as, what they see, and that every weight is used."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.rivals import FlowMatching, PatchTransformer, VelocityMLP

SHAPE, D, C = (6, 4, 5), 120, 3
NETWORKS = {
    "mlp": partial(VelocityMLP, hidden=16, blocks=2),
    "rings": partial(PatchTransformer, shape=SHAPE, patch=(2, 4, 1), hidden=12, depth=2, heads=2),
    "sectors": partial(PatchTransformer, shape=SHAPE, patch=(3, 2, 5), hidden=12, depth=2, heads=2),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("context", [0, C])
def test_networks_start_at_zero_and_use_all_their_weights(name, context, randomize):
    network = NETWORKS[name](D, context)
    inputs = torch.randn(7, D), torch.rand(7, 1), torch.randn(7, context) if context else None
    assert torch.equal(network(*inputs), torch.zeros(7, D))
    randomize(network)(*inputs).square().sum().backward()
    assert [key for key, parameter in network.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_showers_of_a_batch_do_not_see_one_another(name, randomize):
    network = randomize(NETWORKS[name](D, C)).double()
    inputs = [torch.randn(4, size, dtype=torch.float64) for size in (D, 1, C)]
    assert_close(network(*inputs)[1:2], network(*(x[1:2] for x in inputs)))
    for i in range(3):
        changed = [x + (k == i) for k, x in enumerate(inputs)]
        assert not torch.allclose(network(*changed), network(*inputs)), f"input {i} is not seen"


def test_each_token_is_a_patch_of_the_mesh():
    network = NETWORKS["sectors"](D, 0)
    torch.nn.init.normal_(network.last.weight)  # all gates are closed: no token sees another
    points = torch.randn(1, D, requires_grad=True)
    velocities = network(points, torch.rand(1, 1)).unflatten(1, SHAPE)
    (gradient,) = torch.autograd.grad(velocities[:, :3, 2:].sum(), points)
    of_patch = torch.zeros(SHAPE, dtype=torch.bool)
    of_patch[:3, 2:] = True
    assert torch.equal(gradient.unflatten(1, SHAPE)[0] != 0, of_patch)


def test_positions_tell_patches_apart_and_close_the_circle():
    network = PatchTransformer(240, 0, shape=(3, 8, 10), patch=(1, 1, 5), hidden=48)
    positions = network.positions().detach().unflatten(0, (3, 8, 2))
    distances = torch.cdist(positions.flatten(0, 2), positions.flatten(0, 2))
    assert (distances + 9 * torch.eye(48)).min() > 0.1
    first, last = network.place.unflatten(0, (3, 8, 2))[0, [0, 7], 0]
    second = network.place.unflatten(0, (3, 8, 2))[0, 1, 0]
    assert_close((last - first).norm(), (second - first).norm())


@pytest.mark.parametrize(
    ("mesh", "settings", "expected"),
    [
        ((45, 16, 9), {"patch": (3, 16, 1), "hidden": 480, "mlp_ratio": 4}, 26_042_688),
        ((45, 50, 18), {"patch": (3, 5, 2), "hidden": 240, "mlp_ratio": 3}, 5_868_870),
    ],
)
def test_published_size(mesh, settings, expected):
    with torch.device("meta"):
        network = PatchTransformer(mesh[0] * mesh[1] * mesh[2], 46, mesh, depth=6, heads=6, **settings)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (6, 4, 4)}, "has 96 voxels, but the vectors have 120"),
        ({"patch": (4, 4, 1)}, "does not divide"),
        ({"hidden": 16}, "hidden = 16 is not a multiple of 6"),
        ({"heads": 5}, "heads = 5"),
    ],
)
def test_meshes_that_cannot_be_cut_are_refused(settings, message):
    with pytest.raises(CalomanError, match=message):
        PatchTransformer(D, C, **{"shape": SHAPE, "patch": (2, 4, 1), "hidden": 12, "heads": 2, **settings})


def test_density_of_a_transformer_is_that_of_what_it_samples(randomize):
    network = partial(PatchTransformer, shape=(2, 2, 1), patch=(1, 2, 1), hidden=6, depth=1, heads=1)
    flow = randomize(FlowMatching(4, network=network, steps=40), std=0.2).double()
    noise = torch.randn(2, 4, dtype=torch.float64)
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda z: flow.sample(z[None])[0], z) for z in noise])
    expected = torch.distributions.Normal(0, 1).log_prob(noise).sum(1) - jacobian.slogdet().logabsdet
    assert_close(flow.log_prob(flow.sample(noise)), expected, rtol=0, atol=1e-3)
