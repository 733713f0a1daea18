#include "aggregator/identity_fault.h"

namespace weir::aggregator {
namespace {

bool role_sends(Role role, FrameType type) {
  switch (type) {
    case FrameType::kHello:
    case FrameType::kData:
    case FrameType::kTombstone:
    case FrameType::kPing:
    case FrameType::kAskIncluded:
      return role == Role::kEdge || role == Role::kRegion;
    case FrameType::kOut:
      return role == Role::kRegion;
    case FrameType::kWelcome:
    case FrameType::kAckR:
    case FrameType::kAckG:
    case FrameType::kNack:
    case FrameType::kCredit:
    case FrameType::kPong:
    case FrameType::kIncluded:
    case FrameType::kFenced:
    case FrameType::kRevoked:
    case FrameType::kGoaway:
    case FrameType::kQuery:
    case FrameType::kResult:
      break;
  }
  // Nothing that goes down, and nothing of a later version: intake refuses those for their type.
  return role != Role::kGlobal;
}

}  // namespace

const char* identity_fault(const FrameHeader& header, const std::optional<Identity>& identity) {
  if (!identity) return nullptr;
  if (identity->source != header.source) return "foreign_source";
  if (!role_sends(identity->role, header.type)) return "role";
  return nullptr;
}

bool role_fits_tier(const std::optional<Identity>& identity, std::string_view tier) {
  return !identity || role_name(identity->role) == tier;
}

}  // namespace weir::aggregator
