#pragma once
// Result<T>: a value, or the reason there is none. The one way the world's faults travel.
//
// Who: everybody. Thread: a plain value, no sharing. Cost: a variant; the error path allocates.
// Promise: ignoring a Result is a compiler warning; reading the value of a failed one aborts in
// every build. Swap for std::expected when the compiler has it.

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "common/check.h"

namespace weir {

enum class Errc { kInvalid, kNotFound, kIo, kLimit, kUnavailable, kInternal };

struct Error {
  Errc code = Errc::kInternal;
  std::string message;  // one clear sentence, no trailing period or newline

  // Adds context in front on the way up: "loading weir.yaml: " + message.
  [[nodiscard]] Error with(std::string_view where) && {
    message.insert(0, std::string(where) + ": ");
    return std::move(*this);
  }
};

struct Unit {};

template <class T = Unit>
class [[nodiscard]] Result {
 public:
  Result() requires std::is_same_v<T, Unit> : v_(Unit{}) {}

  Result(T value) : v_(std::move(value)) {}  // NOLINT: implicit on purpose: 'return value;'

  Result(Error error) : v_(std::move(error)) {}  // NOLINT: implicit on purpose

  [[nodiscard]] bool ok() const noexcept { return v_.index() == 0; }

  explicit operator bool() const noexcept { return ok(); }

  T& operator*() & {
    WEIR_CHECK(ok());
    return *std::get_if<0>(&v_);
  }

  const T& operator*() const& {
    WEIR_CHECK(ok());
    return *std::get_if<0>(&v_);
  }

  T&& operator*() && {
    WEIR_CHECK(ok());
    return std::move(*std::get_if<0>(&v_));
  }

  T* operator->() { return &**this; }

  const T* operator->() const { return &**this; }

  [[nodiscard]] const Error& error() const& {
    WEIR_CHECK(!ok());
    return *std::get_if<1>(&v_);
  }

  [[nodiscard]] Error&& error() && {
    WEIR_CHECK(!ok());
    return std::move(*std::get_if<1>(&v_));
  }

 private:
  std::variant<T, Error> v_;
};

using Status = Result<Unit>;

inline Error invalid(std::string message) { return {Errc::kInvalid, std::move(message)}; }

}  // namespace weir

#define WEIR_CONCAT_INNER(a, b) a##b
#define WEIR_CONCAT(a, b) WEIR_CONCAT_INNER(a, b)

// WEIR_TRY(flush());  passes the error up, if there is one.
#define WEIR_TRY(expr)                                                                       \
  do {                                                                                       \
    if (auto weir_status = (expr); !weir_status.ok()) return std::move(weir_status).error(); \
  } while (false)

// WEIR_TRY_ASSIGN(auto fd, open(path));  passes the error up, or binds the value.
#define WEIR_TRY_ASSIGN(lhs, expr) \
  WEIR_TRY_ASSIGN_INNER(WEIR_CONCAT(weir_result_, __LINE__), lhs, expr)
#define WEIR_TRY_ASSIGN_INNER(tmp, lhs, expr)   \
  auto tmp = (expr);                            \
  if (!tmp.ok()) return std::move(tmp).error(); \
  lhs = *std::move(tmp)
