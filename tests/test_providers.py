"""A provider is a folder and three lines; this says precisely which of them is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.house import ROOT, providers, text, toml


def _folder(provider: str) -> Path | None:
    found = [ROOT / f"worker-service-{provider}", ROOT / f"worker-{provider}"]
    return next((folder for folder in found if folder.is_dir()), None)


def _package(provider: str) -> str:
    folder = _folder(provider)
    assert folder is not None, f"no folder worker-service-{provider}"
    return folder.name.replace("-", "_")


def test_there_are_providers() -> None:
    assert "aws" in providers()


@pytest.mark.parametrize("provider", sorted(providers()))
def test_a_provider_has_its_package(provider: str) -> None:
    folder = _folder(provider)
    assert folder is not None, (
        f"schema.json names {provider}: make the folder worker-service-{provider}"
    )
    assert (folder / "pyproject.toml").is_file()
    assert (folder / "src" / _package(provider) / "main.py").is_file(), "it has no main.py"
    assert (folder / "src" / _package(provider) / "gunicorn_conf.py").is_file()


@pytest.mark.parametrize("provider", sorted(providers()))
def test_a_provider_has_its_import_contract(provider: str) -> None:
    linter = toml("pyproject.toml")["tool"]["importlinter"]
    package = _package(provider)
    assert package in linter["root_packages"], f"add {package} to root_packages"
    for contract in linter["contracts"]:
        if contract["name"] == "Services never import each other":
            assert package in contract["modules"], f"add {package} to: {contract['name']}"
        if contract["name"].startswith("The core knows no service"):
            assert package in contract["forbidden_modules"], f"add {package} to: {contract['name']}"


@pytest.mark.parametrize("provider", sorted(providers()))
def test_a_provider_is_checked_like_the_rest(provider: str) -> None:
    folder = _folder(provider)
    assert folder is not None
    settings = toml("pyproject.toml")["tool"]
    assert f"{folder.name}/src" in settings["ruff"]["src"]
    assert f"{folder.name}/src" in settings["mypy"]["mypy_path"]
    assert f"{folder.name}/tests" in settings["pytest"]["ini_options"]["testpaths"]


@pytest.mark.parametrize("provider", sorted(providers()))
@pytest.mark.skipif(not (ROOT / "helm").is_dir(), reason="there is no chart yet")
def test_a_provider_stands_in_the_chart(provider: str) -> None:
    values = [text(path) for path in (ROOT / "helm").rglob("values.yaml")]
    assert any(f"\n  {provider}:" in value or f"name: {provider}" in value for value in values), (
        f"add {provider} to the chart's workers"
    )


@pytest.mark.parametrize("provider", sorted(providers()))
def test_a_provider_has_a_doctor(provider: str) -> None:
    folder = _folder(provider)
    assert folder is not None
    plugins = toml(f"{folder.name}/pyproject.toml")["project"].get("entry-points", {})
    assert provider in plugins.get("csb.doctors", {}), 'add [project.entry-points."csb.doctors"]'
