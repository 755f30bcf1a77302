// Hexadecimal floats as Python writes them, in any locale.
#include <clocale>
#include <cstdio>
#include <stdexcept>

#include "pack.h"

using irsde::runtime::parse_hex_float;

namespace {

int failures = 0;

void equal(const char* text, double expected) {
    const double found = parse_hex_float(text);
    if (found != expected) std::printf("%s is %a, expected %a\n", text, found, expected), ++failures;
}

void refused(const char* text) {
    try {
        const double found = parse_hex_float(text);
        std::printf("'%s' was read as %a\n", text, found), ++failures;
    } catch (const std::invalid_argument&) {
    }
}

}  // namespace

int main() {
    std::setlocale(LC_ALL, "de_DE.UTF-8");  // where installed: a comma for the point
    equal("0x0.0p+0", 0.0);
    equal("0x1.8000000000000p+1", 3.0);
    equal("-0x1.921fb54442d18p+1", -3.141592653589793);
    equal("0x1.999999999999ap-4", 0.1);
    equal("0x0.0000000000001p-1022", 5e-324);
    equal("0x1.fffffffffffffp+1023", 1.7976931348623157e308);
    equal("0x1p+0", 1.0);
    for (const char* text :
         {"", "-", "1.5", "nan", "inf", "0x", "0xp+1", "0x1.8", "0x1.8p", "0x1.8p+", "0x1.8p1", "0x1.8p+1x",
          "0x1..8p+1", "0x1.p+1", "0x1.8p+00001", "0x.8p+1", "0x1.8p+99999", "0x1.80000000000000000p+1", "--0x1p+0"})
        refused(text);
    return failures;
}
