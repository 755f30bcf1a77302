// What goes wrong inside the library: an exception with the status and the sentence that the C boundary hands out.
#pragma once

#include <cstdarg>
#include <cstdio>
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
    throw Failure(status, sentence);
}

/// A library's error in a few words, for a sentence of ours: its first line that says more than a place in its sources,
/// 160 characters at most; as irsde_deploy/errors.py.
inline std::string reason(const std::exception& error) {
    std::istringstream lines(error.what());
    for (std::string line; std::getline(lines, line);)
        if (!line.empty() && line.rfind("Exception from", 0) != 0 && line.rfind("Check '", 0) != 0)
            return line.substr(0, 160);
    return "it does not say why";
}

}  // namespace irsde::runtime
