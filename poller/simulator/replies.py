"""How the platform words its replies: the seed document's samples, in the types and spellings it mixes."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Any, Final, assert_never

import msgspec

from poller.simulator.scenarios import Garbage, Word

PATH: Final = "/gate/1.0/parking/internal/payment"
LIE_PATH: Final = "/_redirected"
"""Where the redirect of `Garbage.REDIRECT` leads: a page that says paid."""

Headers = tuple[tuple[str, str], ...]
JSON: Final = "application/json"
HTML: Final = "text/html"
_NODES: Final = ("CN-South/HS3-2", "CN-South/HS3-3", "DEV/DEV-1")
_ORIGINS: Final = ((0, "P云"), (4, "支付宝"), (8, "微信"))
_PAID_TAIL: Final = '"seqno":"4b1889bde31f0561","data_node":"CN-South/HS3-3","time_cost":8'
_PAID: Final = '{"code":"1001","status":"1","pay_serial":"0","pay_origin":"0",' + _PAID_TAIL + "}"
_LIES: Final[dict[Garbage, str]] = {
    Garbage.HTML: "<html><body><h1>Welcome</h1></body></html>",
    Garbage.CUT: _PAID[: -len(_PAID_TAIL) // 2],
    Garbage.ARRAY: f"[{_PAID}]",
    Garbage.DUPLICATE: '{"code":"1001","status":"0","status":"1",' + _PAID_TAIL + "}",
    Garbage.STATUS2: '{"code":"1001","status":"2",' + _PAID_TAIL + "}",
    Garbage.TRUE: '{"code":"1001","status":true,' + _PAID_TAIL + "}",
    Garbage.EMPTY: "",
    Garbage.HUGE: '{"code":"1001","status":"1","message":"' + "x" * 2_097_152 + '",' + _PAID_TAIL + "}",
}


@dataclass(frozen=True, slots=True)
class Wire:
    """One HTTP response. With `short`, the connection closes before the announced length has come.

    With `endless`, bytes go on coming after the body, and never stop.
    """

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Headers = ()
    short: bool = False
    endless: bool = False


class Wording:
    """The seeded mix: strings or numbers, and an HTTP status line that repeats the code or does not."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(f"{seed}:wording")

    def say(self, word: Word, key: tuple[str, str]) -> Wire:
        """A well-formed reply about an order."""
        match word:
            case Word.IN_PROGRESS:
                return self._success(status=0)
            case Word.NO_STATUS:
                return self._success()
            case Word.PAID:
                return self._success(status=1, **self._payment(key))
            case Word.FAILED:
                return self._success(status=-1, message="支付失败", **self._payment(key))
            case Word.REJECTED:
                return self.bad_parameter("检查请求参数`pay_partner`!")
            case Word.ERROR500:
                return self._error(500, "服务器内部错误")
            case Word.BUSY503:
                return self.busy()
            case _:
                assert_never(word)

    def bad_parameter(self, hint: str) -> Wire:
        """Code 400."""
        return self._error(400, "请求参数错误", hint)

    def bad_sign(self) -> Wire:
        """A wrong signature is no error code: `hint` tells (parking/api/parking-leave.md)."""
        return self._success(hint="签名错误, 检查请求参数`sign`!")

    def busy(self, status: int | None = None, headers: Headers = ()) -> Wire:
        """Code 503: the whole service is down. `status` is that of HTTP, None for either."""
        wire = self._error(503, "服务暂不可用", "NO HEALTH SERVICE(ParkingSyncer)!")
        return Wire(wire.body, status or wire.status, headers=headers)

    def lie(self, kind: Garbage) -> Wire:
        """A reply that must not be believed."""
        if kind is Garbage.REDIRECT:
            return Wire(_PAID.encode(), 302, headers=(("Location", LIE_PATH),))
        if kind is Garbage.HTTP500:
            return Wire(_PAID.encode(), 500)
        if kind is Garbage.UTF8:
            return Wire(_PAID.encode().replace(b"HS3", b"\xff\xfe"))
        if kind is Garbage.SHORT:
            return Wire(_PAID.encode(), short=True)
        if kind is Garbage.DRIP:
            return Wire(_PAID.encode(), endless=True)
        return Wire(_LIES[kind].encode(), content_type=HTML if kind is Garbage.HTML else JSON)

    def _payment(self, key: tuple[str, str]) -> dict[str, object]:
        number = zlib.crc32(f"{self._seed}:{key[0]}:{key[1]}".encode())
        origin, name = _ORIGINS[number % 3]
        return {
            "pay_serial": f"42000{number:010d}",
            "pay_origin": self._either(origin),
            "pay_origin_desc": name,
        }

    def _success(self, **fields: Any) -> Wire:
        if "status" in fields:
            fields["status"] = self._either(fields["status"])
        body = {"code": self._either(1001), **fields, **self._marks()}
        return Wire(msgspec.json.encode(body | {"time_cost": self._rng.getrandbits(6)}))

    def _error(self, code: int, message: str, hint: str | None = None) -> Wire:
        body: dict[str, object] = {"code": self._either(code), "message": message}
        if hint is not None:
            body["hint"] = hint
        body |= self._marks() | {"path": f"GET {PATH}"}
        return Wire(msgspec.json.encode(body), code if self._rng.getrandbits(1) else 200)

    def _marks(self) -> dict[str, object]:
        seqno = self._rng.getrandbits(64)
        return {"seqno": f"{seqno:016x}", "data_node": _NODES[seqno % len(_NODES)]}

    def _either(self, number: int) -> int | str:
        """The tables say string, a sister endpoint's sample has numbers (openapi/api/trade-query.md)."""
        return number if self._rng.getrandbits(2) == 0 else str(number)


def gateway_page(status: int, reason: str, headers: Headers = ()) -> Wire:
    """What a gateway before the platform says in its place."""
    page = f"<html><head><title>{status} {reason}</title></head><body><h1>{status} {reason}</h1></body></html>"
    return Wire(page.encode(), status, HTML, headers)
