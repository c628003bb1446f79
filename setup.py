"""The one part of the package that is compiled, on Linux, where a C compiler is; all else is in pyproject.toml."""

import sys

from setuptools import Extension, setup

cpu = Extension(
    "mlx_llava.program._cpu",
    ["mlx_llava/program/_cpu.c"],
    depends=["mlx_llava/program/_cpu_rows.h", "mlx_llava/program/_cpu_int8.h"],
    extra_compile_args=["-O3", "-g0", "-Wno-psabi"],
    py_limited_api=True,
    optional=True,
)

setup(
    ext_modules=[cpu] if sys.platform == "linux" else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if sys.platform == "linux" else {},
)
