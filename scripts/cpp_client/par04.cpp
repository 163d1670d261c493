// Calls a caloman export as Geant4's example Par04 does:
//   par04 FILE.onnx VAE|CaloDiT-2 NOISE CELLS ENERGY THETA PHI N [RECORD]
//
// It takes the steps of Par04InferenceSetup and Par04OnnxInference of Geant4 11.4 in their order: no optimization of the
// graph, one vector of numbers, the name of the last input, all outputs asked for and the first one read. ENERGY in MeV,
// angles in rad. RECORD gets vector, cells [MeV] and, if the graph tells it, its own noise of each shower as float32.
#include <onnxruntime_cxx_api.h>

#include <cstdio>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

constexpr double kMostEnergy = 1024000, kRightAngle = 1.57079632679489661923;

int main(int argc, char** argv) try {
  if (argc < 9) throw std::runtime_error("usage: par04 FILE VAE|CaloDiT-2 NOISE CELLS ENERGY THETA PHI N [RECORD]");
  const std::string type = argv[2];
  const size_t n_noise = std::stoul(argv[3]), n_cells = std::stoul(argv[4]);
  const double energy = std::stod(argv[5]), theta = std::stod(argv[6]), phi = std::stod(argv[7]);
  std::ofstream record(argc > 9 ? argv[9] : "/dev/null", std::ios::binary);
  const auto write = [&](const float* values, size_t n) {
    record.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(n * sizeof(float)));
  };

  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "caloman");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  options.SetGraphOptimizationLevel(ORT_DISABLE_ALL);
  Ort::Session session(env, argv[1], options);
  Ort::AllocatorWithDefaultOptions allocator;
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::string input = session.GetInputNameAllocated(session.GetInputCount() - 1, allocator).get();
  std::vector<std::string> outputs;
  for (size_t i = 0; i < session.GetOutputCount(); ++i) {
    outputs.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
  }
  std::vector<const char*> names;
  for (const auto& name : outputs) names.push_back(name.c_str());

  std::mt19937_64 engine(1);
  std::normal_distribution<float> normal;
  double total = 0;
  const int n = std::stoi(argv[8]);
  for (int event = 0; event < n; ++event) {
    std::vector<float> vector;
    if (type == "VAE") {
      vector.assign(n_noise + 4, 0);
      for (size_t i = 0; i < n_noise; ++i) vector[i] = normal(engine);
      vector[n_noise] = static_cast<float>(energy / kMostEnergy);
      vector[n_noise + 1] = static_cast<float>(theta / kRightAngle);
      vector[n_noise + 3] = 1;
    } else {
      vector.assign(8, 0);
      vector[0] = static_cast<float>(energy / 1000);
      vector[1] = static_cast<float>(phi);
      vector[2] = static_cast<float>(theta);
      vector[3] = 1;
    }
    const int64_t shape[] = {1, static_cast<int64_t>(vector.size())};
    auto tensor = Ort::Value::CreateTensor<float>(memory, vector.data(), vector.size(), shape, 2);
    const char* name = input.c_str();
    auto results = session.Run(Ort::RunOptions{nullptr}, &name, &tensor, 1, names.data(), names.size());
    std::vector<float> cells(n_cells);
    for (size_t i = 0; i < n_cells; ++i) {
      cells[i] = static_cast<float>(results[0].GetTensorData<float>()[i] * (type == "VAE" ? energy : 1000));
      total += cells[i];
    }
    write(vector.data(), vector.size());
    write(cells.data(), cells.size());
    if (results.size() > 1) write(results[1].GetTensorData<float>(), n_noise);
  }
  std::printf("%d showers of %g MeV, on average %.9g MeV deposited\n", n, energy, total / n);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "par04: %s\n", error.what());
  return 1;
}
