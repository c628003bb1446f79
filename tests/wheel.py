"""Check that a wheel is complete: every file of the tree, including the linked folders and the bundled model."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1] / "mlx_llava"


def main() -> None:
    """Compare the wheel in argv with the tree; exit with 1 if they differ."""
    in_wheel = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
    folders = [ROOT, *(folder for folder in ROOT.iterdir() if folder.is_dir())]  # rglob does not follow links
    files = {file for folder in folders for file in folder.rglob("*") if file.is_file()}
    tree = {str(file.relative_to(ROOT.parent)) for file in files if "__pycache__" not in file.parts}
    for name in sorted(tree ^ in_wheel):
        print(f"{'missing from' if name in tree else 'only in'} the wheel: {name}")
    print(f"{len(in_wheel)} files in the wheel, {len(tree)} in the tree")
    sys.exit(tree != in_wheel)


if __name__ == "__main__":
    main()
