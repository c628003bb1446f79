"""The documentation says what the code says."""

import reference


def test_the_command_line_reference_equals_the_help_of_every_command() -> None:
    assert reference.COMMANDS_PAGE.read_text(encoding="utf-8") == reference.commands_page(), "run `make reference`"


def test_the_architecture_lists_every_file() -> None:
    assert reference.ARCHITECTURE.read_text(encoding="utf-8") == reference.architecture(), "run `make reference`"
