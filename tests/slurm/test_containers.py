"""The container recipes: the same Python and packages in both, those of pyproject.toml, and nothing run as root."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from benchmark.plan.recipes import tomllib
from benchmark.training.recording import release

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "slurm/containers/Dockerfile").read_text(encoding="utf-8")
DEFINITION = (ROOT / "slurm/containers/apptainer.def").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions(name: str) -> list[str]:
    """The arguments of each Docker instruction of that name, in order, with continued lines joined."""
    return re.findall(rf"^{name} (.*)$", re.sub(r"\s*\\\n\s*", " ", DOCKERFILE), re.MULTILINE)


def section(name: str) -> list[str]:
    """The lines of a section of the Apptainer definition."""
    (found,) = (each for each in re.split(r"\n%(?=[a-z])", DEFINITION) if each.startswith(name))
    return [line.strip() for line in found.splitlines()[1:] if line.strip()]


def test_both_recipes_install_the_same_on_the_same_base() -> None:
    (base,) = instructions("FROM")
    assert f"From: {base}" in DEFINITION
    commands = [command for line in instructions("RUN") for command in line.split(" && ")]
    assert section("post") == commands
    assert instructions("COPY") == section("files")


def test_the_python_is_pinned_supported_and_tested() -> None:
    (base,) = instructions("FROM")
    match = re.fullmatch(r"python:((\d+\.\d+)\.\d+)-slim-\w+", base)
    assert match, "the tag names the version to its last digit, and the distribution"
    assert match[1] in SpecifierSet(PROJECT["requires-python"])
    assert f'"{match[2]}"' in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")


def test_what_is_installed_comes_from_pyproject() -> None:
    """No package is named twice: the tool that installs is, and the extras that training may need."""
    (command,) = (line for line in section("post") if "uv pip install" in line)
    words = command.split()
    assert words[words.index("--requirements") + 1] == "/opt/pyproject.toml"
    extras = [words[place + 1] for place, word in enumerate(words) if word == "--extra"]
    assert set(extras) == set(PROJECT["optional-dependencies"]) - {"dev", "docs", "tensorboard"}


def test_the_container_starts_the_suite_and_not_as_root() -> None:
    (user,) = instructions("USER")
    assert user.split(":")[0] != "0"
    assert user != "root"
    (command,) = instructions("CMD")
    module = re.search(r'"-m", "([\w.]+)"', command)[1]  # type: ignore[index]
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()
    (environment,) = instructions("ENV")
    assert "BENCHMARK_DATA_ROOT=/data" in environment.split()


def test_a_suite_that_is_not_installed_knows_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packages are, in a container; records say which version of it made them."""

    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("benchmark.training.recording.version", unknown)
    assert release() == PROJECT["version"]
