"""Convolutions on a cylinder know that alpha is a circle, and that z and r are not."""

import pytest
import torch

from caloman.nn.cylinder import CircleNet, CylinderConv, from_patches, to_patches


@pytest.mark.parametrize("coordinates", [False, True])
@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 5, 3)])
def test_a_turned_shower_gives_a_turned_output(kernel, coordinates):
    conv = CylinderConv(2, 4, kernel, coordinates=coordinates).double()
    x = torch.randn(3, 2, 5, 8, 6, dtype=torch.float64)
    assert conv(x).shape == (3, 4, 5, 8, 6)
    torch.testing.assert_close(conv(x.roll(3, dims=3)), conv(x).roll(3, dims=3))


def test_coordinates_tell_where_a_cell_lies_in_z_and_r():
    x = torch.zeros(1, 1, 4, 3, 5)
    plain, located = CylinderConv(1, 1, (1, 1, 1))(x), CylinderConv(1, 1, (1, 1, 1), coordinates=True)(x)
    assert plain.unique().numel() == 1
    assert located.unique().numel() == 4 * 5


def test_a_kernel_of_one_along_z_keeps_layers_apart():
    conv = CylinderConv(1, 1, (1, 3, 3))
    x = torch.zeros(1, 1, 4, 6, 5, requires_grad=True)
    conv(x)[0, 0, 2].sum().backward()
    assert x.grad[0, 0].abs().sum(dim=(1, 2)).nonzero().tolist() == [[2]]


def test_a_turned_circle_gives_a_turned_output_that_depends_on_its_condition(randomize):
    net = randomize(CircleNet(3, 2, 4, hidden=6, blocks=2)).double()
    cells, context = torch.randn(5, 7, 3).double(), torch.randn(5, 2).double()
    outputs = net(cells, context)
    assert outputs.shape == (5, 7, 4)
    torch.testing.assert_close(net(cells.roll(2, 1), context), outputs.roll(2, 1))
    assert not torch.allclose(net(cells, context + 1), outputs)


def test_patches_restore_the_cells_and_hold_neighbors():
    cells = torch.arange(2 * 4 * 6 * 9.0).reshape(1, 2, 4, 6, 9)
    patches = to_patches(cells, (2, 3, 9))
    assert patches.shape == (1, 2 * 2 * 3 * 9, 2, 2, 1)
    assert torch.equal(patches[0, :27, 1, 0, 0], cells[0, 0, 2, :3].flatten())
    assert torch.equal(from_patches(patches, (2, 3, 9)), cells)
