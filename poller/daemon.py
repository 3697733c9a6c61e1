"""The composition root: builds the parts from the configuration, opens the doors, takes new settings over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from poller import __version__, intake, logs
from poller.config import Config, ConfigError, WebhookSettings
from poller.engine import Engine, Settings
from poller.intake import Intake
from poller.ports import Clock
from poller.pyun import PyunPlatform
from poller.stores import open_store
from poller.system import RateThrottle, SystemClock
from poller.webhook import WebhookReceiver

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
    `ready` is told once orders can be taken on. Raises StoreHeldError, StoreTooNewError, StoreCorruptError,
    StoreUnavailableError and OSError (a port that is taken) at the start; what is raised later is a defect.
    """
    async with AsyncExitStack() as closing:
        store = await open_store(config.store.url)
        closing.push_async_callback(store.close)
        adapters = Adapters(config)
        closing.push_async_callback(adapters.close)
        engine = Engine(
            store=store,
            platform=adapters.platform,
            receiver=adapters.receiver,
            throttle=adapters.throttle,
            clock=adapters.clock,
            settings=_settings(config),
        )
        door = await intake.start(
            engine.desk,
            host=config.intake.listen.host,
            port=config.intake.listen.port,
            unix_path=config.intake.listen.unix_path,
            token=config.intake.token,
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
        ready(door)
        async with asyncio.TaskGroup() as group:
            reloading = group.create_task(_reload_on(hangup, reload, config, adapters, engine))
            await engine.run(stop, door.stop)
            reloading.cancel()
    log.info("daemon.stopped")


class Adapters:
    """What the daemon reaches the world with."""

    def __init__(self, config: Config) -> None:
        self.clock: Clock = SystemClock()
        self.throttle = RateThrottle(config.platform.rate_per_second)
        self.platform = PyunPlatform(
            config.platform.url,
            config.lots,
            timeout=config.platform.timeout,
            max_concurrency=config.platform.max_concurrency,
        )
        self.receiver = _receiver(config.webhook, self.clock)

    async def configure(self, old: Config, new: Config) -> None:
        """Take new settings over while running."""
        self.platform.configure(new.lots, timeout=new.platform.timeout)
        if new.platform.rate_per_second != old.platform.rate_per_second:
            self.throttle.set_rate(new.platform.rate_per_second)
        if new.webhook != old.webhook:
            former, self.receiver = self.receiver, _receiver(new.webhook, self.clock)
            if former is not None:
                await former.close()  # what it had under way is tried again

    async def close(self) -> None:
        await self.platform.close()
        if self.receiver is not None:
            await self.receiver.close()


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
    )


async def _reload_on(
    hangup: asyncio.Event, reload: Callable[[], Config], config: Config, adapters: Adapters, engine: Engine
) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            new = await asyncio.to_thread(reload)
        except ConfigError as error:
            log.error("config.rejected", faults=error.faults, kept="the configuration in force")
            continue
        logs.set_level(new.log.level)
        await adapters.configure(config, new)
        engine.configure(_settings(new), adapters.receiver)
        log.info("config.reloaded", parks=len(new.lots), needs_restart=_needs_restart(config, new))
        config = new


def _needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and that only a restart takes over."""
    pairs = {
        "[platform] url": (old.platform.url, new.platform.url),
        "[platform] max_concurrency": (old.platform.max_concurrency, new.platform.max_concurrency),
        "[intake] listen": (old.intake.listen, new.intake.listen),
        "[intake] token_file": (old.intake.token, new.intake.token),
        "[store] url": (old.store.url, new.store.url),
    }
    return [key for key, (before, after) in pairs.items() if before != after]
