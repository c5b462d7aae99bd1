# Cross-compiles for 64-bit ARM with the headers of Python that ARM_PYTHON names, and beside them those
# of the Debian tree ARM_ROOT. They may be an x86-64 Python's: the types are of the same sizes.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L $ENV{ARM_ROOT})

# What pybind11 would ask the Python that runs the build, which is that of another machine.
set(Python_INCLUDE_DIR $ENV{ARM_PYTHON})
string(REGEX MATCH "3\\.[0-9]+$" python_version "${Python_INCLUDE_DIR}")
string(REPLACE "." "" python_tag "${python_version}")
set(PYTHON_MODULE_EXTENSION .cpython-${python_tag}-aarch64-linux-gnu.so)
set(PYTHON_MODULE_DEBUG_POSTFIX "")
set(PYTHON_IS_DEBUG OFF)
set(PYBIND11_USE_CROSSCOMPILING ON)
include_directories(SYSTEM $ENV{ARM_ROOT}/usr/include)
