"""Flows from layer to layer: one exact density of the whole shower, which sees only the layers before."""

import math
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from torch.testing import assert_close

import caloman
from caloman.errors import CalomanError
from caloman.flows import AutoregressiveFlow, CouplingFlow
from caloman.models import FactorizedShowerModel
from caloman.preprocessing import GlobalTransform, LayerwiseTransform, Log, Logit, LogNormalDequantization
from caloman.rivals import ConvolutionalCouplingFlow, LayerwiseFlow, LayerwiseShape
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from caloman.specification import read_layers
from caloman.training import fit
from caloman.training.config import load_pipeline

CONFIGS = Path(__file__).parents[1] / "configs" / "2"
REGULAR = Geometry("regular", "electron", tuple(Layer(i, (0, 1, 2), 2) for i in range(4)), threshold=0.01)
SMALL = {"transforms": 2, "bins": 4, "hidden": 6, "blocks": 1}
DENSE = partial(CouplingFlow, **SMALL)
KINDS = {
    "inductive": {"flow": partial(AutoregressiveFlow, **SMALL), "previous": 1},
    "dense": {"flow": DENSE, "previous": 2, "share_weights": False},
    "convolutional": {
        "flow": partial(ConvolutionalCouplingFlow, shape=(2, 2), squeeze=(2, 1), **SMALL),
        "previous": 2,
        "share_weights": False,
        "embedding": 2,
    },
    "convolutional shared": {
        "flow": partial(ConvolutionalCouplingFlow, shape=(2, 2), squeeze=(2, 1), **SMALL),
        "embedding": 2,
    },
}
kinds = pytest.mark.parametrize("kind", KINDS)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def make(randomize):
    """A layer-wise flow far from the identity."""
    return lambda kind, geometry=REGULAR: randomize(
        LayerwiseFlow(geometry, 1 + geometry.n_layers, rescale=lambda voxels, energy: voxels, **KINDS[kind])
    ).double()


def check_density(flow, n_voxels, context):
    """Compares density and samples with the Jacobian of the sampling."""
    noise = doubles(len(context), n_voxels)
    jacobian = torch.autograd.functional.jacobian(lambda z: flow.sample(z, context), noise)
    log_det = torch.linalg.slogdet(torch.stack([jacobian[i, :, i] for i in range(len(noise))])).logabsdet
    normal = -0.5 * noise.square().sum(1) - n_voxels / 2 * math.log(2 * math.pi)
    assert_close(flow.log_prob(flow.sample(noise, context), context), normal - log_det)


@kinds
def test_density_is_that_of_the_mapped_noise(kind, make):
    check_density(make(kind), REGULAR.n_voxels, doubles(3, 5))


@pytest.mark.parametrize(("scaling", "threshold"), [(Logit, 0.0), (Log, 0.02)])
def test_density_is_exact_when_layers_are_given_their_energies(scaling, threshold, randomize):
    shape = LayerwiseShape(REGULAR, 5, DENSE, scaling=scaling, threshold=threshold)
    flow = randomize(shape, std=0.3).double().density.flow
    check_density(flow, REGULAR.n_voxels, doubles(3, 5))


@pytest.mark.parametrize(("scaling", "threshold", "error"), [(Logit, 0.0, 0.7), (Log, 0.015, 1.5)])
def test_true_layers_are_seen_as_they_are_and_others_with_their_energies(scaling, threshold, error, make_showers):
    noise = LogNormalDequantization(-3.1)
    transform = LayerwiseTransform(REGULAR, ENERGY_ONLY, threshold=0.015, dequantization=noise, unit_sum=threshold == 0)
    showers = make_showers(50, REGULAR)
    incident = torch.from_numpy(showers.incident_energies).double()[:, None]
    shapes, context, _ = transform(torch.from_numpy(showers.voxels).double(), incident)
    shape = LayerwiseShape(REGULAR, 5, DENSE, scaling=scaling, threshold=threshold).double()
    voxels, first, energy = shape.density.scaling(shapes)[:, :4], shapes[:, :4], context[:, 1:2]
    assert_close(shape._rescale(voxels, energy), voxels, rtol=1e-4, atol=1e-4)
    wrong = shape.density.scaling(first * torch.where(first > threshold, error, 1.0))
    assert_close(shape._rescale(wrong, energy), voxels, rtol=1e-2, atol=1e-2)


def test_layers_may_differ_where_each_has_a_flow(make, small):
    check_density(make("dense", small), small.n_voxels, doubles(3, 4))


@kinds
def test_samples_lead_back_to_their_noise(kind, make):
    flow = make(kind)
    noise, context = doubles(3, REGULAR.n_voxels), doubles(3, 5)
    samples = flow.sample(noise, context)
    back = [
        part.trace(*flow._pairs(index, samples, context))[-1].outputs.unflatten(0, (-1, 3))
        for index, part in enumerate(flow.flows)
    ]
    assert_close(torch.cat(back).movedim(0, 1).flatten(1), noise)


@kinds
def test_layers_see_the_layers_before_and_nothing_else(kind, make):
    flow = make(kind)
    previous, noise, context = KINDS[kind].get("previous", 1), doubles(1, REGULAR.n_voxels), doubles(1, 5)
    by_noise = torch.autograd.functional.jacobian(lambda z: flow.sample(z, context), noise)[0, :, 0]
    blocks = by_noise.reshape(4, 4, 4, 4).abs().sum(dim=(1, 3))
    assert torch.all(blocks.triu(1) == 0)
    assert torch.all(blocks.tril() + torch.ones(4, 4).triu(1) > 0)
    by_energies = torch.autograd.functional.jacobian(lambda c: flow.log_prob(noise, c), context)
    assert torch.all(by_energies != 0)
    last = torch.autograd.functional.jacobian(
        lambda x: flow.flows[-1].log_prob(*[part[-1:] for part in flow._pairs(len(flow.flows) - 1, x, context)]), noise
    )
    sees = last.reshape(4, 4).abs().sum(1) > 0
    assert sees.tolist() == [layer >= 3 - previous for layer in range(4)]


@kinds
def test_training_on_a_share_estimates_the_likelihood(kind, make):
    flow = make(kind)
    inputs, context = doubles(1, REGULAR.n_voxels).expand(10, -1), doubles(1, 5).expand(10, -1)
    expected = -flow.log_prob(inputs, context).mean()
    flow.subsample = 0.3
    assert_close(flow.train().loss(inputs, context), expected)
    mixed = torch.cat([inputs, doubles(10, REGULAR.n_voxels)])
    contexts = context.repeat(2, 1)
    assert_close(flow.eval().loss(mixed, contexts), -flow.log_prob(mixed, contexts).mean())
    assert flow.train().loss(mixed, contexts) != flow.loss(mixed, contexts)


def test_statistics_are_fitted_one_batch_after_the_other():
    """A file of any size is fitted in the memory of a batch."""
    flow = LayerwiseShape(REGULAR, 5, **KINDS["convolutional"]).density.flow
    kept, pairs = [], flow._pairs

    def counted(*arguments):
        result = pairs(*arguments)
        kept.append(weakref.ref(result[0]))
        assert sum(pair() is not None for pair in kept) <= 2
        return result

    flow._pairs = counted
    flow.fit(lambda: ((torch.randn(10, REGULAR.n_voxels), torch.rand(10, 5)) for _ in range(6)))
    assert len(kept) >= 6


def test_a_shared_flow_is_told_the_layer(make):
    flow = make("inductive")
    plane, energy = doubles(1, 4), doubles(1, 1)
    log_probs = flow.flows[1].log_prob(*flow._pairs(1, plane.repeat(1, 4), energy.repeat(1, 5)))
    assert log_probs.unique().numel() == 3


def test_whether_it_samples_in_one_pass():
    assert not LayerwiseShape(REGULAR, 5, **KINDS["inductive"]).one_pass_sampling
    assert LayerwiseShape(REGULAR, 5, **KINDS["convolutional"]).one_pass_sampling


@pytest.mark.parametrize("options", [{"share_weights": True}, {"share_weights": False, "embedding": 3}])
def test_layers_that_differ_are_refused_where_they_have_to_be_alike(options, small):
    with pytest.raises(CalomanError, match="differ in their bins"):
        LayerwiseShape(small, 4, DENSE, **options)


def test_layer_energies_are_needed():
    with pytest.raises(CalomanError, match="LayerwiseTransform"):
        FactorizedShowerModel(REGULAR, ENERGY_ONLY, GlobalTransform, partial(LayerwiseShape, flow=DENSE))


def test_published_size_of_icaloflow():
    pipeline, _ = load_pipeline(CONFIGS / "icaloflow.yaml")
    model = pipeline.model(BUILT_IN["2"], ENERGY_ONLY)
    assert sum(parameter.numel() for parameter in model.parameters()) == 19_470_168


def test_filled_energies_are_a_shape_as_well(make_showers):
    noise = LogNormalDequantization(-3.1)
    transform = LayerwiseTransform(REGULAR, ENERGY_ONLY, threshold=0.015, dequantization=noise, unit_sum=False)
    showers = make_showers(50, REGULAR)
    voxels, incident = torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident_energies)[:, None]
    voxels = torch.where(voxels < 0.1, 0, voxels)  # so that scaling a layer cuts no hit
    shapes, _, layer_energies = transform(voxels, incident)
    assert torch.equal(shapes[voxels > 0], voxels[voxels > 0])
    assert torch.all((shapes > 0) & ((shapes < 0.015) | (voxels > 0)))
    assert_close(transform.inverse(shapes, incident, layer_energies), voxels)
    assert_close(Log(16).inverse(Log(16)(shapes)), shapes)


@pytest.mark.parametrize("name", ["icaloflow_small", "l2lflows_small", "vit_small"])
def test_pipeline_trains_and_samples(name, tmp_path, make_showers):
    make_showers(60, BUILT_IN["2"]).save(tmp_path / "showers.hdf5")
    spec = read_layers(CONFIGS / f"{name}.yaml")
    spec["data"] |= {"train": [str(tmp_path / "showers.hdf5")], "validation_fraction": 0.2}
    spec["monitor"] = None
    model = spec["model"]["init_args"]
    model["energy"]["init_args"]["flow"]["init_args"] |= {"transforms": 1, "hidden": 8}
    shape = model["shape"]["init_args"]
    shape = shape.get("density", model["shape"])["init_args"]
    shape["flow"]["init_args"] |= {"transforms": 1, "hidden": 4, "bins": 3}
    for stage in spec["stages"].values():
        stage["trainer"] = {"max_epochs": 1, "batch_size": 16}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    fit(tmp_path / "pipeline.yaml", tmp_path / "run")
    showers = caloman.load(tmp_path / "run").sample([1e5, 1e6])
    assert showers.voxels.shape == (2, 6480)
    assert showers.voxels.sum() > 0
    assert set(showers.voxels[(showers.voxels > 0) & (showers.voxels < 0.01515 * 0.999)]) == set()
