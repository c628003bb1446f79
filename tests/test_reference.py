"""The command-line reference says what the commands say."""

import reference


def test_the_command_line_reference_equals_the_help_of_every_command() -> None:
    assert reference.FILE.read_text(encoding="utf-8") == reference.reference(), "run `make reference`"
