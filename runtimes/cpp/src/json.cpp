#include "json.h"

#include <cmath>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace irsde::runtime {

namespace {

constexpr int MOST_DEPTH = 32;
constexpr double BEYOND_64_BITS = 18446744073709551616.0;

[[noreturn]] void wrong(const char* what) { throw std::invalid_argument(what); }

class Parser {
public:
    explicit Parser(const std::string& text) : text_(text) {}

    Json all() {
        Json value = any(0);
        skip();
        if (at_ != text_.size()) wrong("something follows its end");
        return value;
    }

private:
    void skip() {
        while (at_ < text_.size() && std::string(" \t\n\r").find(text_[at_]) != std::string::npos) ++at_;
    }

    char next() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool take(char expected) {
        skip();
        if (next() != expected) return false;
        ++at_;
        return true;
    }

    bool take(const char* word) {
        const std::string expected(word);
        if (text_.compare(at_, expected.size(), expected) != 0) return false;
        at_ += expected.size();
        return true;
    }

    Json any(int depth) {
        if (depth > MOST_DEPTH) wrong("it is nested too deeply");
        skip();
        Json value;
        if (take('{')) {
            value.kind = Json::object;
            fill_object(value, depth);
        } else if (take('[')) {
            value.kind = Json::list;
            fill_list(value, depth);
        } else if (next() == '"') {
            value.kind = Json::text;
            value.string = quoted();
        } else if (take("true")) {
            value.kind = Json::boolean;
            value.flag = true;
        } else if (take("false")) {
            value.kind = Json::boolean;
        } else if (!take("null")) {
            fill_number(value);
        }
        return value;
    }

    void fill_object(Json& value, int depth) {
        if (take('}')) return;
        do {
            skip();
            const std::string name = quoted();
            if (!take(':')) wrong("a name has no value");
            if (!value.fields.emplace(name, any(depth + 1)).second) wrong("a name is there twice");
        } while (take(','));
        if (!take('}')) wrong("an object does not end");
    }

    void fill_list(Json& value, int depth) {
        if (take(']')) return;
        do value.entries.push_back(any(depth + 1));
        while (take(','));
        if (!take(']')) wrong("a list does not end");
    }

    static bool is_digit(char c) { return c >= '0' && c <= '9'; }

    void digits() {
        if (!is_digit(next())) wrong("it has something that is no value");
        while (is_digit(next())) ++at_;
    }

    void fill_number(Json& value) {
        const std::size_t start = at_;
        if (next() == '-') ++at_;
        if (next() == '0')
            ++at_;
        else
            digits();
        value.kind = Json::whole;
        if (next() == '.') {
            value.kind = Json::number;
            ++at_;
            digits();
        }
        if (next() == 'e' || next() == 'E') {
            value.kind = Json::number;
            ++at_;
            if (next() == '-' || next() == '+') ++at_;
            digits();
        }
        std::istringstream stream(text_.substr(start, at_ - start));
        stream.imbue(std::locale::classic());  // a point, whatever the locale
        stream >> value.value;
        if (stream.fail() || !std::isfinite(value.value)) wrong("a number is not finite");
        if (value.kind == Json::whole && std::fabs(value.value) >= BEYOND_64_BITS) wrong("a number is beyond 64 bits");
    }

    std::string quoted() {
        if (next() != '"') wrong("a name or text is missing");
        ++at_;
        std::string made;
        for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
            const auto c = static_cast<unsigned char>(text_[at_]);
            if (c < 32 || c > 126) wrong("it is not plain ASCII");
            if (c == '\\')
                made += escaped();
            else
                made += text_[at_];
        }
        if (at_ >= text_.size()) wrong("a text does not end");
        ++at_;
        return made;
    }

    /// What the escape here stands for; its last character is the current one then.
    std::string escaped() {
        const std::string known = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
        ++at_;
        if (next() == 'u') {
            unsigned long code = four_digits();
            if (code >= 0xD800 && code < 0xDC00 && text_.compare(at_ + 1, 2, "\\u") == 0) {
                at_ += 2;
                const unsigned long low = four_digits();
                if (low < 0xDC00 || low > 0xDFFF) wrong("a text is no Unicode");
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            }
            if (code >= 0xD800 && code < 0xE000) wrong("a text is no Unicode");
            return utf8(code);
        }
        const std::size_t which = at_ < text_.size() ? known.find(text_[at_]) : std::string::npos;
        if (which == std::string::npos) wrong("it has an unknown escape");
        return std::string(1, meant[which]);
    }

    unsigned long four_digits() {
        unsigned long code = 0;
        for (int i = 0; i < 4; ++i) {
            ++at_;
            const char c = next();
            const int digit = is_digit(c)              ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                       : -1;
            if (digit < 0) wrong("it has an unknown escape");
            code = code * 16 + static_cast<unsigned long>(digit);
        }
        return code;
    }

    static std::string utf8(unsigned long code) {
        std::string made;
        const auto put = [&made](unsigned long byte) { made += static_cast<char>(byte); };
        if (code < 0x80) {
            put(code);
        } else if (code < 0x800) {
            put(0xC0 | code >> 6);
            put(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
            put(0xE0 | code >> 12);
            put(0x80 | (code >> 6 & 0x3F));
            put(0x80 | (code & 0x3F));
        } else {
            put(0xF0 | code >> 18);
            put(0x80 | (code >> 12 & 0x3F));
            put(0x80 | (code >> 6 & 0x3F));
            put(0x80 | (code & 0x3F));
        }
        return made;
    }

    const std::string& text_;
    std::size_t at_ = 0;
};

}  // namespace

const Json* Json::field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? nullptr : &found->second;
}

bool operator==(const Json& a, const Json& b) {
    const bool numbers = (a.kind == Json::whole || a.kind == Json::number) &&
                         (b.kind == Json::whole || b.kind == Json::number);
    if (!numbers && a.kind != b.kind) return false;
    return a.flag == b.flag && a.value == b.value && a.string == b.string && a.entries == b.entries &&
           a.fields == b.fields;
}

Json parse_json(const std::string& text) { return Parser(text).all(); }

}  // namespace irsde::runtime
