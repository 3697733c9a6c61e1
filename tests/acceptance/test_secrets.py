"""No secret and no `sign` in anything that comes out of the program, whatever happens to it.

Every byte of stdout and stderr, of the store's files, of every HTTP answer, and of what the system tells of
the process is searched for pieces of the secrets, so that what is cut off or quoted is found as well.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from poller.cli import COMMANDS, main
from poller.config import ConfigError, load
from poller.core.signing import sign
from poller.simulator import Answers, WebhookReceiver
from tests.acceptance.echoing import KINDS, EchoingPlatform
from tests.acceptance.processes import PARK, Process, Site, free_port

pytestmark = pytest.mark.timeout(120)

PIECE = 12  # characters in a row of a secret that must not come out


class Secrets:
    """Fresh random ones, which nothing but a leak can repeat."""

    def __init__(self) -> None:
        self.app_secret = secrets.token_hex(16)
        self.token = secrets.token_urlsafe(32)
        self.webhook = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.numbers: set[str] = set()

    def sign(self, number: str) -> str:
        return sign([("park_uuid", PARK), ("pay_partner", number)], self.app_secret)

    def hidden(self) -> dict[str, str]:
        """What must not come out, by a name to tell it by."""
        named = {"app_secret": self.app_secret, "token": self.token, "webhook secret": self.webhook[6:]}
        return {**named, **{f"sign of {number}": self.sign(number) for number in self.numbers}}


class Haul:
    """What came out, by where it came out."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}

    def add(self, where: str, data: bytes | str) -> None:
        raw = data if isinstance(data, bytes) else data.encode()
        self.parts[where] = self.parts.get(where, b"") + raw

    def add_files(self, where: str, folder: Path, pattern: str) -> None:
        files = sorted(folder.glob(pattern))
        assert files, f"nothing is called {pattern}"
        for file in files:
            self.add(f"{where} {file.name}", file.read_bytes())

    def leaks(self, hidden: dict[str, str]) -> list[str]:
        """What came out that must not, and where."""
        found = []
        for where, data in self.parts.items():
            text = data.lower()
            for name, secret in hidden.items():
                low = secret.lower().encode()
                if any(low[at : at + PIECE] in text for at in range(len(low) - PIECE + 1)):
                    found.append(f"{name} in {where}")
        return found


def make_site(folder: Path, planted: Secrets, platform_url: str, webhook_url: str) -> Site:
    folder.mkdir()
    site = Site(folder, free_port())
    files = {"park.secret": planted.app_secret, "token.secret": planted.token, "webhook.secret": planted.webhook}
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    site.config.write_text(
        f'[platform]\nurl = "{platform_url}"\ntimeout_seconds = 2\n'
        f'[[parks]]\npark_uuid = "{PARK}"\napp_secret_file = "park.secret"\n'
        "[polling]\ninitial_delay_seconds = 0.05\nmin_interval_seconds = 0.2\n"
        f'[intake]\nlisten = "127.0.0.1:{site.port}"\ntoken_file = "token.secret"\n'
        f'[webhook]\nurl = "{webhook_url}"\nsecret_file = "webhook.secret"\n'
        '[log]\nlevel = "debug"\nformat = "json"\n'
    )
    return site


# What the HTTP interface is asked; {} is the token, and /n an order's path.
REQUESTS = (
    "GET /v1/orders?limit=1000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
    "GET /v1/deliveries HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
    "GET /v1/orders/{park}/message-1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
    "GET /v1/orders/{park}/message-1/history HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
    "GET /v1/orders/{park}/reject-1/history HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
    "GET /v1/orders/{park}/paid-1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
    "GET /readyz HTTP/1.1\r\nHost: localhost\r\n",
    "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n",
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
    "GET / HTTP/1.1\r\nHost: localhost\r\n",
    "GET /v1/orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}x\r\n",
    "GET /v1/orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n",
    "GET /v1/orders?token={} HTTP/1.1\r\nHost: localhost\r\n",
    "GET /v1/orders?state={} HTTP/1.1\r\nHost: localhost\r\n",
    "GET /v1/orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\x01\r\n",
    "GET /v1/orders HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {}\r\n",
    "GET /v1/orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nAuthorization : {}\r\n",
    "GET /v1/orders Bearer {}\r\nHost: localhost\r\n",
    "Bearer {}\r\n",
    "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n",
    "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nExpect: {}\r\n",
)


async def ask_everything(port: int, planted: Secrets, haul: Haul) -> None:
    """Every request over a connection of its own, the malformed ones too; the answers with their heads."""
    for text in REQUESTS:
        request = text.replace("{park}", PARK).replace("{}", planted.token)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request}Connection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.startswith(b"HTTP/1."), text
        haul.add(f"the answer to {text[:40]!r}", answer)


async def read_events(site: Site, planted: Secrets, haul: Haul, first: str) -> None:
    """The stream of notices, up to the last of those made so far."""
    headers = {"Authorization": f"Bearer {planted.token}", "Last-Event-ID": first}
    async with site.session() as session, session.get("/v1/events", headers=headers) as response:
        haul.add("the stream's head", repr(response.headers))
        haul.add("the stream", await response.content.readuntil(b"\n\n"))
        haul.add("the stream", await response.content.readuntil(b"\n\n"))


async def run_commands(site: Site, planted: Secrets, haul: Haul) -> None:
    """The commands of people, all of them; those that ask the platform, too."""
    planted.numbers |= {f"{kind}-check" for kind in ("message", "reject", "paid", "header", "hangup")}
    words: list[tuple[str, ...]] = [
        ("check", "--query", f"{kind}-check") for kind in ("message", "reject", "paid", "header", "hangup")
    ]
    words += [("check", "--query", "message-check", "--json")]
    words += [("show", f"{kind}-1") for kind in ("message", "reject", "paid", "busy", "header")]
    words += [("show", "nested-1", "--json"), ("list",), ("list", "--json"), ("deliveries",)]
    words += [("deliveries", "--json"), ("redeliver", "nothing"), ("reopen", "message-1"), ("poll", "reject-1")]
    words += [("submit", "message-1", "--metadata", "{}"), ("backup", str(site.folder / "copy.db"))]
    for some in (words[at : at + 4] for at in range(0, len(words), 4)):
        ended = await asyncio.gather(*(site.command(*one) for one in some))
        for spoken, (code, out, err) in zip(some, ended, strict=True):
            haul.add(f"poller {' '.join(spoken)}", f"{code}\n{out}\n{err}")


def look_at_process(pid: int, haul: Haul) -> None:
    for name in ("cmdline", "environ", "comm", "status"):
        haul.add(f"/proc/{name}", Path(f"/proc/{pid}/{name}").read_bytes())


async def test_a_daemon_that_meets_everything_tells_no_secret(tmp_path: Path) -> None:
    """Debug log, hostile replies and requests, broken connections, reloads with faults, and a kill."""
    planted, haul = Secrets(), Haul()
    async with EchoingPlatform() as platform, WebhookReceiver(planted.webhook) as receiver:
        site = make_site(tmp_path / "site", planted, platform.url, receiver.url)
        async with site.running() as daemon:
            planted.numbers |= {f"{kind}-1" for kind in KINDS}
            receiver.behave(Answers(500), times=2)
            code, out, err = await site.command("submit", *sorted(planted.numbers))
            assert code == 0, err
            haul.add("poller submit", out + err)
            await platform.asked(planted.numbers)
            assert {number: planted.sign(number) for number in platform.signs} == platform.signs
            await receiver.received(2)
            await daemon.until(
                lambda: {line["pay_partner"] for line in daemon.records("order.polled")} >= planted.numbers
            )
            await ask_everything(site.port, planted, haul)
            await read_events(site, planted, haul, daemon.records("order.final")[0]["event_id"])
            await run_commands(site, planted, haul)
            await reload_with_faults(site, planted, daemon)
            look_at_process(daemon.process.pid, haul)
            haul.add_files("the running store", site.folder, "*.db*")
            await platform.refuse()
            await daemon.logged("platform.down")
            await daemon.kill()
            haul.add("the daemon's stdout", "".join(daemon.lines))
            haul.add("the daemon's stderr", "".join(daemon.stderr))
        haul.add_files("the store after the kill", site.folder, "*.db*")
    assert haul.leaks(planted.hidden()) == []
    everything = b"".join(haul.parts.values()).decode(errors="replace")
    assert "sign=***" in everything  # the echoes were met, and masked
    for word in ("order.polled", "delivery.failed", "config.rejected", "not a well-formed request", "pay_serial"):
        assert word in everything


async def reload_with_faults(site: Site, planted: Secrets, daemon: Process) -> None:
    """SIGHUP with secrets in wrong places, each of which the log tells of."""
    good = site.config.read_text()
    for count, text in enumerate(misplaced(good, planted), start=1):
        site.config.write_text(text)
        daemon.signal(signal.SIGHUP)
        await daemon.logged("config.rejected", count)
    site.config.write_text(good)
    daemon.signal(signal.SIGHUP)
    await daemon.logged("config.reloaded")


def misplaced(good: str, planted: Secrets) -> list[str]:
    """The configuration with secrets where they do not belong, as happens to people in a hurry."""
    return [
        good.replace('"park.secret"', f'"{planted.app_secret}"'),
        good.replace("app_secret_file =", f'app_secret = "{planted.app_secret}"\napp_secret_file ='),
        good.replace('"token.secret"', f'"{planted.token}"'),
        good.replace("token_file =", f'token = "{planted.token}"\ntoken_file ='),
        good.replace('"webhook.secret"', f'"{planted.webhook}"'),
        good.replace('"webhook.secret"', f'"{planted.webhook[6:]}"'),
        good.replace('secret_file = "webhook', f'secret = "{planted.webhook}"\nsecret_file = "webhook'),
        good.replace(f'park_uuid = "{PARK}"', f'park_uuid = ["{planted.app_secret}"]'),
        good.replace("[log]", f"{planted.token}\n[log]"),
        good.replace("[log]", f'[log]\nx = "{planted.app_secret}" "{planted.token}"'),
        good.replace("http://", f"http://user:{planted.token}@"),
        good.replace('"token.secret"', f'"{planted.token}/\\u0000"'),
    ]


async def test_wrong_configurations_and_wrong_secret_files_tell_no_secret(tmp_path: Path) -> None:
    planted, haul = Secrets(), Haul()
    site = make_site(tmp_path / "site", planted, "http://127.0.0.1:1/x", "http://127.0.0.1:1/y")
    good = site.config.read_text()
    for count, text in enumerate(misplaced(good, planted)):
        site.config.write_text(text)
        with pytest.raises(ConfigError) as raised:
            load(site.config, {})
        haul.add(f"fault {count}", f"{raised.value!r}")
    site.config.write_text(good)
    (site.folder / "webhook.secret").write_text(planted.app_secret + " " + planted.webhook)
    (site.folder / "token.secret").write_text(planted.token + "\n" + planted.token)
    (site.folder / "park.secret").write_bytes(planted.app_secret.encode() + b"\xff")
    for command in ("run", "check"):
        code, out, err = await site.command(command)
        assert code == 78
        assert (out + err).count("secret") >= 3
        haul.add(f"poller {command}", out + err)
    assert haul.leaks(planted.hidden()) == []


async def test_a_client_with_a_wrong_token_or_no_daemon_tells_no_secret(tmp_path: Path) -> None:
    planted, haul = Secrets(), Haul()
    async with EchoingPlatform() as platform, WebhookReceiver(planted.webhook) as receiver:
        site = make_site(tmp_path / "site", planted, platform.url, receiver.url)
        haul.add("no daemon", "".join((await site.command("list"))[1:]))
        async with site.running() as daemon:
            (site.folder / "token.secret").write_text(planted.token[:-1] + "_")
            for words in (("list",), ("submit", "message-2"), ("check",)):
                code, out, err = await site.command(*words)
                assert code == 1
                haul.add(f"poller {words[0]}", out + err)
            await daemon.kill()
            haul.add("the daemon", "".join(daemon.lines + daemon.stderr))
    assert haul.leaks(planted.hidden()) == []


async def test_a_crash_tells_no_secret(tmp_path: Path) -> None:
    """A damaged store, a port that is taken: whatever ends a daemon says nothing of a secret."""
    planted, haul = Secrets(), Haul()
    async with EchoingPlatform() as platform, WebhookReceiver(planted.webhook) as receiver:
        site = make_site(tmp_path / "site", planted, platform.url, receiver.url)
        async with site.running() as daemon:
            second = site.config.read_text().replace(
                "[log]", f'[store]\nurl = "sqlite:///{tmp_path}/second.db"\n[log]'
            )
            (tmp_path / "site" / "second.toml").write_text(second)
            process = await Process.start("run", "--config", str(tmp_path / "site" / "second.toml"))
            assert await process.end() == 1
            haul.add("the port is taken", "".join(process.lines + process.stderr))
            await daemon.kill()
        for file in site.folder.glob("poller.db-*"):
            file.unlink()
        (site.folder / "poller.db").write_bytes(b"SQLite format 3\0" + secrets.token_bytes(8000))
        code, out, err = await site.command("run")
        assert code == 1
        haul.add("a damaged store", out + err)
    assert haul.leaks(planted.hidden()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_tells_a_secret(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted, haul = Secrets(), Haul()
    site = make_site(tmp_path / "site", planted, "http://127.0.0.1:1/x", "http://127.0.0.1:1/y")
    monkeypatch.chdir(site.folder)
    told = CliRunner().invoke(main, [command, "--help"])
    assert told.exit_code == 0
    haul.add("help", told.output)
    assert haul.leaks(planted.hidden()) == []


def test_the_search_finds_a_piece_of_a_secret_in_any_case() -> None:
    planted, haul = Secrets(), Haul()
    planted.numbers.add("1")
    haul.add(
        "here", json.dumps({"hint": f"…{planted.sign('1').lower()[3:17]}…", "x": planted.token[5:17].upper()})
    )
    assert sorted(haul.leaks(planted.hidden())) == ["sign of 1 in here", "token in here"]
