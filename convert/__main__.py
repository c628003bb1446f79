"""`python -m mlx_llava.convert`."""

from mlx_llava.convert.cli import main

main()
