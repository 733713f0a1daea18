# weir_flags: what every Weir target compiles with.
add_library(weir_flags INTERFACE)
target_include_directories(weir_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
# Floats are rounded once, at the edge: no contraction, so every host rounds alike.
target_compile_options(weir_flags INTERFACE -ffp-contract=off)
set(weir_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
    -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual -Woverloaded-virtual -Wswitch-enum -Wundef)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # -Wrestrict of g++ 12 has false alarms on std::string at -O2 (GCC bug 105329).
  list(APPEND weir_warnings -Wduplicated-cond -Wlogical-op -Wuseless-cast -Wno-restrict)
else()
  # LIBBPF_OPTS is a C statement expression; clang does not excuse macros of system headers.
  list(APPEND weir_warnings -Wno-gnu-statement-expression -Wno-c99-extensions)
endif()
target_compile_options(weir_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${weir_warnings}>")
if(WEIR_WERROR)
  target_compile_options(weir_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Werror>")
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_definitions(weir_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()
if(WEIR_SANITIZE)
  target_compile_options(weir_flags INTERFACE -fsanitize=${WEIR_SANITIZE}
                         -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(weir_flags INTERFACE -fsanitize=${WEIR_SANITIZE})
endif()
if(WEIR_FUZZ)
  target_compile_options(weir_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
