# Lets the interface package build against ROS 2 from PyPI wheels.
#
# The wheels' exported CMake targets name include folders of the machine that built them, and CMake refuses a target whose
# include folder does not exist. Passed with -DCMAKE_PROJECT_INCLUDE=<this file>, this removes such folders from every
# imported target just before CMake generates. A target of a normal ROS installation has none, so nothing changes there.

function(_sas_drop_missing_include_dirs)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      # Relative folders and generator expressions are not ours to judge.
      if(NOT IS_ABSOLUTE "${folder}" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

cmake_language(DEFER CALL _sas_drop_missing_include_dirs)
