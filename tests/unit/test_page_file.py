"""The file of the status page: both languages whole, an old browser's JavaScript, and its policy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from importlib import resources
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import NoticeType, State
from poller.core.replies import Cause
from poller.desk import Reason
from poller.intake.page import policy

ROOT = Path(__file__).resolve().parents[2]
PAGE = resources.files("poller.intake").joinpath("page.html").read_text("utf-8")
[TABLE] = re.findall(r'<script type="application/json" id="texts">(.*?)</script>', PAGE, re.DOTALL)
[SCRIPT] = re.findall(r"<script>(.*?)</script>", PAGE, re.DOTALL)
[STYLE] = re.findall(r"<style>(.*?)</style>", PAGE, re.DOTALL)
TEXTS: dict[str, dict[str, str]] = json.loads(TABLE)


def blanks(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w+)\}", text))


def test_every_text_is_there_in_both_languages_with_the_same_blanks() -> None:
    english, chinese = TEXTS["en"], TEXTS["zh"]
    assert list(english) == list(chinese)
    for name in english:
        assert blanks(english[name]) == blanks(chinese[name]), name
        assert english[name].strip()
        assert chinese[name].strip()


@pytest.mark.parametrize(
    "names",
    [
        list(State),
        list(NoticeType),
        [f"kind_{cause}" for cause in Cause],
        [f"reason_{reason}" for reason in Reason],
        [f"delivery_{state}" for state in DeliveryState],
        [f"{act}{when}" for act in ("poll", "cancel", "reopen", "redeliver") for when in ("", "_done")],
    ],
    ids=["states", "notices", "outages", "reasons", "deliveries", "buttons"],
)
def test_every_word_of_the_daemon_has_its_texts(names: list[str]) -> None:
    assert set(names) <= set(TEXTS["en"])


def test_every_text_that_the_script_asks_for_is_there_and_none_is_in_vain() -> None:
    asked = set(re.findall(r"\bt\('([\w.-]+)'[,)]", SCRIPT))
    asked |= set(re.findall(r"\bphrase\([^,{]+, '([\w.-]+)'", SCRIPT))
    assert len(asked) > 30
    assert asked <= set(TEXTS["en"])
    of_the_daemon = re.compile(r"(payment\.|kind_|reason_|delivery_|status_|\w+_done$)")
    for name in TEXTS["en"]:
        assert of_the_daemon.match(name) or f"'{name}'" in SCRIPT or name in list(State), name


def test_no_name_of_another_host_is_in_it() -> None:
    assert set(re.findall(r"\b\w+://[^\s'\"]+", PAGE)) == {"http://www.w3.org/2000/svg"}
    assert re.findall(r'(?:src|href)="([^"]*)"', PAGE) == ["data:,"]


@pytest.mark.parametrize(
    "newer", [r"=>", r"`", r"\b(?:let|const|class|async|await)\s", r"\bfetch\(", r"\.\.\.", r"\?\.", r"\?\?"]
)
def test_its_script_is_one_that_an_old_browser_reads(newer: str) -> None:
    code = re.sub(r"//.*|'[^'\n]*'", "", SCRIPT)
    assert re.findall(newer, code) == []


def test_its_style_needs_nothing_that_an_old_browser_lacks() -> None:
    assert re.findall(r"grid|var\(--|:is\(|:has\(|\bgap:", STYLE) == []


@pytest.mark.parametrize(
    "sink", ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("]
)
def test_nothing_turns_text_into_html_or_code(sink: str) -> None:
    assert sink not in SCRIPT


def test_its_policy_allows_its_own_script_and_style_and_nothing_else() -> None:
    allowed = dict(rule.split(" ", 1) for rule in policy(PAGE).split("; "))
    for kind, text in (("script-src", SCRIPT), ("style-src", STYLE)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[kind] == f"'sha256-{digest}'"
    assert allowed["default-src"] == allowed["frame-ancestors"] == allowed["form-action"] == "'none'"
    assert allowed["connect-src"] == "'self'"
    assert "unsafe" not in policy(PAGE)


def test_the_readme_shows_pictures_of_a_desk_and_of_a_phone_that_are_there_and_small() -> None:
    shown = re.findall(r"\]\((deploy/screenshots/[^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    pictures = [(ROOT / name).read_bytes() for name in shown]
    assert {struct.unpack(">II", picture[16:24]) for picture in pictures} == {(1366, 768), (390, 844)}
    assert max(map(len, pictures)) < 120_000
