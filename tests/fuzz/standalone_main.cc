// Calls a fuzz target where there is no libFuzzer, with random inputs.
//
//   TARGET [-runs=N] [-max_total_time=SECONDS] [-seed=N]
//   TARGET FILE...
//
// These are arguments of libFuzzer, whose others, such as a folder of inputs,
// are ignored. Unlike libFuzzer it does not see which inputs are interesting.
// The same seed gives the same inputs; if one of them makes the process abort,
// its number is printed.

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

uint64_t seed = 1;
uint64_t run = 0;

void Abort(int) {
  std::fprintf(stderr, "while at run %llu with -seed=%llu\n",
               static_cast<unsigned long long>(run),    // NOLINT(runtime/int)
               static_cast<unsigned long long>(seed));  // NOLINT(runtime/int)
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

// In memory of exactly its size, so that AddressSanitizer sees a target that
// reads further.
void Call(const std::vector<uint8_t>& input) {
  const std::unique_ptr<uint8_t[]> data(new uint8_t[input.size()]);
  std::copy(input.begin(), input.end(), data.get());
  LLVMFuzzerTestOneInput(data.get(), input.size());
}

// Many short inputs and some long ones.
std::vector<uint8_t> RandomInput(std::mt19937_64& random) {
  std::vector<uint8_t> input(random() % (random() % 4 == 0 ? 1024 : 128));
  for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t max_runs = UINT64_MAX;
  std::time_t seconds = 0;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string value = argument.substr(argument.find('=') + 1);
    if (argument.rfind("-runs=", 0) == 0) {
      max_runs = std::strtoull(value.c_str(), nullptr, 10);
    } else if (argument.rfind("-max_total_time=", 0) == 0) {
      seconds = std::strtol(value.c_str(), nullptr, 10);
    } else if (argument.rfind("-seed=", 0) == 0) {
      seed = std::strtoull(value.c_str(), nullptr, 10);
    } else if (argument.rfind("-", 0) != 0 &&
               !std::filesystem::is_directory(argument)) {
      files.push_back(argument);
    }
  }

  for (const std::string& file : files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) {
      std::fprintf(stderr, "cannot read %s\n", file.c_str());
      return 1;
    }
    Call({std::istreambuf_iterator<char>(stream), {}});
  }
  if (!files.empty()) return 0;

  std::signal(SIGABRT, Abort);
  std::mt19937_64 random(seed);
  const std::time_t begin = std::time(nullptr);
  for (; run < max_runs; ++run) {
    if (seconds > 0 && std::time(nullptr) - begin >= seconds) break;
    Call(RandomInput(random));
  }
  std::printf("Done %llu runs with -seed=%llu, in %ld second(s)\n",
              static_cast<unsigned long long>(run),   // NOLINT(runtime/int)
              static_cast<unsigned long long>(seed),  // NOLINT(runtime/int)
              static_cast<long>(std::time(nullptr) - begin));  // NOLINT
  return 0;
}
