"""A real primary with a real standby that streams from it, to be killed, promoted, paused and rejoined."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.postgres_server import SERVER_S, USER, PostgresServer, programs

LOOK_S = 0.02


class Standby(PostgresServer):
    """A copy of another server that follows it until it is promoted."""

    def __init__(self, programs: Path, leader: PostgresServer, port: int | None = None) -> None:
        self._leader = leader
        super().__init__(programs, port=port)

    def promote(self) -> None:
        """Make a primary of it; returns once it takes writes."""
        self._control("promote")

    def _make(self) -> None:
        source = f"host=127.0.0.1 port={self._leader.port} user={USER}"
        self._run("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-N", "-d", source, "-D", str(self.data))


class PostgresCluster:
    """Two servers on ports of their own, the same for ever; `primary` and `standby` say who is which now.

    With `synchronous` a commit on the primary waits for the standby, as long as there is one to wait for: a
    standby that was promoted, or that is to be done without (`alone`), waits for nobody.
    """

    def __init__(self, *, synchronous: bool = False) -> None:
        self._synchronous = synchronous
        self.primary: PostgresServer = PostgresServer(programs())
        try:
            self.standby: PostgresServer = Standby(programs(), self.primary)
        except BaseException:
            remove(self.primary)
            raise
        self.ports = (self.primary.port, self.standby.port)
        self._follow()

    def url(self, schema: str) -> str:
        """Of the store in that schema, on whichever of the two takes writes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"postgresql://{USER}@{hosts}/postgres?target_session_attrs=read-write&search_path={schema}"

    def kill_primary(self) -> None:
        """All of its processes at once, as where its machine dies."""
        kill(self.primary)

    def pause_primary(self) -> None:
        """No word comes from it any more, and its connections stay, as where its machine is cut off."""
        signal_all(self.primary, signal.SIGSTOP)

    def promote(self) -> None:
        """The standby takes over; `primary` is then it, and `standby` is the old one, dead or alive."""
        standby = self.standby
        assert isinstance(standby, Standby)
        standby.promote()
        self.primary, self.standby = standby, self.primary

    def restart(self, mode: str = "fast") -> None:
        """The primary, in pg_ctl's mode: `fast` ends every connection, `immediate` is a crash."""
        self.primary.stop(mode)
        self.primary.start()

    def rejoin(self) -> None:
        """What is `standby` now, after a failover, becomes one of the new primary: a new copy, on its old port."""
        port = self.standby.port
        remove(self.standby)
        self.standby = Standby(programs(), self.primary, port)
        self._follow()

    def pause_standby(self) -> None:
        """It hears and says nothing; its connections stay."""
        signal_all(self.standby, signal.SIGSTOP)

    def resume_standby(self) -> None:
        signal_all(self.standby, signal.SIGCONT)

    def alone(self) -> None:
        """From now on the primary waits for no standby."""
        self._wait_for("")

    def synchronous(self) -> None:
        """From now on a commit on the primary waits for a standby, whether there is one or not."""
        self._wait_for("*")

    def cancel_waiting(self) -> None:
        """What a person does who cancels, on the primary, the commit that waits for the standby."""
        waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        until(lambda: self.primary.sql(f"SELECT count(*) > 0 {waiting}") == "t")
        self.primary.sql(f"SELECT pg_cancel_backend(pid) {waiting}")

    def caught_up(self) -> None:
        """Wait until the standby has, and has replayed, all that the primary has written."""
        end = self.primary.sql("SELECT pg_current_wal_lsn()")
        until(lambda: self.standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == "t")

    def restore(self) -> None:
        """Whatever was done to them: a primary again, and a standby that follows it."""
        self.resume_standby()
        if _master(self.primary) is None:
            self.primary.start()
        if self.primary.sql("SELECT state FROM pg_stat_replication") != "streaming":
            self.rejoin()
        elif self._synchronous:
            self.synchronous()

    def remove(self) -> None:
        for server in (self.standby, self.primary):
            remove(server)

    def _follow(self) -> None:
        until(lambda: self.primary.sql("SELECT state FROM pg_stat_replication") == "streaming")
        if self._synchronous:
            self.synchronous()
            until(lambda: self.primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync")

    def _wait_for(self, names: str) -> None:
        self.primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.primary.sql("SELECT pg_reload_conf()")
        until(lambda: self.primary.sql("SHOW synchronous_standby_names") == names)


@contextmanager
def cluster(*, synchronous: bool = False) -> Iterator[PostgresCluster]:
    """One for as long as the block lasts, whatever becomes of it. Skips where there is no PostgreSQL."""
    made = PostgresCluster(synchronous=synchronous)
    try:
        yield made
    finally:
        made.remove()


def kill(server: PostgresServer) -> None:
    """End all of a server's processes with SIGKILL, and what then only a start of it would find gone."""
    if (master := _master(server)) is None:
        return
    os.kill(master, signal.SIGSTOP)  # so that it starts no more of them
    family = _family(master)
    for process in family:
        os.kill(process, signal.SIGKILL)
    until(lambda: not any(map(_lives, family)))
    lock = server.data / "postmaster.pid"
    segment = lock.read_text().splitlines()[6].split()[1]
    subprocess.run(["ipcrm", "-m", segment], check=False, capture_output=True)  # shared memory; it may be gone
    for file in (lock, server.folder / f".s.PGSQL.{server.port}.lock"):  # a dead process may still have its number
        file.unlink()


def signal_all(server: PostgresServer, number: signal.Signals) -> None:
    """To every process of a server."""
    if (master := _master(server)) is not None:
        for process in _family(master):
            os.kill(process, number)


def remove(server: PostgresServer) -> None:
    """Whatever state it is in."""
    kill(server)
    shutil.rmtree(server.folder)


def until(holds: Callable[[], bool]) -> None:
    """Look again and again."""
    deadline = time.monotonic() + SERVER_S
    while not holds():
        assert time.monotonic() < deadline, "PostgreSQL does not come to it"
        time.sleep(LOOK_S)


def _master(server: PostgresServer) -> int | None:
    """The process that is the parent of the others, where it lives."""
    try:
        process = int((server.data / "postmaster.pid").read_text().split("\n", 1)[0])
    except FileNotFoundError:
        return None
    return process if _lives(process) and str(server.data) in _command(process) else None


def _family(master: int) -> list[int]:
    children = Path(f"/proc/{master}/task/{master}/children").read_text()
    return [master, *map(int, children.split())]


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()


def _lives(process: int) -> bool:
    """A zombie is none of the living."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
