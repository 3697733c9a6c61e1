"""What `deploy/fleet/` tells an operator holds."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from click.testing import CliRunner

from poller.cli import main
from poller.stores.postgres import PostgresStore
from tests.acceptance.processes import WEBHOOK_SECRET, free_port
from tests.integration.postgres_server import beside, schema_for, shared_server

FLEET = Path(__file__).parents[2] / "deploy" / "fleet"


async def test_check_finds_the_example_of_a_configuration_sound(tmp_path: Path) -> None:
    """With its hosts put on this machine, where nobody listens."""
    text = (FLEET / "poller.toml").read_text()
    for name in set(re.findall(r'"secrets/(.*)"', text)):
        secret = tmp_path / "secrets" / name
        secret.parent.mkdir(exist_ok=True)
        secret.write_text(WEBHOOK_SECRET if name == "webhook.secret" else "0123456789abcdef0123456789abcdef")
        secret.chmod(0o600)
    here = f"http://127.0.0.1:{free_port()}/"
    config = tmp_path / "poller.toml"
    config.write_text(
        text.replace("[platform]", f'[platform]\nurl = "{here}"').replace("https://results.example/", here)
    )
    command = ["check", "--json", "--config", str(config)]
    unset = {"CREDENTIALS_DIRECTORY": None, "STATE_DIRECTORY": None}
    result = await asyncio.to_thread(CliRunner().invoke, main, command, env=unset)
    findings = {line["what"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert findings["configuration"]["ok"], result.stdout
    assert findings["secrets"]["found"].endswith("2 of lots, the intake's token, the webhook's")


async def test_a_daemon_has_as_many_connections_as_the_guide_says(tmp_path: Path) -> None:
    """All that it can open at once: writer, heartbeat, readers, rate."""
    [told] = re.findall(r"`max_connections` \| (\d+) for each daemon", (FLEET / "README.md").read_text())
    url = shared_server().url(schema_for(tmp_path))
    async with beside(url) as other:
        since = await other.fetchval("SELECT clock_timestamp()")
        store = await PostgresStore.open(url)
        throttle = store.fleet().throttle("account", 100)
        await asyncio.gather(throttle.acquire(), store.flush(), *(store.counts() for _ in range(8)))
        mine = await other.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'poller' AND backend_start >= $1",
            since,
        )
        await store.close()
    assert mine == int(told)
