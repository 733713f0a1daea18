#pragma once
// For headers that are compiled twice: as C for the kernel (clang -target bpf) and as C++ for the
// host (unit tests, fuzzing, user space's half of a rule).

#ifdef __cplusplus
#define WEIR_INLINE inline
#define WEIR_TO(type, value) static_cast<type>(value)
#define WEIR_NO_UNROLL
#else
#define WEIR_INLINE static __attribute__((always_inline)) inline
#define WEIR_TO(type, value) ((type)(value))
#define WEIR_NO_UNROLL _Pragma("clang loop unroll(disable)")
#endif
