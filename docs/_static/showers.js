// The page `showers`: the photon generator of the package in the browser, beside Geant4's distributions.
const RUNTIME = "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/";
const INTEGRITY = {
  "ort.wasm.bundle.min.mjs": "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
  "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
};
const FILES = new URL("generated/", import.meta.url);
const BATCH = 50;
const SMALLEST = 0.1; // MeV, the lower end of the colors

const root = document.getElementById("showers");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const say = (text) => { part("status").textContent = text; };

async function fetched(name) {
  const response = await fetch(RUNTIME + name, { integrity: INTEGRITY[name] });
  if (!response.ok) throw new Error(`${name}: status ${response.status}`);
  return response.arrayBuffer();
}

async function loadGenerator() {
  const code = new Blob([await fetched("ort.wasm.bundle.min.mjs")], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(code));
  ort.env.wasm.numThreads = 1; // more need headers that a static page does not have
  ort.env.wasm.wasmBinary = await fetched("ort-wasm-simd-threaded.wasm");
  const model = await (await fetch(new URL("photons.onnx", FILES))).arrayBuffer();
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const [noiseName, energyName] = session.inputNames;
  const noiseDim = session.inputMetadata[0].shape[1];
  return async (noise, energy, n) => {
    const energies = new Float32Array(n).fill(energy);
    const outputs = await session.run({
      [noiseName]: new ort.Tensor("float32", noise(n * noiseDim), [n, noiseDim]),
      [energyName]: new ort.Tensor("float32", energies, [n, 1]),
    });
    return outputs[session.outputNames[0]].data;
  };
}

// Standard normal numbers from a seed: mulberry32 and Box-Muller.
function normalNumbers(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return (n) => Float32Array.from({ length: n }, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

const energyText = (mev) => (mev < 1000 ? `${mev} MeV` : `${+(mev / 1000).toPrecision(3)} GeV`);
const color = (name) => getComputedStyle(root).getPropertyValue(name).trim() || "gray";

// From dark violet over red to yellow, for 0 to 1.
const heat = (x) => `hsl(${(280 + 140 * x) % 360} ${60 + 30 * x}% ${18 + 52 * x}%)`;

function context(canvas) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const drawing = canvas.getContext("2d");
  drawing.scale(scale, scale);
  drawing.font = "12px sans-serif";
  return drawing;
}

function drawShower(layers, voxels) {
  const canvas = part("shower");
  const drawing = context(canvas);
  const width = canvas.clientWidth / layers.length - 12;
  const height = canvas.clientHeight - 40;
  const largest = Math.max(...voxels, 10 * SMALLEST);
  let voxel = 0;
  layers.forEach((layer, index) => {
    const left = index * (width + 12);
    const bins = layer.r.length - 1;
    let energy = 0;
    for (let alpha = 0; alpha < layer.alpha; alpha++) {
      for (let r = 0; r < bins; r++, voxel++) {
        energy += voxels[voxel];
        const level = Math.log(voxels[voxel] / SMALLEST) / Math.log(largest / SMALLEST);
        drawing.fillStyle = level > 0 ? heat(level) : color("--color-background-secondary");
        drawing.fillRect(left + (r * width) / bins, 18 + (alpha * height) / layer.alpha,
          width / bins - 0.5, height / layer.alpha - 0.5);
      }
    }
    drawing.fillStyle = color("--color-foreground-primary");
    drawing.fillText(`layer ${layer.id}`, left, 12);
    drawing.fillText(energyText(+energy.toPrecision(3)), left, height + 32);
  });
}

function drawHistograms(names, geant4, generated) {
  const canvas = part("histograms");
  const drawing = context(canvas);
  const columns = 3;
  const width = canvas.clientWidth / columns - 16;
  const height = canvas.clientHeight / 2 - 44;
  geant4.deposits.forEach((truth, index) => {
    const left = (index % columns) * (width + 16);
    const top = Math.floor(index / columns) * (height + 44) + 16;
    const mine = generated.counts[index].map((count) => count / Math.max(generated.n, 1));
    const theirs = truth.counts.map((count) => count / geant4.showers);
    const step = width / theirs.length;
    const up = height / (1.15 * Math.max(...theirs, ...mine));
    drawing.fillStyle = color("--color-foreground-border");
    drawing.globalAlpha = 0.45;
    theirs.forEach((share, bin) => drawing.fillRect(left + bin * step, top + height - share * up, step, share * up));
    drawing.globalAlpha = 1;
    drawing.strokeStyle = color("--color-brand-primary");
    drawing.lineWidth = 2;
    drawing.beginPath();
    mine.forEach((share, bin) => {
      drawing.lineTo(left + bin * step, top + height - share * up);
      drawing.lineTo(left + (bin + 1) * step, top + height - share * up);
    });
    if (generated.n) drawing.stroke();
    drawing.fillStyle = color("--color-foreground-primary");
    drawing.fillText(names[index], left, top - 4);
    drawing.fillText(`${truth.range[0]}`, left, top + height + 14);
    drawing.textAlign = "right";
    drawing.fillText(`${truth.range[1]}`, left + width, top + height + 14);
    drawing.textAlign = "left";
    part("means").rows[1].cells[index + 1].textContent = truth.mean.toPrecision(3);
    part("means").rows[2].cells[index + 1].textContent =
      generated.n ? (generated.sums[index] / generated.n).toPrecision(3) : "";
  });
}

function emptyCounts(geant4) {
  return { n: 0, sums: geant4.deposits.map(() => 0), counts: geant4.deposits.map((d) => d.counts.map(() => 0)) };
}

function count(layers, geant4, generated, voxels) {
  let voxel = 0;
  const shares = layers.map((layer) => {
    let energy = 0;
    for (let i = 0; i < layer.alpha * (layer.r.length - 1); i++) energy += voxels[voxel++];
    return energy / geant4.energy;
  });
  shares.push(shares.reduce((sum, share) => sum + share, 0));
  shares.forEach((share, index) => {
    const { range: [low, high], counts } = geant4.deposits[index];
    const bin = Math.floor(((share - low) / (high - low)) * counts.length);
    if (bin >= 0 && bin < counts.length) generated.counts[index][bin] += 1;
    generated.sums[index] += share;
  });
  generated.n += 1;
}

async function start(wanted) {
  say("Loading 25 MB ...");
  part("start").disabled = true;
  const { layers, energies } = await (await fetch(new URL("photons.json", FILES))).json();
  const generate = await loadGenerator();
  const names = [...layers.map((layer) => `E(layer ${layer.id}) / E(photon)`), "E(all) / E(photon)"];
  const noise = normalNumbers(Number(wanted.get("seed") ?? Math.floor(Math.random() * 2 ** 32)));
  const slider = part("energy");
  const size = layers.reduce((sum, layer) => sum + layer.alpha * (layer.r.length - 1), 0);
  let geant4, generated, busy = false;

  function choose() {
    geant4 = energies[slider.value];
    generated = emptyCounts(geant4);
    part("energy-text").textContent = energyText(geant4.energy);
    drawHistograms(names, geant4, generated);
  }

  async function make(n) {
    if (busy) return;
    busy = true;
    const [asked, time] = [geant4, performance.now()];
    for (let done = 0; done < n && asked === geant4; done += BATCH) {
      const showers = Math.min(BATCH, n - done);
      const voxels = await generate(noise, asked.energy, showers);
      if (asked !== geant4) break; // the slider was moved
      for (let i = 0; i < showers; i++) count(layers, asked, generated, voxels.subarray(i * size, (i + 1) * size));
      drawShower(layers, voxels.subarray((showers - 1) * size));
      drawHistograms(names, asked, generated);
      const milliseconds = (performance.now() - time) / (done + showers);
      say(`${generated.n} showers, ${milliseconds.toPrecision(2)} ms each`);
      await new Promise((next) => setTimeout(next));
    }
    busy = false;
  }

  slider.max = energies.length - 1;
  slider.value = wanted.get("energy") ?? 6;
  slider.addEventListener("input", async () => { choose(); await make(1); });
  part("one").addEventListener("click", () => make(1));
  part("many").addEventListener("click", () => make(1000));
  for (const name of ["energy", "one", "many"]) part(name).disabled = false;
  document.body.dataset.showers = "started"; // the poster goes, the drawings come
  choose();
  await make(Number(wanted.get("showers") ?? 1));
}

const wanted = new URLSearchParams(location.hash.slice(1)); // such as #energy=6&showers=1000&seed=1
const begin = () => start(wanted).catch((error) => {
  part("start").disabled = false;
  say(`Not loaded: ${error.message}`);
});
part("start").addEventListener("click", begin);
if (wanted.has("showers")) begin();
