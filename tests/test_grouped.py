"""A grouped decoder is one likelihood, factorized: later voxels see earlier ones, and never the other way round."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from caloman.manifold import CylinderArchitecture, DenseArchitecture, GroupedVAE
from caloman.showers.geometry import Geometry, Layer

REGULAR = Geometry("regular", "electron", tuple(Layer(i, (0, 1, 2, 4), 4) for i in range(4)), threshold=0.01)
V = REGULAR.n_voxels
LATENT = 4
CONTEXT = 5


@pytest.fixture(params=["towers", "cylinder"])
def vae(request, randomize):
    architectures = {
        "towers": DenseArchitecture([16]),
        "cylinder": CylinderArchitecture(patch=(2, 1, 3), pool=(2, 1, 1), hidden=6, blocks=1),
    }
    return randomize(GroupedVAE(REGULAR, CONTEXT, LATENT, architecture=architectures[request.param]), std=0.2)


@pytest.fixture
def batch():
    return torch.rand(40, V) * (torch.rand(40, V) < 0.5), torch.randn(40, CONTEXT), torch.randn(40, LATENT)


def parameters_of_all(vae, latents, context, shapes):
    """The parameters (N, 6, V) of each voxel at its own turn."""
    turns = [vae._group_parameters(latents, context, shapes, torch.full((len(shapes),), i)) for i in range(4)]
    return torch.where(vae.groups == 3, turns[3].unflatten(1, (6, -1)), sum(
        torch.where(vae.groups == i, turns[i].unflatten(1, (6, -1)), 0) for i in range(3)
    ))  # fmt: skip


def test_neighbors_are_in_different_groups(vae):
    groups = vae.groups.reshape(4, 4, 3)
    assert sorted(groups.unique().tolist()) == [0, 1, 2, 3]
    for axis in range(3):
        assert torch.all(groups.roll(1, axis).narrow(axis, 1, 2) != groups.narrow(axis, 1, 2))
    assert torch.all(groups[:, 0] != groups[:, -1])  # alpha is a circle


def test_a_voxel_depends_on_earlier_groups_only(vae, batch):
    shapes, context, latents = batch
    shapes = shapes[:1].clone().requires_grad_()
    parameters = parameters_of_all(vae, latents[:1], context[:1], shapes)
    for group in range(4):
        (gradient,) = torch.autograd.grad(parameters[:, :, vae.groups == group].sum(), shapes, retain_graph=True,
                                          allow_unused=True, materialize_grads=True)  # fmt: skip
        assert torch.all(gradient[0, vae.groups >= group] == 0)
        assert group == 0 or torch.any(gradient[0, vae.groups < group] != 0)


def test_training_sees_the_likelihood_of_all_groups(vae, batch):
    shapes, context, latents = (rows[:1].repeat(4, 1) for rows in batch)  # the same shower in each of the four turns
    parameters = parameters_of_all(vae, latents, context, shapes).flatten(1)
    exact = vae.head.log_prob(parameters, shapes).mean()
    assert_close(vae._reconstruction(latents, shapes, context)["log_likelihood"], exact)


def test_scores_are_the_noise_that_gives_the_shapes_back(vae, batch):
    _, context, latents = batch
    vae.head.log_mean.fill_(-3.0)
    shapes = vae.decode(latents, context, torch.randn(40, V))
    again = vae.decode(latents, context, vae.to_noise(latents, context, shapes))
    assert (torch.isclose(again, shapes, rtol=1e-2).float().mean()) > 0.99  # a score beyond 4.8 sigma is cut off


def test_every_layer_has_a_hit(vae, batch):
    _, context, latents = batch
    vae.head.hit_logit.fill_(-20)
    hits = vae.head.layers.sum((vae.decode(latents, context, torch.randn(40, V)) > 0).float())
    assert torch.all(hits >= 1)


def test_loss_reaches_every_parameter(vae, batch):
    vae.loss(*batch[:2])["loss"].backward()
    for name, parameter in vae.named_parameters():
        assert torch.any(parameter.grad != 0), name


class Decode(nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latents, context, noise):
        return self.vae.decode(latents, context, noise)


def test_all_passes_can_be_exported_as_one_graph(vae, batch):
    _, context, latents = batch
    inputs = latents, context, torch.randn(40, V)
    program = torch.export.export(
        Decode(vae.eval()), inputs, dynamic_shapes=({0: torch.export.Dim("rows", min=2)},) * 3
    )
    fewer = tuple(rows[:7] for rows in inputs)
    assert_close(program.module()(*fewer), vae.decode(*fewer))
