"""Architectures build the networks of an autoencoder for any mesh, with the symmetries of a regular one."""

from copy import deepcopy

import pytest
import torch
from conftest import TINY_MODEL
from torch.testing import assert_close

from caloman import bundle
from caloman.errors import CalomanError
from caloman.manifold import (
    VAE,
    CylinderArchitecture,
    DenseArchitecture,
    GaussianHead,
    GroupedVAE,
    HurdleHead,
)
from caloman.nn.cylinder import CylinderNet, from_patches, to_patches
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.geometry import BUILT_IN, Geometry, Layer

REGULAR = Geometry("regular", "electron", tuple(Layer(i, (0, 1, 2, 4), 8) for i in range(4)), threshold=0.01)
TINY = {"patch": (2, 1, 3), "pool": (2, 2, 1), "hidden": 6, "blocks": 1}
LATENT = 8
"""Two channels on a map of 1 x 4 x 1."""
CONTEXT = 5


every_architecture = pytest.mark.parametrize(
    "architecture", [DenseArchitecture([8]), CylinderArchitecture(**TINY)], ids=["dense", "cylinder"]
)


@every_architecture
def test_every_architecture_has_the_shapes_asked_for_and_trains_all_its_weights(architecture, randomize):
    vae = randomize(VAE(REGULAR, CONTEXT, LATENT, head=HurdleHead, architecture=architecture))
    shapes, context = torch.rand(20, REGULAR.n_voxels) * (torch.rand(20, REGULAR.n_voxels) < 0.5), torch.randn(20, 5)
    assert vae.encode(shapes, context).shape == (20, LATENT)
    assert vae.decoder(torch.randn(20, LATENT), context).shape == (20, vae.head.n_parameters)
    vae.loss(shapes, context)["loss"].backward()
    for name, parameter in vae.named_parameters():
        assert torch.all(torch.isfinite(parameter.grad)), name
        assert torch.any(parameter.grad != 0), name


def turned(voxels, bins):
    """Numbers of voxels (N, k V), turned by some bins of alpha."""
    return voxels.unflatten(1, (-1, 4, 8, 3)).roll(bins, dims=3).flatten(1)


def test_a_turned_shower_has_a_turned_latent_and_back():
    encoder = CylinderArchitecture(**TINY).encoder(REGULAR, CONTEXT, LATENT).double()
    decoder = CylinderArchitecture(**TINY).decoder(REGULAR, CONTEXT, LATENT, 5 * REGULAR.n_voxels).double()
    shapes, context = torch.rand(3, REGULAR.n_voxels).double(), torch.randn(3, CONTEXT).double()
    latents = encoder(shapes, context)
    turned_latents = latents.unflatten(1, (2, 1, 4, 1)).roll(-1, dims=3).flatten(1)  # by one cell, which is two bins
    assert not torch.allclose(latents, turned_latents)
    assert_close(encoder(turned(shapes, -2), context), turned_latents)
    assert_close(decoder(turned_latents, context), turned(decoder(latents, context), -2))


@every_architecture
def test_showers_of_a_batch_do_not_see_one_another(architecture, randomize):
    vae = randomize(VAE(REGULAR, CONTEXT, LATENT, head=HurdleHead, architecture=architecture)).double()
    shapes, context, latents = (torch.randn(3, size).double() for size in (REGULAR.n_voxels, CONTEXT, LATENT))
    assert_close(vae.encoder(shapes[1:2], context[1:2]), vae.encoder(shapes, context)[1:2])
    assert_close(vae.decoder(latents[1:2], context[1:2]), vae.decoder(latents, context)[1:2])


def test_cells_fill_the_mesh_of_dataset_2():
    vae = GroupedVAE(BUILT_IN["2"], 46, 40, architecture=CylinderArchitecture(hidden=6))
    context, noise = torch.randn(1, 46), torch.randn(1, 6480)
    shapes = vae.decode(torch.randn(1, 40), context, noise)
    assert vae.encode(shapes, context).shape == (1, 40)
    assert torch.all(torch.isfinite(vae.to_noise(torch.randn(1, 40), context, shapes)))


def test_numbers_of_a_layer_go_to_its_cells():
    decoder = CylinderArchitecture(**TINY).decoder(REGULAR, CONTEXT, LATENT, REGULAR.n_voxels)
    context = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
    cells = decoder.mesh.with_context(torch.zeros(1, 0, 2, 8, 1), context)
    assert torch.equal(cells[0, :, :, 5, 0], torch.tensor([[1.0, 3.0], [2.0, 4.0]]))


def test_a_condition_without_numbers_of_layers_will_do():
    decoder = CylinderArchitecture(**TINY).decoder(REGULAR, 1, LATENT, REGULAR.n_voxels)
    assert decoder(torch.randn(2, LATENT), torch.randn(2, 1)).shape == (2, REGULAR.n_voxels)


def test_a_network_tells_cells_of_different_z_and_r_apart_but_not_of_different_alpha():
    outputs = CylinderNet((3, 4, 2), 1, 1, 1, hidden=4, blocks=1)(torch.zeros(1, 1, 3, 4, 2), torch.ones(1, 1))
    assert_close(outputs, outputs[:, :, :, :1].expand_as(outputs))
    assert outputs[0, 0, :, 0].unique().numel() == 3 * 2


def test_directions_tell_cells_of_different_alpha_apart(randomize):
    latents, context = torch.ones(1, LATENT), torch.zeros(1, CONTEXT)
    for directions in (False, True):
        architecture = CylinderArchitecture(**TINY, directions=directions)
        decoder = randomize(architecture.decoder(REGULAR, CONTEXT, LATENT, REGULAR.n_voxels)).eval()
        alphas = decoder(latents, context).unflatten(1, REGULAR.grid)[0, 0, :, 0]
        assert torch.allclose(alphas, alphas[0]) != directions


def test_patches_restore_the_cells_and_hold_neighbors():
    cells = torch.arange(2 * 4 * 6 * 9.0).reshape(1, 2, 4, 6, 9)
    patches = to_patches(cells, (2, 3, 9))
    assert patches.shape == (1, 2 * 2 * 3 * 9, 2, 2, 1)
    assert torch.equal(patches[0, :27, 1, 0, 0], cells[0, 0, 2, :3].flatten())
    assert torch.equal(from_patches(patches, (2, 3, 9)), cells)


@pytest.mark.parametrize(
    ("options", "geometry", "latent_dim", "head", "message"),
    [
        ({}, BUILT_IN["1-photons"], 8, HurdleHead, "use a DenseArchitecture"),
        ({"patch": (3, 1, 3)}, REGULAR, 8, HurdleHead, r"patch = \[3, 1, 3\]"),
        ({"pool": (1, 3, 1)}, REGULAR, 8, HurdleHead, r"pool = \[1, 3, 1\]"),
        ({}, REGULAR, 9, HurdleHead, "latent_dim must be a multiple of the 4 cells"),
        ({}, REGULAR, 8, GaussianHead, "97 parameters for 96 voxels"),
    ],
)
def test_what_does_not_fit_the_cells_is_explained(options, geometry, latent_dim, head, message):
    cells = {"patch": (2, 1, 3), "pool": (2, 2, 1), "hidden": 6}
    with pytest.raises(CalomanError, match=message):
        VAE(geometry, CONTEXT, latent_dim, head=head, architecture=CylinderArchitecture(**cells | options))


def test_a_bundle_restores_the_architecture(tmp_path):
    spec = deepcopy(TINY_MODEL)
    vae = spec["init_args"]["shape"]["init_args"]["autoencoder"]["init_args"]
    options = {"patch": [2, 1, 3], "pool": [2, 2, 1], "hidden": 6}
    architecture = {"class_path": "caloman.manifold.CylinderArchitecture", "init_args": options}
    vae |= {"latent_dim": LATENT, "architecture": architecture}
    model = bundle.build_model(spec, REGULAR, ENERGY_ONLY, tmp_path)
    bundle.save(model, spec, {"files": [], "showers": 0}, tmp_path / "bundle")
    again = bundle.load(tmp_path / "bundle")
    assert (model.sample([2e3, 3e4]).voxels == again.sample([2e3, 3e4]).voxels).all()


@every_architecture
def test_a_decoder_can_be_exported(architecture, randomize):
    decoder = randomize(architecture.decoder(REGULAR, CONTEXT, LATENT, REGULAR.n_voxels)).eval()
    rows = torch.export.Dim("rows", min=2)
    inputs = torch.randn(3, LATENT), torch.randn(3, CONTEXT)
    program = torch.export.export(decoder, inputs, dynamic_shapes=({0: rows}, {0: rows}))
    more = torch.randn(7, LATENT), torch.randn(7, CONTEXT)
    assert_close(program.module()(*more), decoder(*more))
