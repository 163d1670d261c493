// Calls a caloman export as FastCaloSim does: fastcalosim FILE.onnx BOUNDARIES LAYERS ETA ENERGY N [RECORD]
//
// It takes the steps of TFCSONNXHandler and TFCSMLCalorimeterSimulator in their order: a session from the bytes of the
// file, symbolic dimensions taken for 1, inputs as maps of maps, outputs with names of their own, a new attempt after
// NaN, fractions of the energy layer by layer. RECORD gets the inputs and the voxels of each shower as float32.
#include <onnxruntime_cxx_api.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using Inputs = std::map<std::string, std::map<std::string, double>>;
using Outputs = std::map<std::string, double>;

class Network {
 public:
  explicit Network(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    Ort::SessionOptions options;
    options.SetInterOpNumThreads(1);
    options.SetIntraOpNumThreads(1);
    session_ = Ort::Session(env_, bytes_.data(), bytes_.size(), options);
    for (size_t i = 0; i < session_.GetInputCount(); ++i) {
      names_.push_back(session_.GetInputNameAllocated(i, allocator_).get());
      shapes_.push_back(fixed(session_.GetInputTypeInfo(i).GetTensorTypeAndShapeInfo().GetShape()));
    }
    if (session_.GetOutputCount() != 1) throw std::runtime_error("one output is expected");
    output_ = session_.GetOutputNameAllocated(0, allocator_).get();
    n_outputs_ = size(fixed(session_.GetOutputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape()));
  }

  Outputs compute(const Inputs& inputs) {
    std::vector<std::vector<float>> values;
    std::vector<Ort::Value> tensors;
    std::vector<const char*> names;
    for (size_t i = 0; i < names_.size(); ++i) {
      values.emplace_back(size(shapes_[i]));
      for (const auto& [key, value] : inputs.at(names_[i])) {
        values.back().at(std::stoi(key.substr(key.find_first_of("0123456789")))) = static_cast<float>(value);
      }
      names.push_back(names_[i].c_str());
    }
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    for (size_t i = 0; i < names_.size(); ++i) {
      tensors.push_back(Ort::Value::CreateTensor<float>(memory, values[i].data(), values[i].size(), shapes_[i].data(),
                                                        shapes_[i].size()));
    }
    const char* output = output_.c_str();
    auto results = session_.Run(Ort::RunOptions{nullptr}, names.data(), tensors.data(), names.size(), &output, 1);
    Outputs outputs;
    for (int64_t i = 0; i < n_outputs_; ++i) outputs[std::to_string(i)] = results[0].GetTensorData<float>()[i];
    return outputs;
  }

 private:
  static std::vector<int64_t> fixed(std::vector<int64_t> shape) {
    for (auto& size : shape) {
      if (size < 1) size = 1;
    }
    return shape;
  }
  static int64_t size(const std::vector<int64_t>& shape) {
    int64_t product = 1;
    for (auto n : shape) product *= n;
    return product;
  }

  Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "caloman"};
  Ort::AllocatorWithDefaultOptions allocator_;
  Ort::Session session_{nullptr};
  std::vector<char> bytes_;
  std::vector<std::string> names_;
  std::vector<std::vector<int64_t>> shapes_;
  std::string output_;
  int64_t n_outputs_ = 0;
};

std::vector<size_t> numbers(const std::string& text) {
  std::vector<size_t> result;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) result.push_back(std::stoul(item));
  return result;
}

bool has_nan(const Outputs& outputs) {
  for (const auto& [key, value] : outputs) {
    if (std::isnan(value)) return true;
  }
  return false;
}

int main(int argc, char** argv) try {
  if (argc < 7) throw std::runtime_error("usage: fastcalosim FILE.onnx BOUNDARIES LAYERS ETA ENERGY N [RECORD]");
  Network network(argv[1]);
  const auto boundaries = numbers(argv[2]), layers = numbers(argv[3]);
  const double eta = std::abs(std::stod(argv[4])) * 10, energy = std::stod(argv[5]);
  const size_t n_voxels = boundaries.back();
  std::ofstream record(argc > 7 ? argv[7] : "/dev/null", std::ios::binary);
  const auto write = [&](double value) {
    const auto number = static_cast<float>(value);
    record.write(reinterpret_cast<const char*>(&number), sizeof number);
  };
  std::mt19937_64 engine(1);
  std::normal_distribution<float> normal;
  for (int event = 0; event < std::stoi(argv[6]); ++event) {
    Inputs inputs;
    Outputs outputs;
    for (int attempt = 0; attempt <= 5 && (outputs.empty() || has_nan(outputs)); ++attempt) {
      inputs = {{"inn_eta_in", {{"variable_0", eta}}}, {"inn_einc_in", {{"variable_0", energy}}}};
      for (size_t i = 0; i < n_voxels; ++i) inputs["cfm_z_shape"]["variable_" + std::to_string(i)] = normal(engine);
      for (size_t i = 0; i < layers.size(); ++i) inputs["inn_z_energy"]["variable_" + std::to_string(i)] = normal(engine);
      outputs = network.compute(inputs);
    }
    for (const auto* name : {"cfm_z_shape", "inn_z_energy"}) {
      for (size_t i = 0; i < inputs[name].size(); ++i) write(inputs[name]["variable_" + std::to_string(i)]);
    }
    for (size_t i = 0; i < n_voxels; ++i) write(outputs.at(std::to_string(i)));
    std::printf("%.1f MeV:", energy);
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      double fraction = 0;
      size_t hits = 0;
      for (size_t i = boundaries[layer]; i < boundaries[layer + 1]; ++i) {
        const double voxel = outputs.at(std::to_string(i));
        if (voxel <= 0) continue;
        fraction += voxel / energy;
        ++hits;
      }
      std::printf("  layer %zu %.4f in %zu", layers[layer], fraction, hits);
    }
    std::printf("\n");
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "fastcalosim: %s\n", error.what());
  return 1;
}
