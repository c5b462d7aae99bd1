# Cross-compiles for 64-bit ARM against the Python of the Debian tree that ARM_ROOT names.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L $ENV{ARM_ROOT})

# What pybind11 would ask the Python that runs the build, which is that of another machine.
file(GLOB python_headers $ENV{ARM_ROOT}/usr/include/python3.*)
string(REGEX MATCH "3\\.[0-9]+$" python_version "${python_headers}")
string(REPLACE "." "" python_tag "${python_version}")
set(Python_INCLUDE_DIR ${python_headers})
set(PYTHON_MODULE_EXTENSION .cpython-${python_tag}-aarch64-linux-gnu.so)
set(PYTHON_MODULE_DEBUG_POSTFIX "")
set(PYTHON_IS_DEBUG OFF)
set(PYBIND11_USE_CROSSCOMPILING ON)
include_directories(SYSTEM $ENV{ARM_ROOT}/usr/include)
