# weir_library(NAME LINKS...): every .cc of this folder, except main.cc, as a static library.
function(weir_library name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS *.h)
  add_library(${name} STATIC ${sources})
  # Every header compiles alone: all_verify_interface_header_sets is built by the tests.
  target_sources(${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_SOURCE_DIR} FILES ${headers})
  set_target_properties(${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  target_link_libraries(${name} PUBLIC weir_flags ${ARGN})
endfunction()

# weir_test(NAME LABEL FOLDER LINKS...): one gtest executable of every *_test.cc under FOLDER.
function(weir_test name label folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${ARGN} GTest::gtest GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 600)
endfunction()

# weir_bench(NAME LINKS...): bench/NAME.cc as build/<preset>/bin/bench_NAME.
function(weir_bench name)
  add_executable(bench_${name} ${name}.cc)
  target_link_libraries(bench_${name} PRIVATE ${ARGN})
endfunction()

# weir_fuzz(NAME LINKS...): tests/fuzz/NAME.cc. With WEIR_FUZZ a libFuzzer binary; otherwise its
# corpus (tests/fuzz/corpus/NAME/*) runs once as a unit test through tests/fuzz/replay.cc.
function(weir_fuzz name)
  if(WEIR_FUZZ)
    add_executable(fuzz_${name} ${name}.cc)
    target_link_libraries(fuzz_${name} PRIVATE ${ARGN} -fsanitize=fuzzer)
    add_dependencies(fuzz_targets fuzz_${name})
  else()
    add_executable(fuzz_${name}_replay ${name}.cc replay.cc)
    target_link_libraries(fuzz_${name}_replay PRIVATE ${ARGN})
    add_test(NAME fuzz_${name}_corpus
             COMMAND fuzz_${name}_replay ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${name})
    set_tests_properties(fuzz_${name}_corpus PROPERTIES LABELS unit TIMEOUT 300)
  endif()
endfunction()
