// Runs a fuzz target over every file of a corpus folder, so corpora are unit tests too; with a
// number, also over so many mutations of them: the same ones every time, no fuzzer needed.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

// By name, so that every machine makes the same mutations.
std::map<std::string, Input> read_corpus(const char* folder) {
  std::map<std::string, Input> out;
  std::error_code ec;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ec)) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
    out[entry.path().filename()] = Input(bytes.begin(), bytes.end());
  }
  return out;
}

class Mutator {
 public:
  explicit Mutator(std::vector<Input> seeds) : seeds_(std::move(seeds)) {}

  // One to four changes of one seed: bits, bytes, numbers at the edges of their range, pieces cut
  // out, doubled, or taken from another seed.
  const Input& next() {
    input_ = seeds_[below(seeds_.size())];
    for (size_t changes = 1 + below(4); changes > 0; --changes) change();
    return input_;
  }

 private:
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }

  void change() {
    constexpr uint8_t kEdges[] = {0, 1, 0x0f, 0x10, 0x3f, 0x40, 0x41, 0x7f, 0x80, 0xfe, 0xff};
    const size_t at = below(input_.size());
    const auto place = input_.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random_() % 7) {
      case 0:
        if (!input_.empty()) *place = static_cast<uint8_t>(*place ^ 1U << random_() % 8);
        break;
      case 1:
        if (!input_.empty()) *place = static_cast<uint8_t>(random_());
        break;
      case 2:
        if (!input_.empty()) *place = kEdges[below(std::size(kEdges))];
        break;
      case 3:
        if (!input_.empty()) *place = static_cast<uint8_t>(*place + (random_() % 2 == 0 ? 1 : 255));
        break;
      case 4:
        input_.erase(place, place + static_cast<std::ptrdiff_t>(below(input_.size() - at)));
        break;
      case 5: {
        const size_t piece = std::min<size_t>(below(16), input_.size() - at);
        const Input copy(place, place + static_cast<std::ptrdiff_t>(piece));
        input_.insert(place, copy.begin(), copy.end());
        break;
      }
      case 6: {
        const Input& other = seeds_[below(seeds_.size())];
        input_.resize(at);
        input_.insert(input_.end(),
                      other.begin() + static_cast<std::ptrdiff_t>(std::min(at, other.size())),
                      other.end());
        break;
      }
    }
  }

  std::vector<Input> seeds_;
  Input input_;
  std::mt19937_64 random_{1};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER [MUTATIONS]\n", argv[0]);
    return 2;
  }
  std::vector<Input> seeds;
  for (const auto& [name, input] : read_corpus(argv[1])) {
    LLVMFuzzerTestOneInput(input.data(), input.size());
    seeds.push_back(input);
  }
  if (seeds.empty()) return 1;  // an empty corpus proves nothing
  std::printf("replayed %zu inputs\n", seeds.size());
  const uint64_t mutations = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  Mutator mutator(std::move(seeds));
  for (uint64_t i = 0; i < mutations; ++i) {
    const Input& input = mutator.next();
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("and %llu mutations of them\n", static_cast<unsigned long long>(mutations));
  return 0;
}
