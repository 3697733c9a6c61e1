"""The HTTP interface against its own description, over a real socket of the real daemon.

Schemathesis makes the requests: the boundaries of every parameter, random ones that keep to the description
and that break it, and sequences that use what earlier answers gave.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from poller.simulator import SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site

pytestmark = pytest.mark.timeout(180)

EXAMPLES = 25
SEED = 20261124
TOKEN = "a-token-of-these-tests"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")

# What the description cannot say: which lots there are, that a lot and a number go together, and that an
# array is taken with wrong orders in it, each of which gets an answer of its own.
TOLD_IN_WORDS = """
[[operations]]
include-path = "/v1/orders"
include-method = "POST"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false

[[operations]]
include-path = "/v1/deliveries"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = "/v1/events"
enabled = false
"""


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[tuple[Site, Process]]:
    """A daemon with a token, a platform and a webhook, and orders that end in every way."""
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, mean_settle_s=1.0) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
    ):
        site = Site.make(tmp_path / "site", platform.url, receiver.url, rate_per_second=300)
        token = site.folder / "token.secret"
        token.write_text(TOKEN)
        token.chmod(0o600)
        text = site.config.read_text()
        site.config.write_text(text.replace("[intake]", '[intake]\ntoken_file = "token.secret"'))
        async with site.running() as process, session_of(site) as session:
            batch = [{"pay_partner": f"{number}", "metadata": {"lane": number}} for number in range(20)]
            async with session.post("/v1/orders", json=batch) as answer:
                assert answer.status == 200
            yield site, process


def session_of(site: Site) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(site.url, headers={"Authorization": f"Bearer {TOKEN}"})


async def description(site: Site) -> dict[str, Any]:
    async with session_of(site) as session, session.get("/openapi.json") as answer:
        document: dict[str, Any] = await answer.json()
        return document


async def test_every_answer_is_as_the_description_says(daemon: tuple[Site, Process], tmp_path: Path) -> None:
    """No 5xx but a documented 503; status, content type, headers and body as documented, whatever is sent."""
    site, process = daemon
    (tmp_path / "schemathesis.toml").write_text(TOLD_IN_WORDS)
    limits = ["--max-examples", str(EXAMPLES), "--seed", str(SEED), "--request-timeout", "15"]
    words = ["run", f"{site.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", *limits]
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", *words, "--warnings", "off", "--continue-on-failure"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await run.communicate()
    assert run.returncode == 0, told.decode()
    assert process.process.returncode is None
    assert process.records("intake.defect") == []
    assert "".join(process.stderr) == ""


async def test_every_notice_in_the_stream_is_as_the_description_says(daemon: tuple[Site, Process]) -> None:
    site, process = daemon
    finals = await process.logged("order.final", 5)
    document = await description(site)
    schema = {"$ref": "#/components/schemas/Notice", "components": document["components"]}
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    headers = {"Last-Event-ID": finals[0]["event_id"]}
    seen = 0
    async with session_of(site) as session, session.get("/v1/events", headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        while seen < 4:
            block = (await response.content.readuntil(b"\n\n")).decode()
            for line in block.split("\n"):
                if line.startswith("data: "):
                    validator.validate(json.loads(line.removeprefix("data: ")))
                    seen += 1


async def test_a_method_that_is_not_described_is_answered_with_405_and_what_is_allowed(
    daemon: tuple[Site, Process],
) -> None:
    site, _ = daemon
    document = await description(site)
    wrong = []
    async with session_of(site) as session:
        for path, operations in document["paths"].items():
            url = path.format(park_uuid=PARK, pay_partner="0", event_id="evt")
            described = {name.upper() for name in operations}
            for method in set(METHODS) - described:
                async with session.request(method, url) as answer:
                    body = await answer.json(content_type="application/problem+json")
                    allowed = set(answer.headers.get("Allow", "").split(", "))
                    if (answer.status, body["status"]) != (405, 405) or allowed - {"HEAD"} != described:
                        wrong.append((method, path, answer.status, allowed))
    assert wrong == []
