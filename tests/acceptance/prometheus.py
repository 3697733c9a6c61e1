"""A real Prometheus that scrapes a daemon every second and goes by the alert rules of `deploy/`."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.processes import PATIENCE_S, Site, free_port

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
ALERTS = DEPLOY / "alerts.yml"
FLEET_ALERTS = DEPLOY / "fleet-alerts.yml"
DASHBOARD = DEPLOY / "poller-dashboard.json"
AGAIN_S = 0.2

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="no prometheus and promtool here: apt-get install --no-install-recommends prometheus",
)


def dashboard_queries() -> list[str]:
    """What the panels ask for, with the variables that Grafana puts in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [query.replace("$instance", ".*").replace("$__rate_interval", "10s") for query in queries]


@dataclass(frozen=True, slots=True)
class Prometheus:
    session: aiohttp.ClientSession

    async def ask(self, what: str, **parameters: str) -> Any:
        """The data of one call of the HTTP API."""
        async with self.session.get(f"/api/v1/{what}", params=parameters) as answer:
            document = await answer.json()
        assert document["status"] == "success", (parameters, document)
        return document["data"]

    async def values(self, query: str) -> list[float]:
        """What an instant query gives now, one value for each series."""
        return [float(series["value"][1]) for series in (await self.ask("query", query=query))["result"]]

    async def until(self, query: str, value: float) -> None:
        """Wait until a scrape has brought a single series to this value."""
        seen: list[float] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    seen = await self.values(query)
                    if seen == [value]:
                        return
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise AssertionError(f"{query} stayed {seen}, not {value}") from None


@asynccontextmanager
async def scraping(site: Site, folder: Path, token: str) -> AsyncIterator[Prometheus]:
    """Prometheus, started, scraping the daemon of `site`, and ended."""
    port, config, credentials = free_port(), folder / "prometheus.yml", folder / "token"
    credentials.write_text(token)
    config.write_text(
        f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{ALERTS}"]
scrape_configs:
  - job_name: poller
    authorization: {{credentials_file: "{credentials}"}}
    static_configs: [{{targets: ["127.0.0.1:{site.port}"]}}]
"""
    )
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said: list[bytes] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"ready to receive web requests" not in (line := await process.stderr.readline()):
                assert line, b"".join(said).decode()
                said.append(line)
        reading = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield Prometheus(session)
        process.terminate()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
