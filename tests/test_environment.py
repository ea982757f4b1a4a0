"""pyproject.toml, constraints.txt and environment.yml give the same book: the same packages in versions that agree."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())

# conda-forge's names that differ from PyPI's, and what is Python's or conda's own.
PYPI_NAME = {"pytorch": "torch", "matplotlib-base": "matplotlib", "playwright-python": "playwright"}
NO_PYPI_NAME = {"python", "pip"}

REQUIREMENTS = {
    canonicalize_name(requirement.name): requirement
    for line in [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    for requirement in [Requirement(line)]
}


def read_pins() -> dict[str, Version]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pins = [re.fullmatch(r"([\w.-]+)==(\S+)", line).groups() for line in lines if line]
    names = [canonicalize_name(name) for name, _ in pins]
    assert len(names) == len(set(names)), "a package is pinned twice"
    return {name: Version(version) for name, (_, version) in zip(names, pins)}


PINS = read_pins()


def read_conda() -> dict[str, tuple[SpecifierSet, str]]:
    """PyPI name -> (versions, build string) of each package in environment.yml, its pip section included."""
    specs = {}
    for line in (d for d in CONDA["dependencies"] if isinstance(d, str)):
        # name, then a range (>=1,<2) or =version and perhaps =build, where one = is a prefix: conda's MatchSpec.
        name, version, build = re.fullmatch(r"([a-z0-9-]+)((?:[<>!=]=?[^=]+)?)(?:=([^=]+))?", line).groups()
        version = re.sub(r"^=([\d.]+)$", r"==\1" if build else r"==\1.*", version)
        specs[PYPI_NAME.get(name, name)] = (SpecifierSet(version), build)
    for line in pip_section():
        if not line.startswith("-"):
            specs[canonicalize_name(Requirement(line).name)] = (Requirement(line).specifier, None)
    return specs


def pip_section() -> list[str]:
    (section,) = (d["pip"] for d in CONDA["dependencies"] if isinstance(d, dict))
    return section


CONDA_SPECS = read_conda()


def test_the_three_files_name_the_same_packages():
    assert CONDA_SPECS.keys() - NO_PYPI_NAME == REQUIREMENTS.keys()
    assert REQUIREMENTS.keys() - PINS.keys() == set(), "not pinned: run make constraints"


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_versions_agree(name):
    pin, (conda, _) = PINS[name], CONDA_SPECS[name]
    assert REQUIREMENTS[name].specifier.contains(pin)
    assert conda.contains(pin)
    # The same lowest version, and no further than the major version that the tests ran with.
    ours = {s for s in REQUIREMENTS[name].specifier if s.operator in (">=", "==")}
    assert ours == {s for s in conda if s.operator in (">=", "==")}
    assert not conda.contains(f"{pin.major + 1}.0")


def test_torch_is_2_13_0_and_without_cuda_in_conda():
    assert str(REQUIREMENTS["torch"].specifier) == "==2.13.0"
    assert PINS["torch"] == Version("2.13.0")
    specifier, build = CONDA_SPECS["torch"]
    assert str(specifier) == "==2.13.0"
    assert build == "cpu*"  # conda-forge's builds are called cpu_mkl_…, cpu_generic_… and cuda…


def test_python_is_one_that_the_package_and_binder_take():
    specifier, _ = CONDA_SPECS["python"]
    (python,) = specifier
    minor = python.version.removesuffix(".*")
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{minor}.9")
    # repo2docker finds the version only when it is written like this.
    assert f"python={minor}" in CONDA["dependencies"]


def test_environment_yml_is_what_conda_and_binder_expect():
    assert CONDA["name"] == "attnbook"
    # Not "nodefaults" too: micromamba, which Binder uses, takes it for the name of a channel.
    assert CONDA["channels"] == ["conda-forge"]
    strings = [d for d in CONDA["dependencies"] if isinstance(d, str)]
    assert "pip" in strings and len(strings) + 1 == len(CONDA["dependencies"])
    # From the root of the repository; this line also tells repo2docker to copy the repository before it installs.
    assert "-e ." in pip_section()
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists(), "Binder would look there instead"


# What is installed --------------------------------------------------------------------------------------------------

# Python's installers, which pip freeze leaves out, and the package itself.
UNPINNED = {"pip", "setuptools", "wheel", "attnbook"}
made_by_make = pytest.mark.skipif(
    (Path(sys.prefix) / "conda-meta").exists(), reason="conda's own versions: constraints.txt is for make"
)


def needed(python: str | None = None) -> set[str]:
    """The installed packages that the book needs, directly or not, on Linux; of `python`, or of this one."""
    environment = default_environment() | {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    if python:
        environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    todo = [("attnbook", extra) for extra in ("", *PROJECT["optional-dependencies"])]
    done = set(todo)
    for name, extra in todo:
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, requirements):
            if requirement.marker and not requirement.marker.evaluate(environment | {"extra": extra}):
                continue
            # torch with CUDA pins the parts that it brings; no other machine needs those.
            if name == "torch" and {s.operator for s in requirement.specifier} == {"=="}:
                continue
            new = {(canonicalize_name(requirement.name), e) for e in ("", *requirement.extras)} - done
            todo += new
            done |= new
    return {name for name, _ in done} - UNPINNED


@made_by_make
def test_what_is_installed_is_what_is_pinned():
    installed = {canonicalize_name(d.name): Version(d.version) for d in metadata.distributions()}
    differing = {
        name: f"{installed[name]} installed, {pin} pinned"
        for name, pin in PINS.items()
        # A build is the version plus a local label, e.g. 2.13.0+cpu.
        if name in installed and Version(installed[name].public) != pin
    }
    assert not differing, "make test set this up with other pins, or constraints.txt is out of date: make constraints"


@made_by_make
def test_everything_needed_is_pinned_and_nothing_else():
    assert needed() - PINS.keys() == set(), "needed but not pinned: run make constraints"
    any_python = set().union(*(needed(python) for python in ("3.11", "3.12", "3.13", "3.14")))
    assert PINS.keys() - any_python == set(), "pinned but not needed: run make constraints in a fresh .venv"


def test_the_pins_install_on_the_oldest_python_that_the_book_promises():
    oldest = re.search(r"\d+\.\d+", PROJECT["requires-python"])[0] + ".0"
    refused = {
        name: requires
        for name in PINS
        for requires in [_requires_python(name)]
        if requires and not SpecifierSet(requires).contains(oldest)
    }
    assert refused == {}, f"not for Python {oldest}: pin an older version in constraints.txt"


def _requires_python(name: str) -> str | None:
    try:
        return metadata.metadata(name).get("Requires-Python")
    except metadata.PackageNotFoundError:  # a pin for another system
        return None
