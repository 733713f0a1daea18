include(GNUInstallDirs)
install(TARGETS weir-daemon weir-aggregator weir RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
