#pragma once
// The errors of the native side: the seven codes of src/errors.ts. Thrown anywhere in native/, caught in binding/.
#include <sstream>
#include <stdexcept>
#include <string>

namespace lpld {

enum class Code { Config, Data, Mismatch, Device, Diverged, Cancelled, Internal };

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message, std::string reason = {})
      : std::runtime_error(message), code_(code), reason_(std::move(reason)) {}
  Code code() const { return code_; }
  const std::string& reason() const { return reason_; }  // details.reason, may be empty

 private:
  Code code_;
  std::string reason_;
};

inline const char* code_name(Code code) {
  switch (code) {
    case Code::Config:
      return "E_CONFIG";
    case Code::Data:
      return "E_DATA";
    case Code::Mismatch:
      return "E_MISMATCH";
    case Code::Device:
      return "E_DEVICE";
    case Code::Diverged:
      return "E_DIVERGED";
    case Code::Cancelled:
      return "E_CANCELLED";
    case Code::Internal:
      return "E_INTERNAL";
  }
  return "E_INTERNAL";
}

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace lpld

// LPLD_CHECK(condition, Code, "resized_crop: expected ..., received ", value)
#define LPLD_CHECK(condition, code, ...)                                                  \
  do {                                                                                    \
    if (!(condition)) throw ::lpld::Error(::lpld::Code::code, ::lpld::text(__VA_ARGS__)); \
  } while (0)
