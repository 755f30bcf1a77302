// Hexadecimal floats as Python writes them, in any locale; and SHA-256.
#include <clocale>
#include <cstdio>
#include <stdexcept>

#include "pack.h"
#include "sha256.h"

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

/// A text, added `times` times: digests as FIPS 180-4's examples and sha256sum have them.
void hashes(const std::string& text, int times, const char* expected) {
    irsde::runtime::Sha256 hash;
    for (int i = 0; i < times; ++i) hash.add(reinterpret_cast<const unsigned char*>(text.data()), text.size());
    const std::string found = hash.digest();
    if (found != expected) std::printf("SHA-256 %s, expected %s\n", found.c_str(), expected), ++failures;
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
    hashes("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hashes("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hashes("a", 1'000'000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    hashes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    return failures;
}
