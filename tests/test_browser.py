"""The page of the manual that generates showers in a browser."""

import importlib
import os
import re
import shutil
import subprocess
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from threading import Event

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, TINY_MODEL, serving

from caloman import bundle

DOCS = ROOT / "docs"
RUNTIME = os.environ.get("ONNXRUNTIME_WEB")
"""Folder ``dist`` of the npm package onnxruntime-web in the version of the page."""


@pytest.fixture
def browser(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("browser")


def test_weights_in_float16_give_the_showers_of_the_model(browser, run, tmp_path, monkeypatch):
    model, folder = bundle.load(run), run / "bundle"
    for weight in model.parameters():
        weight.data = weight.half().float()
    bundle.save(model, TINY_MODEL, {"files": [], "showers": 0}, folder)
    monkeypatch.setattr("caloman.exporting.onnx.WORTHWHILE", 10)
    browser.write_generator(tmp_path / "tiny.onnx", run)
    kinds = Counter(weight.data_type for weight in onnx.load(tmp_path / "tiny.onnx").graph.initializer)
    assert kinds[onnx.TensorProto.FLOAT16] > 5
    noise, energies = torch.randn(200, model.noise_dim), torch.full((200, 1), 16384.0)
    session = onnxruntime.InferenceSession(tmp_path / "tiny.onnx", providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]
    (showers,) = session.run(None, dict(zip(names, (noise.numpy(), energies.numpy()), strict=True)))
    with torch.no_grad():
        expected = model(noise, energies).numpy()
    assert np.abs(showers - expected).sum() < 1e-3 * expected.sum()


def test_the_histograms_are_those_of_the_samples(browser, photons):
    content = browser.describe()
    assert [entry["energy"] for entry in content["energies"]] == [2.0**k for k in range(8, 18)]
    assert sum(entry["showers"] for entry in content["energies"]) == 16_500
    assert sum(layer["alpha"] * (len(layer["r"]) - 1) for layer in content["layers"]) == photons.n_voxels
    for entry in content["energies"]:
        assert len(entry["deposits"]) == photons.n_layers + 1
        for deposit in entry["deposits"]:
            assert 0.95 * entry["showers"] < sum(deposit["counts"]) <= entry["showers"]
            assert deposit["range"][0] < deposit["mean"] < deposit["range"][1]


class Site(SimpleHTTPRequestHandler):
    """Files of a folder. The browser waits for the picture ``/wait``, and so for the page to say that it is done."""

    def do_GET(self):
        if self.path == "/wait":
            self.server.done.wait(200)
            self.send_error(404)
        else:
            super().do_GET()

    def do_POST(self):
        self.server.done.set()
        self.send_error(404)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(browser, tmp_path):
    """The page with its files, and the runtime from this machine."""
    html = re.search(r"```\{raw\} html\n(.*?)```", (DOCS / "showers.md").read_text(), re.DOTALL)[1]
    script = (DOCS / "_static" / "showers.js").read_text()
    script = re.sub(r'RUNTIME = "https://cdn[^"]*"', 'RUNTIME = "/runtime/"', script)
    assert '"/runtime/"' in script
    static = tmp_path / "_static"
    browser.write_files(static / "generated")
    shutil.copy(DOCS / "_static" / "showers.css", static)
    (static / "showers.js").write_text(script)
    style = "--color-foreground-border: #878787; --color-brand-primary: #0a4bff; --color-background-secondary: #f4f4f4"
    (tmp_path / "page.html").write_text(
        f'<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="_static/showers.css">'
        f'<body style="font-family: sans-serif; margin: 1em; {style}; --color-foreground-primary: black">{html}'
        '<img src="/wait" alt=""><script>setInterval(() => { if (document.querySelector("[role=status]").textContent'
        '.startsWith("1000 showers")) fetch("/done", {method: "POST"}); }, 200)</script>'
    )
    (tmp_path / "runtime").symlink_to(Path(RUNTIME or ".").resolve())
    with serving(partial(Site, directory=tmp_path)) as server:
        server.done = Event()
        yield server


def browse(site, *options):
    """Opens the page in headless Chromium, which is done when it has a thousand showers of 16 GeV."""
    site.done.clear()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options]
    command += [f"{site.url}/page.html#energy=6&showers=1000&seed=1"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.skipif(not RUNTIME, reason="ONNXRUNTIME_WEB does not name the folder of onnxruntime-web")
def test_a_thousand_showers_in_the_browser_are_geant4_s(site):
    page = browse(site, "--dump-dom")
    assert "1000 showers, " in page
    _, geant4, mine = re.findall("<tr>(.*?)</tr>", page, re.DOTALL)
    geant4, mine = (np.array(re.findall(r"<td>([\d.e-]+)</td>", row), float) for row in (geant4, mine))
    assert mine == pytest.approx(geant4, rel=0.25, abs=0.002)
    if picture := os.environ.get("CALOMAN_SCREENSHOT"):
        browse(site, f"--screenshot={picture}", "--window-size=960,685")
