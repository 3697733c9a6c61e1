"""Later versions of the package, good and bad, made out of the one that was built."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Change = Callable[["Tree"], None]


class Tree:
    """The files of a package, to be changed before it is packed again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = next(folder.glob("opt/poller/lib/python3*/site-packages/poller"))

    def replace(self, module: str, old: str, new: str) -> None:
        """Change a module of the program."""
        path = self.program / module
        text = path.read_text()
        assert old in text, f"{module} is not as this test knows it"
        path.write_text(text.replace(old, new))
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def control(self, old: str, new: str) -> None:
        path = self.folder / "DEBIAN/control"
        path.write_text(path.read_text().replace(old, new))


def variant(package: Path, into: Path, version: str, change: Change) -> Path:
    """A package of that version."""
    folder, made = into / version, into / f"poller_{version}.deb"
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    tree = Tree(folder)
    (folder / "DEBIAN/md5sums").unlink()
    old = subprocess.run(["dpkg-deb", "-f", package, "Version"], check=True, stdout=subprocess.PIPE, text=True)
    tree.control(f"Version: {old.stdout.strip()}\n", f"Version: {version}\n")
    tree.replace("__init__.py", old.stdout.partition("+")[0], version)
    change(tree)
    command = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", str(folder), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def good(tree: Tree) -> None:
    """Nothing but its version is new."""


def crashes_at_the_start(tree: Tree) -> None:
    tree.replace(
        "daemon.py", "    systemd, sentinel =", "    raise RuntimeError('a defect')\n    systemd, sentinel ="
    )


def is_never_ready(tree: Tree) -> None:
    tree.replace("intake/server.py", "200 if ready else 503", "503")


def cannot_be_installed(tree: Tree) -> None:
    tree.control("Depends: ", "Depends: python3.99, ")


def changes_the_store(tree: Tree) -> None:
    """So that the version before cannot read it."""
    tree.replace(
        "stores/sqlite/schema.py", "VERSION = len(", 'STEPS += (("CREATE TABLE new (a)",),)\nVERSION = len('
    )


def changes_the_store_and_is_never_ready(tree: Tree) -> None:
    changes_the_store(tree)
    is_never_ready(tree)


def answers_late(tree: Tree) -> None:
    wait = "await __import__('asyncio').sleep(3)"
    tree.replace("intake/server.py", "        ready, state =", f"        {wait}\n        ready, state =")
