"""``caloman check``: is this a readable shower file of that dataset?"""

from dataclasses import dataclass

import numpy as np

from caloman.showers import find_geometry
from caloman.slices import ShowerFiles, parse_slices


@dataclass(frozen=True)
class FileSummary:
    """What a valid shower file holds.

    Args:
        path: the file.
        dataset: the geometry that it fits.
        n_showers: number of showers.
        energies: smallest and largest incident energy [MeV].
        response: smallest, mean and largest E_tot / E_inc.
        smallest_deposit: smallest voxel above zero [MeV].
        zero_fraction: fraction of voxels without energy.
    """

    path: str
    dataset: str
    n_showers: int
    energies: tuple[float, float]
    response: tuple[float, float, float]
    smallest_deposit: float
    zero_fraction: float

    def __str__(self) -> str:
        return (
            f"{self.path}: valid for dataset {self.dataset}\n"
            f"  showers            {self.n_showers}\n"
            f"  incident energies  {self.energies[0]:g} to {self.energies[1]:g} MeV\n"
            f"  E_tot / E_inc      {self.response[0]:.3f} to {self.response[2]:.3f}, mean {self.response[1]:.3f}\n"
            f"  smallest deposit   {self.smallest_deposit:.3g} MeV\n"
            f"  zero voxels        {100 * self.zero_fraction:.1f} %"
        )


def check(file: str, dataset: str | None = None) -> FileSummary:
    """Checks that a shower file is readable, fits the dataset and holds only possible values.

    Args:
        file: HDF5 file with incident_energies (N, 1) and showers (N, V); some of its rows, such as file.hdf5[0:1000];
            or several joined by commas.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; may be left out if the file names it.

    Raises:
        CalomanError: with the first fault: unreadable, wrong shape, NaN, negative voxel, energy that is not positive.
    """
    geometry = find_geometry(parse_slices(file)[0].path, dataset)
    energies, responses, zeros, smallest = [], [], 0, np.inf
    with ShowerFiles(file, geometry) as showers:
        for block in showers.blocks():
            energies.append(block.incident_energies)
            responses.append(block.voxels.sum(axis=1, dtype=np.float64) / block.incident_energies)
            zeros += int((block.voxels == 0).sum())
            smallest = min(smallest, block.voxels.min(where=block.voxels > 0, initial=np.inf))
    energy, response = np.concatenate(energies), np.concatenate(responses)
    return FileSummary(
        path=file,
        dataset=geometry.name,
        n_showers=len(energy),
        energies=(float(energy.min()), float(energy.max())),
        response=(float(response.min()), float(response.mean()), float(response.max())),
        smallest_deposit=float(smallest),
        zero_fraction=zeros / (len(energy) * geometry.n_voxels),
    )
