#pragma once

// Names of Weir's own metrics that more than one program must agree on. They are counters without a
// unit and take the path of everything else (docs/query.md "What every answer carries").

namespace weir {

// One, in each window that its source was there to the end of and has flushed.
inline constexpr const char* kSourceWindows = "weir_source_windows_total";
// What a tier waited for in vain when a window had settled, and what of that came after all. What
// was expected of a window is merged + missing - recovered.
inline constexpr const char* kSourceWindowsMissing = "weir_source_windows_missing_total";
inline constexpr const char* kSourceWindowsRecovered = "weir_source_windows_recovered_total";
// Events that were seen and not kept, by `where` and `reason`.
inline constexpr const char* kDropped = "weir_dropped_total";

}  // namespace weir
