// What goes wrong inside the library: an exception with the status and the sentence that the C boundary hands out.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>

#include "irsde.h"

namespace irsde::runtime {

class Failure : public std::runtime_error {
public:
    Failure(irsde_status status, const std::string& sentence) : std::runtime_error(sentence), status(status) {}
    const irsde_status status;
};

/// Whether these bytes, behind 0xE2, are the end of a line or paragraph (U+2028, U+2029), or turn the direction of writing
/// (U+202A to U+202E, U+2066 to U+2069).
inline bool is_end_or_direction(unsigned char second, unsigned char third) {
    return (second == 0x80 && third >= 0xA8 && third <= 0xAE) || (second == 0x81 && third >= 0xA6 && third <= 0xA9);
}

/// What moves a terminal's cursor becomes spaces, since sentences quote files; as irsde_deploy/errors.py.
inline void remove_controls(char* sentence) {
    for (auto* c = reinterpret_cast<unsigned char*>(sentence); *c != 0; ++c) {
        if (*c < 32 || *c == 127)
            *c = ' ';
        else if (*c == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0)  // U+0080 to U+009F
            c[0] = c[1] = ' ';
        else if (*c == 0xE2 && is_end_or_direction(c[1], c[2]))
            c[0] = c[1] = c[2] = ' ';
    }
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3), noreturn))
#else
[[noreturn]]
#endif
inline void fail(irsde_status status, const char* format, ...) {
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    remove_controls(sentence);
    throw Failure(status, sentence);
}

/// A path for a sentence: of a long one its end, so that what follows is not cut off.
inline std::string shown(const std::filesystem::path& path) {
    constexpr std::size_t LENGTH = 200;
    const std::string text = path.string();
    if (text.size() <= LENGTH) return text;
    std::size_t at = text.size() - LENGTH + 3;
    while (at < text.size() && (text[at] & 0xC0) == 0x80) ++at;  // within a character of UTF-8
    return "..." + text.substr(at);
}

/// A library's error in a few words, for a sentence of ours: its first line that says more than a place in its sources,
/// 160 characters of ASCII at most; as irsde_deploy/errors.py.
inline std::string reason(const std::exception& error) {
    constexpr const char* MUTE[] = {"Exception from", "Check '", "FrontEnd API failed with", "Loading input model"};
    std::istringstream lines(error.what());
    for (std::string line; std::getline(lines, line);) {
        bool says = !line.empty();
        for (const char* start : MUTE) says = says && line.rfind(start, 0) != 0;
        if (!says) continue;
        for (char& c : line)
            if (c < 32 || c > 126) c = '?';
        return line.substr(0, 160);
    }
    return "it does not say why";
}

}  // namespace irsde::runtime
