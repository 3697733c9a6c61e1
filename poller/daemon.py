"""The composition root: builds the parts from the configuration, opens the doors, takes new settings over."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from poller import __version__, intake, logs
from poller.config import Config, ConfigError, WebhookSettings
from poller.engine import Engine, Settings
from poller.intake import Intake
from poller.intake.metrics import metrics_page
from poller.lag import measure_lag
from poller.metrics import CONTENT_TYPE, Metrics
from poller.ports import Alone, Clock, Fleet, Lease, LeaseLostError, StoreCorruptError, StoreUnavailableError
from poller.pyun import PyunPlatform
from poller.sentinel import Sentinel
from poller.stores import KeptStore, is_postgres, open_store, unverified
from poller.system import RateThrottle, SystemClock
from poller.systemd import Notifier
from poller.webhook import WebhookReceiver

DAY_S = 86_400.0
WAITING_S = 1.0  # a file that is not open by then is held by another daemon
STARTING_S = 30.0  # while the store is opened the service manager is told, so often, to wait on

log = structlog.get_logger()


async def serve(
    config: Config,
    *,
    reload: Callable[[], Config],
    stop: asyncio.Event,
    hangup: asyncio.Event,
    ready: Callable[[Intake], None] = lambda _: None,
) -> None:
    """Run the daemon until `stop` is set, then drain it.

    `reload` reads the configuration again whenever `hangup` is set (raising ConfigError where it is wrong);
    `ready` is told once orders can be taken on. Raises StoreHeldError, StoreTooNewError, StoreMovedError,
    StoreCorruptError, StoreUnavailableError and OSError (a port that is taken) at the start, and later, in groups,
    StoreCorruptError and StalledError. What else is raised later is a defect.
    """
    systemd, sentinel = Notifier(), Sentinel(_blocked)
    async with AsyncExitStack() as closing:
        closing.callback(sentinel.stop)
        store = await _open_unless(stop, config, systemd)
        if store is None:
            return
        closing.push_async_callback(_close, store)
        adapters, metrics = Adapters(config, store.fleet()), Metrics()
        metrics.describe_process()
        closing.push_async_callback(adapters.close)
        engine = Engine(
            store=store,
            platform=adapters.platform,
            receiver=adapters.receiver,
            throttle=adapters.throttle,
            clock=adapters.clock,
            settings=_settings(config),
            metrics=metrics,
        )
        door = await intake.start(
            engine.desk,
            host=config.intake.listen.host,
            port=config.intake.listen.port,
            unix_path=config.intake.listen.unix_path,
            token=config.intake.token,
            pages=[metrics_page(engine.gauges.text, CONTENT_TYPE)],
        )
        closing.push_async_callback(door.stop)
        log.info(
            "daemon.started",
            version=__version__,
            pid=os.getpid(),
            listen=str(config.intake.listen),
            parks=len(config.lots),
            store=config.store.url,
            webhook=config.webhook is not None,
        )
        say_what_is_lacking(config.store.url, store.fleet())
        ready(door)
        systemd.ready(f"listening on {config.intake.listen}")

        def alive() -> None:
            sentinel.seen()
            systemd.alive()

        async def close_doors() -> None:
            systemd.stopping()
            await door.stop()

        sentinel.start()
        async with asyncio.TaskGroup() as group:
            running = Running(config, config, adapters, engine, door)
            beside = [
                group.create_task(running.reload_on(hangup, reload)),
                group.create_task(measure_lag(metrics)),
            ]
            await engine.run(stop, close_doors, alive)
            for task in beside:
                task.cancel()
    log.info("daemon.stopped")


class Adapters:
    """What the daemon reaches the world with."""

    def __init__(self, config: Config, fleet: Fleet | None) -> None:
        url, rate = config.platform.url, config.platform.rate_per_second
        self.clock: Clock = SystemClock()
        self.throttle = RateThrottle(rate) if fleet is None else fleet.throttle(url, rate)
        self._lease: Lease = fleet or Alone()
        self.platform = PyunPlatform(
            url,
            config.lots,
            timeout=config.platform.timeout,
            connected=self._may_send,
        )
        self.receiver = _receiver(config.webhook, self.clock)
        self._receivers = [self.receiver]  # one that went may still have a delivery under way

    def configure(self, old: Config, new: Config) -> None:
        """Take new settings over while running."""
        self.platform.configure(new.lots, timeout=new.platform.timeout)
        if new.platform.rate_per_second != old.platform.rate_per_second:
            self.throttle.set_rate(new.platform.rate_per_second)
        webhook = new.webhook
        if self.receiver is None or webhook is None:
            self.receiver = _receiver(webhook, self.clock)
            self._receivers.append(self.receiver)
        elif webhook != old.webhook:
            self.receiver.configure(webhook.url, webhook.secret, timeout=webhook.timeout)

    async def _may_send(self) -> None:
        """Wait for a place in the rate on a connection that is new, which may have taken its time."""
        await self.throttle.acquire()
        if not self._lease.holds():
            raise LeaseLostError("the lease ended while the platform was being connected to")

    async def close(self) -> None:
        await self.platform.close()
        for receiver in self._receivers:
            if receiver is not None:
                await receiver.close()


def _receiver(webhook: WebhookSettings | None, clock: Clock) -> WebhookReceiver | None:
    if webhook is None:
        return None
    return WebhookReceiver(webhook.url, webhook.secret, timeout=webhook.timeout, clock=clock)


def _settings(config: Config) -> Settings:
    return Settings(
        cadence=config.cadence,
        park_uuids=tuple(config.lots),
        max_concurrency=config.platform.max_concurrency,
        give_up_after=config.webhook.give_up_after if config.webhook else 0.0,
        history=config.store.history_days * DAY_S,
    )


async def _open_unless(stop: asyncio.Event, config: Config, systemd: Notifier) -> KeptStore | None:
    """Open the store, waiting for another daemon to let go of it, or for its tables to become this program's; None
    where we are told to stop first.
    """
    url, name = config.store.url, f"{socket.gethostname()} {config.intake.listen}"
    opening = asyncio.create_task(
        open_store(url, password=config.store.password, name=name, lease=config.store.lease)
    )
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({opening, stopping}, timeout=WAITING_S, return_when=asyncio.FIRST_COMPLETED)
        if not done and not is_postgres(url):
            log.warning("store.waiting", store=url, reason="another process holds it")
        while not done:
            systemd.starting(2 * STARTING_S)
            done, _ = await asyncio.wait(
                {opening, stopping}, timeout=STARTING_S, return_when=asyncio.FIRST_COMPLETED
            )
        return opening.result() if opening.done() else None
    finally:
        stopping.cancel()
        opening.cancel()


def say_what_is_lacking(url: str, fleet: Fleet | None) -> None:
    """Of the store, at the start and when it changes."""
    if servers := unverified(url):
        hint = "take sslmode out of [store] url, so that the certificate is verified; sslrootcert names its CA"
        log.warning("store.unverified", servers=servers, hint=hint)
    if fleet is not None:
        fleet.on_replicated(_replicated)


def _replicated(is_so: bool) -> None:
    if is_so:
        log.info("store.replicated")
    else:
        hint = "if PostgreSQL's server is lost, so is what was taken on last: set synchronous_standby_names there"
        log.warning("store.unreplicated", hint=hint)


async def _close(store: KeptStore) -> None:
    try:
        await store.close()
    except (StoreUnavailableError, StoreCorruptError) as error:
        # What was only noted goes with it: queries that are asked again, log lines that are written again.
        log.error("store.unavailable", error=str(error), while_doing="closing the store")


def _blocked(seconds: float) -> None:
    log.critical("daemon.stalled", error=f"the event loop has been blocked for {seconds:.0f} s", see="stderr")


@dataclass(slots=True)
class Running:
    """What a reload reaches."""

    started: Config  # what can only be had by a start is as it says
    config: Config
    adapters: Adapters
    engine: Engine
    door: Intake

    async def reload_on(self, hangup: asyncio.Event, reload: Callable[[], Config]) -> None:
        """Take a new configuration over at each hangup; a wrong one is told and changes nothing."""
        while True:
            await hangup.wait()
            hangup.clear()
            try:
                config = await asyncio.to_thread(reload)
            except ConfigError as error:
                log.error("config.rejected", faults=error.faults, kept="the configuration in force")
                continue
            logs.set_level(config.log.level)
            self.door.set_token(config.intake.token)
            self.adapters.configure(self.config, config)
            self.engine.configure(_settings(config), self.adapters.receiver)
            needs_restart = _needs_restart(self.started, config)
            log.info("config.reloaded", parks=len(config.lots), needs_restart=needs_restart)
            self.config = config


def _needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and that only a restart takes over."""
    pairs = {
        "[platform] url": (old.platform.url, new.platform.url),
        "[intake] listen": (old.intake.listen, new.intake.listen),
        "[store] url": (old.store.url, new.store.url),
        "[store] lease_seconds": (old.store.lease, new.store.lease),
        "[log] format": (old.log.format, new.log.format),
    }
    return [key for key, (before, after) in pairs.items() if before != after]
