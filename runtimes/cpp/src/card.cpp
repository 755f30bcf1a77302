#include "card.h"

#include <map>
#include <stdexcept>
#include <vector>

namespace irsde::runtime {

namespace {

/// The fields of a card, as irsde_deploy/core/card.py has them, and which kinds of JSON each may be.
const std::map<std::string, std::vector<Json::Kind>>& card_fields() {
    static const std::map<std::string, std::vector<Json::Kind>> fields{
        {"network", {Json::text}},
        {"settings", {Json::object}},
        {"channels", {Json::whole}},
        {"multiple_of", {Json::whole}},
        {"pad_mode", {Json::text}},
        {"margin", {Json::whole}},
        {"sde", {Json::object}},
        {"task", {Json::text}},
        {"sampler", {Json::text}},
        {"steps", {Json::whole}},
        {"t0", {Json::whole, Json::null}},
        {"precision", {Json::text}},
        {"calibrated", {Json::list, Json::null}},
        {"global_operators", {Json::boolean}},
        {"colour", {Json::text}},
        {"value_range", {Json::list, Json::null}},
        {"checkpoint_sha256", {Json::text}},
        {"tool_version", {Json::text}},
        {"schema_version", {Json::whole}},
    };
    return fields;
}

/// Leave out of a card what says nothing.
void without_nothing(Json& card) {
    for (const char* name : {"t0", "calibrated", "margin"}) {  // which cards of earlier versions do not have
        const Json* value = card.field(name);
        if (value != nullptr && (value->kind == Json::null || value->is(0))) card.fields.erase(name);
    }
}

}  // namespace

Json parse_card(const std::string& text) {
    const Json card = parse_json(text);
    if (card.kind != Json::object) throw std::invalid_argument("it is no object");
    for (const auto& [name, value] : card.fields) {
        const auto known = card_fields().find(name);
        if (known == card_fields().end()) throw std::invalid_argument("'" + name.substr(0, 40) + "' is unknown");
        bool fits = false;
        for (const Json::Kind kind : known->second) fits = fits || value.kind == kind;
        if (!fits) throw std::invalid_argument("its '" + name + "' is of another type");
    }
    for (const char* name : {"network", "settings", "channels", "multiple_of", "pad_mode", "sde"})
        if (card.field(name) == nullptr) throw std::invalid_argument(std::string("it lacks '") + name + "'");
    return card;
}

bool agrees(const Json& card, const Pack& pack) {
    const Json *precision = card.field("precision"), *range = card.field("value_range");
    const Json* margin = card.field("margin");
    const Json* conditional = card.field("settings")->field("conditional");
    const bool sees_mu = conditional == nullptr || conditional->flag;
    return card.field("channels")->is(pack.channels) && card.field("multiple_of")->is(pack.multiple_of) &&
           card.field("pad_mode")->is(pack.reflect ? "reflect" : "zero") &&
           (margin == nullptr ? pack.margin == 0 : margin->is(pack.margin)) &&
           (precision == nullptr ? pack.precision == "fp32" : precision->is(pack.precision)) &&
           pack.latent == (range != nullptr && range->kind == Json::null) && pack.conditional == sees_mu;
}

bool same_card(Json one, Json other) {
    without_nothing(one);
    without_nothing(other);
    return one == other;
}

}  // namespace irsde::runtime
