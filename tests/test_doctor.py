"""`mlx-llava doctor`."""

import json

import pytest

from mlx_llava.doctor import DoctorOptions, collect, doctor, lines


def test_the_lines_say_what_the_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(DoctorOptions(json=True))
    facts = json.loads(capsys.readouterr().out)
    assert {"system", "backends", "device", "memory", "cpu_blas", "problem"} <= facts.keys()
    assert {"mlx-llava", "python", "mlx", "mlx-lm"} <= facts["versions"].keys()
    text = "\n".join(lines(facts))
    for name, version in facts["versions"].items():
        assert f"{name} " in text
        assert (version or "not installed") in text
    for cache in facts["caches"].values():
        assert cache["path"] in text
        assert cache["free"] > 0
    assert facts["cpu_blas"] in text
    assert facts["cpu_blas_reason"] in text
    if facts["device"] == "cpu":
        assert facts["gflops"] > 0
        assert f"{facts['gflops']:.0f} GFLOP/s" in text


def test_a_missing_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_llava.doctor.PACKAGES", ("no-such-package",))
    assert [line.split() for line in lines(collect())][2] == ["no-such-package", "not", "installed"]


def test_it_says_which_recommended_models_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_llava.doctor.memory", lambda: 16_000_000_000)
    small, large = [line for line in lines(collect()) if line.startswith("LLaVA-1.5")]
    assert "fits: this machine has 16 GB" in small
    assert "tight: this machine has 16 GB" in large


def test_a_backend_that_is_overwritten_is_named() -> None:
    facts = {**collect(), "backends": ["mlx-cpu", "mlx-cuda-13"]}
    text = "\n".join(lines(facts))
    assert "MLX backend      mlx-cpu\n" in text
    assert "mlx-cuda-13 is installed too, but not in use" in text
