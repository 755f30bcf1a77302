// A pack's folder, read: steps.txt, which irsde_deploy/embedding/steps_file.py writes, and the reference arrays beside it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace irsde::runtime {

/// One reverse step: q = p y + r eps;  y' = a y + c eps + d q_prev + s z.
struct Step {
    int t;
    double a, c, d, s, p, r;
};

/// What steps.txt says; every number is within its bounds.
struct Pack {
    std::filesystem::path folder;
    std::string backend;      // openvino, tensorrt or tensorrt-rtx
    std::string engine_file;  // a plain name in the folder
    std::uint64_t engine_bytes = 0;
    std::string engine_sha256;  // empty in packs of earlier versions
    int channels = 0;
    int multiple_of = 0;
    bool reflect = false;  // padding: reflect, else zero
    int margin = 0;        // of reflection on each side, restored with the picture and cut off: core/margin.py
    bool conditional = false;
    bool latent = false;
    bool clip = false;
    std::uint64_t seed = 0;
    std::string precision, sampler, task;
    int reference_height = 0, reference_width = 0;
    double tolerance = 0;
    double start = 0;  // standard deviation of the initial state
    std::vector<Step> steps;
    std::string card_json;

    std::filesystem::path engine() const { return folder / engine_file; }
    bool stochastic() const;
};

/// Read and check a pack's folder; the engine itself is not opened. Throws Failure (IRSDE_BAD_PACK).
Pack read_pack(const std::filesystem::path& folder);

/// Check that card.json is the card inside the engine, a JSON text. Throws Failure (IRSDE_BAD_PACK).
void require_same_card(const Pack& pack, const std::string& own);

/// A float32 array of the pack in C order, as NumPy writes it, of exactly this shape; all of it finite. Throws Failure
/// (IRSDE_BAD_PACK).
std::vector<float> read_array(const Pack& pack, const char* name, const std::vector<std::size_t>& shape);

/// A number as Python's float.hex() writes it, whatever the locale. Throws std::invalid_argument.
double parse_hex_float(const std::string& text);

}  // namespace irsde::runtime
