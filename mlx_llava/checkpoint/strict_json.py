"""JSON objects read strictly: each read states its default and range, and `finish` refuses keys that were not read."""

import json
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from mlx_llava.errors import ConfigError
from mlx_llava.program.text import shorten

Choice = TypeVar("Choice", bound=str)
MAX_BYTES = 16 * 2**20  # a config is a few kB; a larger file is not one


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ConfigError when it is missing, too large, or not an object."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO waits for its writer, /dev/zero has no end
            raise ConfigError(f"{path}: not a regular file", "Download the file again.")
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", f"Name a folder that holds {path.name}.") from None
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MB", "Is this the right file?")
    try:
        values = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply", "Download the file again.") from None
    except ValueError as error:  # not UTF-8, not JSON, or a duplicate key
        raise ConfigError(f"{path}: not valid JSON: {error}", "Download the file again.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a JSON object", "Download the file again.")
    return values


class Section:
    """One object of a config file, read strictly."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: must be an object", "Compare with the model's published config.")
        self.values: dict[str, Any] = values
        self.where = where
        self.read_keys: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """A value of any type; null counts as absent."""
        self.read_keys.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """An integer within `low..high`; without a default the key is required."""
        value = self.get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.error(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float | None, low: float, high: float) -> float:
        """A number within `low..high`; NaN is within no range."""
        value = self.get(key, default)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.error(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key, default)
        if type(value) is not bool:
            raise self.error(key, value, "true or false")
        return value

    def choice(self, key: str, default: Choice | None, choices: Collection[Choice]) -> Choice:
        """One of the listed words."""
        value = self.get(key, default)
        for choice in choices:
            if choice == value:
                return choice
        raise self.error(key, value, "one of " + ", ".join(choices))

    def text(self, key: str, default: str | None) -> str:
        """Any string."""
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, value, "a string")
        return value

    def integers(self, key: str, default: int | None, low: int, high: int) -> tuple[int, ...]:
        """An integer within `low..high`, or a list of up to 64 of them."""
        value = self.get(key, default)
        values = value if isinstance(value, list) else [value]
        if not 1 <= len(values) <= 64 or any(type(n) is not int or not low <= n <= high for n in values):
            raise self.error(key, value, f"a whole number from {low} to {high}, or a list of them")
        return tuple(values)

    def triple(self, key: str) -> tuple[float, float, float]:
        """Three finite numbers, one for each color channel; divisors (`std`) are above zero."""
        value = self.get(key)
        low = 1e-6 if key.endswith("std") else -1e6
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise self.error(key, value, "three numbers")
        if any(type(v) not in (int, float) or not low <= v <= 1e6 for v in value):
            raise self.error(key, value, f"three numbers from {low:g} to 1e+06")
        return float(value[0]), float(value[1]), float(value[2])

    def section(self, key: str) -> "Section":
        """A nested object; an absent one is empty."""
        return Section(self.get(key, {}), f"{self.where}.{key}")

    def only(self, key: str, *allowed: object) -> None:
        """Refuse a key with any other value; absent is fine."""
        value = self.get(key)
        if value is not None and not any(value == a and type(value) is type(a) for a in allowed):
            raise self.error(key, value, " or ".join(map(short, allowed)) or "absent")

    def finish(self, harmless: Collection[str] = ()) -> None:
        """Refuse keys that were not read and might change an answer; null counts as absent."""
        known = self.read_keys.union(harmless)
        if unknown := [key for key in self.values if key in self and key not in known]:
            keys = ", ".join(map(short, unknown[:5]))
            problem = f"{self.where}: {keys}: not implemented here, and may change answers"
            raise ConfigError(problem, "Update mlx-llava, or use a model without it.")

    def error(self, key: str, value: object, expected: str) -> ConfigError:
        """The error for a value that is missing or out of range."""
        if value is None:
            return ConfigError(f"{self.where}: {key} is missing", f"It must be {expected}.")
        advice = f"It must be {expected}; nothing else is implemented here."
        return ConfigError(f"{self.where}: {key} is {short(value)}", advice)


def short(value: object) -> str:
    """A value in JSON, on one line of at most 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except RecursionError:
        return "nested too deeply"
    return shorten(text, 60)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Hook for json.loads that refuses a key that appears twice, and half a surrogate pair."""
    table = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"{short(key)} appears twice")
        key.encode()
        if isinstance(value, str):
            value.encode()
        table[key] = value
    return table
