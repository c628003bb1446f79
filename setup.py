"""Builds the C extension on Linux if there is a compiler; everything else is in pyproject.toml."""

import sys
import sysconfig

from setuptools import Extension, setup

cpu = Extension(
    "mlx_llava.program._cpu",
    ["mlx_llava/program/_cpu.c"],
    depends=["mlx_llava/program/_cpu_rows.h", "mlx_llava/program/_cpu_int8.h"],
    extra_compile_args=["-O3", "-g0", "-Wno-psabi"],
    py_limited_api=True,
    optional=True,
)

# free-threaded Python has no limited API
is_built = sys.platform == "linux" and not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[cpu] if is_built else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if is_built else {},
)
