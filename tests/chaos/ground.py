"""Where the daemon lives: its folder with configuration, secrets and store, its network and its disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, free_port
from tests.chaos.disk import Disk, small_disk
from tests.chaos.plan import QUERY_TIMEOUT_S, RATE, Kind, Plan
from tests.chaos.wire import NotHereError, Wire, wired

MIN_INTERVAL_S = 0.3
DELIVERY_TIMEOUT_S = 2.0
DISK_MIB = 48
DISK_MIB_FOR_1000 = 64  # and this for each thousand kills: the orders of a run stay in the store


@dataclass(frozen=True, slots=True)
class Door:
    """The daemon's intake: a port or, in a network of its own, a socket file."""

    port: int | None = None
    path: Path | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port or 80}"

    def session(self, timeout: float) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(str(self.path), limit=0) if self.path else aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(self.url, connector=connector, timeout=aiohttp.ClientTimeout(total=timeout))


@dataclass(slots=True)
class Ground:
    """`skipped` are the faults that this machine cannot have, with the reason."""

    folder: Path
    door: Door
    wire: Wire | None = None
    disk: Disk | None = None
    skipped: dict[Kind, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "poller.toml"

    @property
    def log(self) -> Path:
        """Where all lives write their log, and `stderr` what they write there."""
        return self.folder / "daemon.log"

    @property
    def stderr(self) -> Path:
        return self.folder / "daemon.stderr"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def host(self) -> str:
        """Where the simulator is to listen."""
        return self.wire.host if self.wire else "127.0.0.1"

    def configure(self, platform_url: str, webhook_url: str) -> None:
        """Write the daemon's configuration and secrets."""
        for name, text in (("park.secret", APP_SECRET), ("webhook.secret", WEBHOOK_SECRET)):
            path = self.folder / name
            path.write_text(text + "\n")
            path.chmod(0o600)
        url = platform_url.replace(self.host, "localhost") if self.wire else platform_url
        self.config.write_text(
            f"""
[platform]
url = "{url}"
rate_per_second = {RATE}
timeout_seconds = {QUERY_TIMEOUT_S}
[[parks]]
park_uuid = "{PARK}"
app_secret_file = "park.secret"
[polling]
initial_delay_seconds = 0.1
min_interval_seconds = {MIN_INTERVAL_S}
max_interval_seconds = 5
undecided_after_seconds = 6
[intake]
listen = "{self.door}"
[webhook]
url = "{webhook_url}"
secret_file = "webhook.secret"
timeout_seconds = {DELIVERY_TIMEOUT_S}
[store]
url = "sqlite:///{self.store}/poller.db"
[log]
level = "debug"
format = "json"
"""
        )


@contextmanager
def prepared(plan: Plan) -> Iterator[Ground]:
    """The ground for a plan, taken away again however the run ends. A fault it cannot have is in `skipped`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="poller-chaos-")))
        ground = Ground(folder, Door())
        ground.store.mkdir()
        if Kind.NETWORK in plan.kinds:
            try:
                ground.wire = stack.enter_context(wired())
            except NotHereError as error:
                ground.skipped[Kind.NETWORK] = str(error)
        if Kind.DISK in plan.kinds:
            mib = DISK_MIB + DISK_MIB_FOR_1000 * plan.count // 1000
            try:
                ground.disk = stack.enter_context(small_disk(ground.store, mib))
            except NotHereError as error:
                ground.skipped[Kind.DISK] = str(error)
        ground.door = Door(path=folder / "poller.sock") if ground.wire else Door(port=free_port())
        yield ground
