// Generates showers with a caloman generator in ONNX: client FILE.onnx ENERGY [ENERGY ...] (MeV).
// First it repeats the stored reference FILE.onnx.reference.bin; the exit status is 1 if that differs.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

class Generator {
 public:
  explicit Generator(const std::string& path) : session_(env_, path.c_str(), options()) {
    if (session_.GetInputCount() != 2) throw std::runtime_error("this client needs a file exported for calochallenge");
    noise_dim_ = session_.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape().at(1);
    n_voxels_ = session_.GetOutputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape().at(1);
  }

  int64_t noise_dim() const { return noise_dim_; }
  int64_t n_voxels() const { return n_voxels_; }

  std::string metadata(const char* key) const {
    Ort::AllocatorWithDefaultOptions allocator;
    auto value = session_.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
    return value ? value.get() : "";
  }

  // Showers (n, voxels) [MeV] from normal noise (n, noise_dim) and incident energies (n, 1) [MeV].
  std::vector<float> operator()(std::vector<float>& noise, std::vector<float>& energies) {
    const auto n = static_cast<int64_t>(energies.size());
    const std::array<int64_t, 2> noise_shape{n, noise_dim_}, energy_shape{n, 1};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::array<Ort::Value, 2> inputs{
        Ort::Value::CreateTensor<float>(memory, noise.data(), noise.size(), noise_shape.data(), 2),
        Ort::Value::CreateTensor<float>(memory, energies.data(), energies.size(), energy_shape.data(), 2)};
    const char* input_names[] = {"noise", "incident_energies"};
    const char* output_names[] = {"showers"};
    auto outputs = session_.Run(Ort::RunOptions{nullptr}, input_names, inputs.data(), 2, output_names, 1);
    const float* values = outputs[0].GetTensorData<float>();
    return {values, values + n * n_voxels_};
  }

 private:
  static Ort::SessionOptions options() {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);  // one event per thread, as Geant4 has it
    return options;
  }

  Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "caloman"};
  Ort::Session session_;
  int64_t noise_dim_ = 0, n_voxels_ = 0;
};

// Rows of float32: all noise, all energies, all showers.
bool repeats_reference(Generator& generator, const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(path + ": no reference beside the generator");
  std::vector<float> content(static_cast<size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(content.size() * sizeof(float)));
  const size_t n = content.size() / (generator.noise_dim() + 1 + generator.n_voxels());
  const auto energies_at = content.begin() + n * generator.noise_dim();
  std::vector<float> noise(content.begin(), energies_at), energies(energies_at, energies_at + n);
  const float* expected = content.data() + n * (generator.noise_dim() + 1);
  const auto showers = generator(noise, energies);

  size_t switched = 0;
  size_t hits = 0, beyond = 0;  // at the hurdle between a hit and nothing, a few differ by the rounding of float32
  for (size_t i = 0; i < showers.size(); ++i) {
    if ((showers[i] > 0) != (expected[i] > 0)) ++switched;
    if (showers[i] <= 0 || expected[i] <= 0) continue;
    ++hits;
    if (std::abs(showers[i] - expected[i]) > 1e-4 * expected[i]) ++beyond;
  }
  const bool good = switched <= 1e-5 * showers.size() && beyond <= 5e-3 * hits;
  std::printf("reference: %zu showers, %zu of %zu voxels switched, %zu of %zu hits differ by more than 1e-4: %s\n", n,
              switched, showers.size(), beyond, hits, good ? "repeated" : "DIFFERENT");
  return good;
}

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("usage: client FILE.onnx ENERGY [ENERGY ...]   (MeV)");
  const std::string path = argv[1];
  Generator generator(path);
  std::printf("%s: dataset %s, %lld voxels [%s], trained for %s\n", path.c_str(),
              generator.metadata("dataset").c_str(), static_cast<long long>(generator.n_voxels()),
              generator.metadata("units").c_str(), generator.metadata("conditions").c_str());
  const bool good = repeats_reference(generator, path + ".reference.bin");

  std::mt19937_64 engine(1);  // stands for the random engine of the experiment
  std::normal_distribution<float> normal;
  for (int i = 2; i < argc; ++i) {
    std::vector<float> energies{std::stof(argv[i])}, noise(static_cast<size_t>(generator.noise_dim()));
    std::generate(noise.begin(), noise.end(), [&] { return normal(engine); });
    const auto start = std::chrono::steady_clock::now();
    const auto shower = generator(noise, energies);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    double total = 0;
    for (float voxel : shower) total += voxel;
    const auto hits = std::count_if(shower.begin(), shower.end(), [](float voxel) { return voxel > 0; });
    std::printf("%10.1f MeV: %4td hits, %10.1f MeV deposited, %.2f ms\n", energies[0], hits, total, time.count());
  }
  return good ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "client: %s\n", error.what());
  return 1;
}
