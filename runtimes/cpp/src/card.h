// The model card of a pack, as irsde_deploy/core/card.py writes it, not trusted.
#pragma once

#include <string>

#include "json.h"
#include "pack.h"

namespace irsde::runtime {

/// Read a card: no field is missing, unknown or of another kind. Throws std::invalid_argument.
Json parse_card(const std::string& text);

/// Whether a card says of the network what steps.txt says.
bool agrees(const Json& card, const Pack& pack);

/// Whether two cards are equal; what earlier versions leave out and later ones write as nothing is no difference.
bool same_card(Json one, Json other);

}  // namespace irsde::runtime
