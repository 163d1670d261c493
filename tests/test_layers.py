"""Pipelines in layers say what they change, and nothing else changes."""

import pytest

from caloman.errors import CalomanError
from caloman.specification import overlay, read_layers, set_key, split_overrides, to_yaml
from caloman.training.config import load_pipeline

B = {"class_path": "b.B", "init_args": {"depth": 2}}
MODEL = {"class_path": "a.A", "init_args": {"size": 1, "part": B}}


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        ({}, MODEL),
        ({"size": 3}, {**MODEL, "init_args": {**MODEL["init_args"], "size": 3}}),
        ({"init_args": {"size": 3}}, {**MODEL, "init_args": {**MODEL["init_args"], "size": 3}}),
        ({"part": "remove"}, {"class_path": "a.A", "init_args": {"size": 1}}),
        ({"part": None}, {**MODEL, "init_args": {"size": 1, "part": None}}),
        ({"class_path": "c.C"}, {"class_path": "c.C"}),
        ({"class_path": "c.C", "init_args": {"x": 1}}, {"class_path": "c.C", "init_args": {"x": 1}}),
        ({"part": {"depth": 3}}, {**MODEL, "init_args": {"size": 1, "part": {**B, "init_args": {"depth": 3}}}}),
    ],
)  # fmt: skip
def test_an_overlay_changes_what_it_names(above, expected):
    below = {"model": MODEL, "seed": 1}
    assert overlay(below, {"model": above}) == {"model": expected, "seed": 1}
    assert below == {"model": MODEL, "seed": 1}


def test_a_key_is_set_where_there_was_none():
    config = {"model": MODEL, "monitor": None}
    values = {"model.part.depth": 5, "monitor.every": 2, "model.class_path": "z.Z", "data.train": ["x"]}
    for key, value in values.items():
        set_key(config, key, value)
    assert config["model"]["init_args"]["part"]["init_args"] == {"depth": 5}
    assert (config["monitor"], config["data"], config["model"]["class_path"]) == ({"every": 2}, {"train": ["x"]}, "z.Z")
    with pytest.raises(CalomanError, match="has no keys of its own"):
        set_key({"seed": 1}, "seed.x", 1)


def test_a_base_is_found_beside_its_file_and_may_have_a_base(tmp_path):
    (tmp_path / "one.yaml").write_text(to_yaml({"base": "1-photons/caloman", "seed": 5}))
    (tmp_path / "two.yaml").write_text(to_yaml({"base": "one", "model": {"shape": {"autoencoder": {"latent_dim": 7}}}}))
    shipped, two = read_layers("1-photons/caloman"), read_layers(tmp_path / "two.yaml")
    autoencoder = two["model"]["init_args"]["shape"]["init_args"]["autoencoder"]
    assert (two["seed"], autoencoder["init_args"].pop("latent_dim")) == (5, 7)
    shipped["model"]["init_args"]["shape"]["init_args"]["autoencoder"]["init_args"].pop("latent_dim")
    assert two == {**shipped, "seed": 5}


@pytest.mark.parametrize("base", ["loop", 7, "missing", ["1-photons/caloman"]])
def test_a_base_that_leads_nowhere_is_one_sentence(base, tmp_path):
    (tmp_path / "loop.yaml").write_text(to_yaml({"base": base}))
    with pytest.raises(CalomanError, match=r"loop\.yaml: 'base' has to|missing: no such pipeline"):
        load_pipeline(tmp_path / "loop.yaml")


def test_options_come_with_values():
    assert list(split_overrides(["--a.b=1=2", "--c", "3"])) == [("a.b", "1=2"), ("c", "3")]
    for options in (["seed=1"], ["--seed"], ["--seed", "--x=1"]):
        with pytest.raises(CalomanError, match="write --KEY=VALUE"):
            list(split_overrides(options))
