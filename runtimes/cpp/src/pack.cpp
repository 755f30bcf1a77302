#include "pack.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>

#include "card.h"
#include "failure.h"
#include "sha256.h"

namespace irsde::runtime {

namespace {

constexpr const char* STEPS_FILE = "steps.txt";
constexpr const char* HEADER = "irsde-steps 1";
constexpr std::uintmax_t MAX_STEPS_TEXT = 4 << 20, MAX_CARD_TEXT = 65'536;  // bytes
constexpr int MAX_STEPS = 10'000, MAX_T = 1'000'000, MAX_REFERENCE_SIDE = 8192, MAX_MULTIPLE = 256,
              MAX_MARGIN = 256;
constexpr double MAX_COEFFICIENT = 1e30, MAX_TOLERANCE = 0.5;
constexpr const char* ADVICE = "pack the engine again with 'irsde-deploy pack'";

[[noreturn]] void damaged(const std::filesystem::path& file, const std::string& what) {
    fail(IRSDE_BAD_PACK, "%s: %s: %s", shown(file).c_str(), what.c_str(), ADVICE);
}

/// The size of an ordinary file; others, such as pipes, may never end.
std::uintmax_t size_of(const std::filesystem::path& file) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) damaged(file, "there is no such file");
    if (!std::filesystem::is_regular_file(file, error)) damaged(file, "it is not an ordinary file");
    const std::uintmax_t size = std::filesystem::file_size(file, error);
    if (error) damaged(file, "the file cannot be read");
    return size;
}

std::string read_text(const std::filesystem::path& file, std::uintmax_t most) {
    const std::uintmax_t size = size_of(file);
    if (size == 0 || size > most) damaged(file, "the file is empty or larger than any of its kind");
    std::ifstream stream(file, std::ios::binary);
    std::string text(static_cast<std::size_t>(size), '\0');
    if (!stream.read(text.data(), static_cast<std::streamsize>(size))) damaged(file, "the file cannot be read");
    return text;
}

std::uint64_t parse_whole(const std::string& text) {
    if (text.empty() || text.size() > 20) throw std::invalid_argument("no whole number");
    std::uint64_t value = 0;
    for (const char digit : text) {
        const auto next = static_cast<std::uint64_t>(digit - '0');
        if (digit < '0' || digit > '9' || value > (std::numeric_limits<std::uint64_t>::max() - next) / 10)
            throw std::invalid_argument("no whole number");
        value = value * 10 + next;
    }
    return value;
}

int parse_int(const std::string& text, int low, int high) {
    const std::uint64_t value = parse_whole(text);
    if (value < static_cast<std::uint64_t>(low) || value > static_cast<std::uint64_t>(high))
        throw std::invalid_argument("out of range");
    return static_cast<int>(value);
}

double parse_coefficient(const std::string& text) {
    const double value = parse_hex_float(text);
    if (!(std::fabs(value) <= MAX_COEFFICIENT)) throw std::invalid_argument("out of range");
    return value;
}

double parse_tolerance(const std::string& text) {
    const double value = parse_hex_float(text);
    if (!(value > 0 && value <= MAX_TOLERANCE)) throw std::invalid_argument("out of range");
    return value;
}

std::uint64_t parse_size(const std::string& text) {
    const std::uint64_t value = parse_whole(text);
    if (value == 0) throw std::invalid_argument("out of range");
    return value;
}

std::string choice(const std::string& text, std::initializer_list<const char*> known) {
    for (const char* name : known)
        if (text == name) return text;
    throw std::invalid_argument("not one of those known");
}

/// Whether a text is UTF-8: nothing longer than it need be, no surrogates, nothing beyond Unicode.
bool is_utf8(const std::string& text) {
    std::size_t more = 0;
    std::uint32_t code = 0, least = 0;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (more > 0) {
            if ((byte & 0xC0) != 0x80) return false;
            code = code << 6 | (byte & 0x3F);
            if (--more == 0 && (code < least || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))) return false;
        } else if (byte >= 0x80) {
            if (byte < 0xC0 || byte >= 0xF8) return false;
            more = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
            code = byte & (0x3F >> more);
            least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
        }
    }
    return more == 0;
}

/// The lines of steps.txt as key -> the rest; steps are taken in order. Comments and empty lines are left out.
struct Lines {
    std::map<std::string, std::string> values;
    std::vector<std::string> steps;
};

Lines split(const std::filesystem::path& file, const std::string& text) {
    if (!is_utf8(text)) damaged(file, "it is not UTF-8 text");
    std::istringstream stream(text);
    std::string line;
    if (!std::getline(stream, line) || line != HEADER)
        damaged(file, std::string("its first line is not '") + HEADER + "', which this library reads");
    Lines lines;
    bool ended = false;
    while (std::getline(stream, line)) {
        if (line.empty() || line[0] == '#') continue;
        if (ended) damaged(file, "there is something after its end");
        const std::size_t space = line.find(' ');
        const std::string key = line.substr(0, space), rest = space == line.npos ? "" : line.substr(space + 1);
        if (line == "end")
            ended = true;
        else if (key == "step")
            lines.steps.push_back(rest);
        else if (!lines.values.emplace(key, rest).second)
            damaged(file, "it says '" + key.substr(0, 40) + "' twice");
    }
    if (!ended) damaged(file, "it is cut short");
    return lines;
}

Step parse_step(const std::string& text) {
    std::vector<std::string> words;
    for (std::size_t at = 0; at != text.npos && words.size() < 8;) {
        const std::size_t space = text.find(' ', at);
        words.push_back(text.substr(at, space == text.npos ? space : space - at));
        at = space == text.npos ? space : space + 1;
    }
    if (words.size() != 7) throw std::invalid_argument("not seven numbers");
    Step step{};
    step.t = parse_int(words[0], 1, MAX_T);
    double* const columns[] = {&step.a, &step.c, &step.d, &step.s, &step.p, &step.r};
    for (std::size_t i = 0; i < 6; ++i) *columns[i] = parse_coefficient(words[i + 1]);
    return step;
}

std::vector<Step> parse_steps(const std::filesystem::path& file, const std::vector<std::string>& lines, int count,
                              bool clip) {
    if (lines.size() != static_cast<std::size_t>(count)) damaged(file, "it has not as many steps as it says");
    std::vector<Step> steps;
    for (const std::string& line : lines) {
        try {
            steps.push_back(parse_step(line));
        } catch (const std::invalid_argument& error) {
            damaged(file, "its step " + std::to_string(steps.size() + 1) + " cannot be read (" + error.what() + ")");
        }
        if (steps.size() > 1 && steps.back().t >= steps[steps.size() - 2].t)
            damaged(file, "its timesteps do not decrease");
        if (clip && steps.back().r == 0)  // what is clipped would not depend on the network
            damaged(file, "its step " + std::to_string(steps.size()) + " has r = 0, which does not go with clip");
    }
    return steps;
}

/// Gives the values out one by one, and complains about what is missing, wrong or left over.
class Values {
public:
    Values(const std::filesystem::path& file, std::map<std::string, std::string> values)
        : file_(file), values_(std::move(values)) {}

    template <class Parse>
    auto take(const char* key, Parse parse) {
        const auto found = values_.find(key);
        if (found == values_.end()) damaged(file_, std::string("it does not say '") + key + "'");
        const std::string text = found->second;
        values_.erase(found);
        try {
            return parse(text);
        } catch (const std::invalid_argument& error) {
            damaged(file_, std::string("its '") + key + "' is '" + text.substr(0, 40) + "' (" + error.what() + ")");
        }
    }

    bool has(const char* key) const { return values_.count(key) != 0; }

    void require_empty() const {
        if (!values_.empty())
            damaged(file_, "it says '" + values_.begin()->first.substr(0, 40) + "', which is unknown");
    }

private:
    const std::filesystem::path file_;
    std::map<std::string, std::string> values_;
};

auto whole(int low, int high) {
    return [low, high](const std::string& text) { return parse_int(text, low, high); };
}

bool flag(const std::string& text) { return parse_int(text, 0, 1) == 1; }

std::string word(const std::string& text) {
    if (text.size() > 800) throw std::invalid_argument("too long");
    for (const char c : text)
        if (static_cast<unsigned char>(c) < 32) throw std::invalid_argument("not a plain text");
    return text;
}

/// What NumPy's header says of a float32 array in C order.
std::string header_of(const std::vector<std::size_t>& shape) {
    std::string sides;
    for (const std::size_t side : shape) sides += (sides.empty() ? "" : ", ") + std::to_string(side);
    return "{'descr': '<f4', 'fortran_order': False, 'shape': (" + sides + "), }";
}

std::string parse_hash(const std::string& text) {
    if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != text.npos)
        throw std::invalid_argument("not 64 hexadecimal digits");
    return text;
}

std::string sha256_of(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    std::vector<char> block(1 << 20);
    Sha256 hash;
    while (stream) {
        stream.read(block.data(), static_cast<std::streamsize>(block.size()));
        hash.add(reinterpret_cast<const unsigned char*>(block.data()), static_cast<std::size_t>(stream.gcount()));
    }
    if (!stream.eof()) damaged(file, "the file cannot be read");
    return hash.digest();
}

/// The engine's file is the one that was packed: what reads it next is not made for damaged ones.
void require_engine(const Pack& pack) {
    const std::uintmax_t size = size_of(pack.engine());
    if (size != pack.engine_bytes)
        damaged(pack.engine(),
                "it has " + std::to_string(size) + " bytes, and steps.txt says " + std::to_string(pack.engine_bytes));
    if (!pack.engine_sha256.empty() && sha256_of(pack.engine()) != pack.engine_sha256)
        damaged(pack.engine(), "it is not the file that was packed: its SHA-256 is another");
}

/// card.json. What steps.txt says of the network must be in it.
std::string read_card(const Pack& pack) {
    const std::filesystem::path file = pack.folder / "card.json";
    const std::string text = read_text(file, MAX_CARD_TEXT);
    Json card;
    try {
        card = parse_card(text);
    } catch (const std::invalid_argument& error) {
        damaged(file, std::string("it is not a model card (") + error.what() + ")");
    }
    if (!agrees(card, pack)) damaged(pack.folder, "card.json and steps.txt are of different models");
    return text;
}

}  // namespace

bool Pack::stochastic() const {
    for (const Step& step : steps)
        if (step.s != 0) return true;
    return false;
}

Pack read_pack(const std::filesystem::path& folder) {
    std::error_code error;
    if (!std::filesystem::is_directory(folder, error))
        fail(IRSDE_BAD_PACK, "%s: %s: make one with 'irsde-deploy pack'", shown(folder).c_str(),
             std::filesystem::exists(folder, error) ? "this is a file, and a pack is a folder"
                                                    : "there is no such folder");
    const std::filesystem::path file = folder / STEPS_FILE;
    Lines lines = split(file, read_text(file, MAX_STEPS_TEXT));
    Values values(file, std::move(lines.values));
    Pack pack;
    pack.folder = folder;
    pack.backend = values.take(
        "backend", [](const std::string& text) { return choice(text, {"openvino", "tensorrt", "tensorrt-rtx"}); });
    pack.engine_file = pack.backend == "openvino" ? "engine.onnx" : "engine.plan";
    pack.engine_bytes = values.take("engine_bytes", parse_size);
    pack.channels = values.take("channels", whole(1, 256));
    pack.multiple_of = values.take("multiple_of", whole(1, MAX_MULTIPLE));
    pack.reflect =
        values.take("pad_mode", [](const std::string& text) { return choice(text, {"reflect", "zero"}); }) == "reflect";
    pack.conditional = values.take("conditional", flag);
    pack.latent = values.take("latent", flag);
    pack.clip = values.take("clip", flag);
    pack.seed = values.take("seed", parse_whole);
    pack.precision = values.take("precision", word);
    pack.sampler = values.take("sampler", word);
    pack.task = values.take("task", word);
    pack.reference_height = values.take("reference_height", whole(1, MAX_REFERENCE_SIDE));
    pack.reference_width = values.take("reference_width", whole(1, MAX_REFERENCE_SIDE));
    pack.tolerance = values.take("tolerance", parse_tolerance);
    pack.start = values.take("start", parse_coefficient);
    const int count = values.take("steps", whole(1, MAX_STEPS));
    if (values.has("engine_sha256")) pack.engine_sha256 = values.take("engine_sha256", parse_hash);
    if (values.has("margin")) pack.margin = values.take("margin", whole(1, MAX_MARGIN));  // written where there is one
    values.require_empty();
    pack.steps = parse_steps(file, lines.steps, count, pack.clip);
    pack.card_json = read_card(pack);
    require_engine(pack);
    return pack;
}

void require_same_card(const Pack& pack, const std::string& own) {
    Json other;
    try {
        other = parse_card(own);
    } catch (const std::invalid_argument& error) {
        damaged(pack.engine(), std::string("the model card inside cannot be read (") + error.what() + ")");
    }
    if (!same_card(parse_card(pack.card_json), other))
        damaged(pack.folder, "card.json and the engine are of different models");
}

std::vector<float> read_array(const Pack& pack, const char* name, const std::vector<std::size_t>& shape) {
    const std::filesystem::path file = pack.folder / name;
    const std::string magic("\x93NUMPY\x01\x00", 8), expected = header_of(shape);
    std::size_t count = 1;
    for (const std::size_t side : shape) count *= side;
    const std::uintmax_t size = size_of(file);
    constexpr std::size_t PREFIX = 10;
    std::ifstream stream(file, std::ios::binary);
    std::string head(PREFIX, '\0');
    if (!stream.read(head.data(), PREFIX)) damaged(file, "it is too short");
    if (head.compare(0, magic.size(), magic) != 0) damaged(file, "it is no array of NumPy's version 1");
    const auto byte = [&head](int at) { return static_cast<std::size_t>(static_cast<unsigned char>(head[at])); };
    std::string description(byte(8) | byte(9) << 8, '\0');
    stream.read(description.data(), static_cast<std::streamsize>(description.size()));
    const std::size_t end = description.find_last_not_of(" \n") + 1;  // NumPy pads with spaces and a line's end
    if (!stream || description.substr(0, end) != expected) damaged(file, "it is not the array " + expected);
    if (size != PREFIX + description.size() + count * sizeof(float))
        damaged(file, "it does not have the " + std::to_string(count) + " values that steps.txt asks for");
    std::vector<float> values(count);
    if (!stream.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float))))
        damaged(file, "it cannot be read");
    for (const float value : values)
        if (!std::isfinite(value)) damaged(file, "it has NaN or infinite values");
    return values;
}

double parse_hex_float(const std::string& text) {  // [-]0x1.8p+3
    const auto wrong = [] { return std::invalid_argument("no hexadecimal float such as 0x1.8p+3"); };
    std::size_t at = text[0] == '-' ? 1 : 0;
    const bool negative = at == 1;
    if (text.compare(at, 2, "0x") != 0) throw wrong();
    std::uint64_t mantissa = 0;
    int digits = 0, behind_point = 0;  // 15 digits at most: 60 bits
    bool point = false;
    for (at += 2; at < text.size() && text[at] != 'p'; ++at) {
        const char c = text[at];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (c == '.' && !point && digits > 0) {
            point = true;
        } else if (digit >= 0 && ++digits <= 15) {
            mantissa = mantissa * 16 + static_cast<std::uint64_t>(digit);
            behind_point += point ? 1 : 0;
        } else {
            throw wrong();
        }
    }
    if (digits == 0 || (point && behind_point == 0) || at + 2 >= text.size() || text.size() - at > 6 ||
        (text[at + 1] != '+' && text[at + 1] != '-'))
        throw wrong();
    const int exponent = parse_int(text.substr(at + 2), 0, 2000);
    const double value =
        std::ldexp(static_cast<double>(mantissa), (text[at + 1] == '-' ? -exponent : exponent) - 4 * behind_point);
    return negative ? -value : value;
}

}  // namespace irsde::runtime
