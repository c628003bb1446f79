"""What a wheel must hold: every module of the tree, the linked folders among them, and the embedded model."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1] / "mlx_llava"


def main() -> None:
    """Compare a wheel with the tree; exit 1 where they differ."""
    held = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
    folders = [ROOT, *(folder for folder in ROOT.iterdir() if folder.is_dir())]  # rglob does not follow links
    files = {file for folder in folders for file in folder.rglob("*") if file.is_file()}
    wanted = {str(file.relative_to(ROOT.parent)) for file in files if "__pycache__" not in file.parts}
    for name in sorted(wanted ^ held):
        print(f"{'missing from' if name in wanted else 'only in'} the wheel: {name}")
    print(f"{len(held)} files in the wheel, {len(wanted)} in the tree")
    sys.exit(wanted != held)


if __name__ == "__main__":
    main()
