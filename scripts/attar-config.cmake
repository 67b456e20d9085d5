# find_package(attar) gives attar::attar, the shared library, and attar::static.
get_filename_component(_attar_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET attar::attar)
  add_library(attar::attar SHARED IMPORTED)
  set_target_properties(attar::attar PROPERTIES
    IMPORTED_LOCATION "${_attar_prefix}/lib/libattar.so.1"
    IMPORTED_SONAME "libattar.so.1"
    INTERFACE_INCLUDE_DIRECTORIES "${_attar_prefix}/include")
  add_library(attar::static STATIC IMPORTED)
  set_target_properties(attar::static PROPERTIES
    IMPORTED_LOCATION "${_attar_prefix}/lib/libattar.a"
    INTERFACE_LINK_LIBRARIES "m;pthread;dl"
    INTERFACE_INCLUDE_DIRECTORIES "${_attar_prefix}/include")
endif()
unset(_attar_prefix)
