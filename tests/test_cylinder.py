"""Convolutions on a cylinder know that alpha is a circle, and that z and r are not."""

import pytest
import torch

from caloman.nn.cylinder import CylinderConv


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
