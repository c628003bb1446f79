"""A file that is no config is refused before anything in it is believed."""

from pathlib import Path

import pytest

from mlx_llava.checkpoint.strict_json import MAX_BYTES, read_json
from mlx_llava.errors import ConfigError

FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not valid JSON"),
    "not JSON": (b"<!DOCTYPE html>", "not valid JSON"),
    "a list": (b"[1, 2]", "not a JSON object"),
    "a number": (b"7", "not a JSON object"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
    "Latin-1": ('{"é": 1}'.encode("latin-1"), "not valid JSON"),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
    "a key twice": (b'{"a": 1, "a": 2}', '"a" appears twice'),
    "nested deeply": (b'{"a": ' + b"[" * 10**6, "nested too deeply"),
    "a number of a million digits": (b'{"a": ' + b"1" * 10**6 + b"}", "not valid JSON"),
    "huge": (b'{"a": "' + b"x" * MAX_BYTES + b'"}', "larger than 16 MB"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_config_is_refused_on_one_line(name: str, tmp_path: Path) -> None:
    content, said = FILES[name]
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_json(tmp_path / "config.json")
    assert said in caught.value.problem
    assert "\n" not in caught.value.problem


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="No such file"):
        read_json(tmp_path / "missing.json")
