"""`mlx-llava doctor`."""

import json

import pytest

from mlx_llava.doctor import DoctorOptions, collect, doctor, lines


def test_the_lines_say_what_the_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(DoctorOptions(json=True))
    facts = json.loads(capsys.readouterr().out)
    assert facts.keys() == {"versions", "system", "device", "memory", "cpu_blas", "caches"}
    assert {"mlx-llava", "python", "mlx", "mlx-lm"} <= facts["versions"].keys()
    text = "\n".join(lines(facts))
    for name, version in facts["versions"].items():
        assert f"{name} " in text
        assert (version or "not installed") in text
    for cache in facts["caches"].values():
        assert cache["path"] in text
        assert cache["free"] > 0


def test_a_missing_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_llava.doctor.PACKAGES", ("no-such-package",))
    assert [line.split() for line in lines(collect())][2] == ["no-such-package", "not", "installed"]
