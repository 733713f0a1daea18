#pragma once
// The names of what Intake counts. Plain constants.

#include <array>
#include <string>
#include <string_view>

namespace weir::aggregator {

inline constexpr const char* kMessages = "weir_intake_messages_total";
inline constexpr const char* kHellos = "weir_intake_hellos_total";
inline constexpr const char* kPings = "weir_intake_pings_total";
inline constexpr const char* kBatches = "weir_intake_batches_total";  // passed to the store
inline constexpr const char* kBytes = "weir_intake_bytes_total";      // of these, decompressed
inline constexpr const char* kTombstones = "weir_intake_tombstones_total";
inline constexpr const char* kDuplicates = "weir_intake_duplicates_total";  // held: answered again
inline constexpr const char* kWaiting = "weir_intake_duplicates_waiting_total";  // at the store
inline constexpr const char* kNacks = "weir_intake_nacks_total";
inline constexpr const char* kUnsent = "weir_intake_answers_unsent_total";  // peer gone or full
inline constexpr const char* kRewindowed = "weir_intake_rewindowed_total";
inline constexpr const char* kAsked = "weir_intake_questions_total";  // ASK_INCLUDED
inline constexpr const char* kAskedWaiting = "weir_intake_questions_waiting_total";
inline constexpr const char* kSentAway = "weir_intake_goaways_total";  // for bad messages
inline constexpr const char* kStarved = "weir_intake_credit_withheld_total";

inline constexpr std::array kIntakeCounters = {
    kMessages, kHellos, kPings,      kBatches, kBytes,        kTombstones, kDuplicates, kWaiting,
    kNacks,    kUnsent, kRewindowed, kAsked,   kAskedWaiting, kSentAway,   kStarved};

inline std::string rejected_key(std::string_view reason) {
  return "weir_intake_rejected_total{reason=\"" + std::string(reason) + "\"}";
}

}  // namespace weir::aggregator
