#pragma once
// Reading the API's JSON without trusting it: a missing or wrong-typed field is empty, never an
// exception. Pure, any thread.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace weir::cli {

// The member, or null when `object` is no object or has no such key.
inline const nlohmann::json& field(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kNull;
  if (!object.is_object()) return kNull;
  const auto it = object.find(key);
  return it == object.end() ? kNull : *it;
}

// A string as it is, null as "", anything else as JSON text.
inline std::string text_of(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? std::string() : value.dump();
}

inline std::string text_field(const nlohmann::json& object, const char* key) {
  return text_of(field(object, key));
}

inline uint64_t natural_field(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = field(object, key);
  return value.is_number_unsigned() ? value.get<uint64_t>() : 0;
}

inline int64_t integer_field(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = field(object, key);
  return value.is_number_integer() ? value.get<int64_t>() : 0;
}

}  // namespace weir::cli
