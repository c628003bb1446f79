"""The documentation says what the code says."""

import pytest
import reference


def test_the_command_line_reference_equals_the_help_of_every_command() -> None:
    assert reference.COMMANDS_PAGE.read_text(encoding="utf-8") == reference.commands_page(), "run `make reference`"


def test_the_manual_page_equals_the_help_of_every_command() -> None:
    assert reference.MANUAL.read_text(encoding="utf-8") == reference.manual(), "run `make reference`"


def test_the_architecture_lists_every_file() -> None:
    assert reference.ARCHITECTURE.read_text(encoding="utf-8") == reference.architecture(), "run `make reference`"


@pytest.mark.parametrize(("folder", "limit"), [("mlx_llava", 24), ("convert", 8), ("tui", 8)])
def test_few_modules_are_side_by_side_at_the_top_of_a_folder(folder: str, limit: int) -> None:
    assert len(list((reference.ROOT / folder).glob("*.py"))) <= limit
