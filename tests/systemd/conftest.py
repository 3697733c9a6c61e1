"""One root file system and one package for each release; most tests of a release share one booted machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import Machine, booted, in_memory, missing
from tests.systemd.site import DEPLOY, Site, install

HERE = Path(__file__).parent
RELEASES = ("bookworm", "trixie")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))  # the first builds root file system and package
            if lacking:
                item.add_marker(pytest.mark.skip(reason=f"no booted systemd: {lacking}"))


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def bare_root(release: str) -> Iterator[Path]:
    """A release as it is before anything was installed, unpacked; nobody writes to it."""
    archive = subprocess.run([DEPLOY / "root-fs", release], check=True, stdout=subprocess.PIPE, text=True)
    with in_memory("poller-root-") as root:
        subprocess.run(["tar", "-C", root, "--zstd", "-xf", archive.stdout.strip()], check=True)
        yield root


@pytest.fixture(scope="session")
def package(release: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built by the command that operators are told of."""
    folder = tmp_path_factory.mktemp("package")
    with in_memory("poller-build-") as work:
        environ = {**os.environ, "TMPDIR": str(work)}
        command = [str(DEPLOY / "build-deb"), release, str(folder)]
        built = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ)
    return Path(built.stdout.strip())


@pytest.fixture
def bare(bare_root: Path) -> Iterator[Machine]:
    """A machine with nothing of ours on it."""
    with booted(bare_root) as machine:
        yield machine


@pytest.fixture(scope="session")
def shared(bare_root: Path, package: Path) -> Iterator[Machine]:
    """A machine with the package installed."""
    with booted(bare_root) as machine:
        install(machine, package)
        yield machine


@pytest.fixture
def site(shared: Machine) -> Iterator[Site]:
    """The service configured, not started, and nothing left of the tests before."""
    site = Site(shared)
    site.clear()
    site.configure()
    yield site
    site.clear()
