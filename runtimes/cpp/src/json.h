// JSON, as much of it as a model card is: read strictly, as irsde_deploy/system/parsing.py reads it, and compared.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace irsde::runtime {

/// A value of JSON.
struct Json {
    enum Kind { null, boolean, whole, number, text, list, object };

    Kind kind = null;
    bool flag = false;
    double value = 0;  // of whole numbers and of others
    std::string string;
    std::vector<Json> entries;
    std::map<std::string, Json> fields;

    const Json* field(const std::string& name) const;
    bool is(const std::string& expected) const { return kind == text && string == expected; }
    bool is(double expected) const { return kind == whole && value == expected; }
};

/// 1 and 1.0 are equal, as they are in Python.
bool operator==(const Json& a, const Json& b);

/// Read a text that is one value, in ASCII. Names are there once, numbers are finite and whole ones have at most 64 bits,
/// texts are Unicode, and nothing is nested more than 32 deep. Throws std::invalid_argument.
Json parse_json(const std::string& text);

}  // namespace irsde::runtime
