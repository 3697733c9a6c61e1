"""One GET, one response: how it is framed on the wire, and which connections are kept for the next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from yarl import URL

from poller import __version__
from poller.pyun.exchange import Exchange, Response
from tests.integration.test_pyun_hostile import PACE_S, SHORT_S, Answer, Server, Visit, serving

CAP = 100
TIME_S = 10.0
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"Content-Length: 5\r\n\r\nwhole"
NEXT = OK + b"Content-Length: 4\r\n\r\nnext"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PLANTED = OK + b"Content-Length: 7\r\n\r\nplanted"


@asynccontextmanager
async def exchange_with(answer: Answer) -> AsyncIterator[tuple[Server, Exchange]]:
    async with serving(answer) as server:
        exchange = Exchange(URL(server.url), None, None)
        try:
            yield server, exchange
        finally:
            await exchange.close()


def first_then_next(*parts: bytes, hang_up: bool = False) -> Answer:
    """The first request is answered with these parts, each in its own segment; every other with NEXT."""

    async def answer(visit: Visit) -> None:
        if len(visit.server.visits) > 1:
            await visit.send(NEXT)
            return
        for part in parts:
            await visit.send(part)
            await asyncio.sleep(PACE_S)  # so that the network does not join them
        if hang_up:
            visit.writer.close()

    return answer


def read(response: Response) -> tuple[int, bytes | None]:
    return response.status, response.body


# What is sent.


async def test_a_query_is_exactly_one_get_with_four_headers_and_no_body() -> None:
    async with exchange_with(first_then_next(WHOLE)) as (server, exchange):
        for _ in range(2):
            await exchange.get("a=%E7%B2%A4&b=c%20d", CAP, TIME_S)
    host = URL(server.url).authority
    head = (
        "GET /gate?a=%E7%B2%A4&b=c%20d HTTP/1.1\r\n"
        f"Host: {host}\r\n"
        f"User-Agent: poller/{__version__}\r\n"
        "Accept: */*\r\n"
        "Accept-Encoding: identity\r\n"
        "\r\n"
    )
    # On one connection: bytes after the first head would stand before the second.
    assert server.connections == 1
    assert [visit.head for visit in server.visits] == [head.encode()] * 2


async def test_queries_at_the_same_time_each_get_the_response_to_their_own() -> None:
    both_asked = asyncio.Event()

    async def answer(visit: Visit) -> None:
        if len(visit.server.visits) == 2:
            both_asked.set()
        await both_asked.wait()
        await visit.reply(visit.head.split()[1])

    async with exchange_with(answer) as (server, exchange):
        responses = await asyncio.gather(*(exchange.get(query, CAP, TIME_S) for query in ("n=1", "n=2")))
        assert [response.body for response in responses] == [b"/gate?n=1", b"/gate?n=2"]
        assert server.connections == 2


# Whole responses, after which the connection is kept.


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((WHOLE,), (200, b"whole")),
        ((WHOLE[:10], WHOLE[10:30], WHOLE[30:-2], WHOLE[-2:]), (200, b"whole")),
        ((OK + b"Content-Length: 0\r\n\r\n",), (200, b"")),
        ((OK + b"Content-Length: 100\r\n\r\n" + b"x" * CAP,), (200, b"x" * CAP)),
        ((CHUNKED + b"5\r\nwhole\r\n0\r\n\r\n",), (200, b"whole")),
        ((CHUNKED, b"2\r\nwh\r", b"\n3;x=y\r\nole\r\n", b"0\r\nX: trailer\r\n\r\n"), (200, b"whole")),
        ((CHUNKED + b"0\r\n\r\n",), (200, b"")),
        ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nwhole",), (404, b"whole")),
        ((b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nwhole",), (200, b"whole")),
    ],
)
async def test_a_whole_body_is_read_and_its_connection_serves_the_next_query(
    parts: tuple[bytes, ...], expected: tuple[int, bytes]
) -> None:
    async with exchange_with(first_then_next(*parts)) as (server, exchange):
        assert read(await exchange.get("n=1", CAP, TIME_S)) == expected
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert (server.connections, len(server.visits)) == (1, 2)


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nRetry-After: 9\r\n\r\n"


@pytest.mark.parametrize(
    "parts", [(CONTINUE + HINTS + WHOLE,), (CONTINUE, HINTS, WHOLE), (CONTINUE * 20 + WHOLE[:9], WHOLE[9:])]
)
async def test_responses_of_1xx_before_the_final_one_are_skipped(parts: tuple[bytes, ...]) -> None:
    async with exchange_with(first_then_next(*parts)) as (server, exchange):
        response = await exchange.get("n=1", CAP, TIME_S)
        assert read(response) == (200, b"whole")
        assert "Retry-After" not in response.headers
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 1


# Responses after which the connection is not kept, so that nothing left on it is taken for an answer.


@pytest.mark.parametrize(
    "parts",
    [
        (OK + b"\r\nwhole",),
        (OK + b"Connection: close\r\n\r\nwh", b"ole"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"whole"),
    ],
)
async def test_a_body_without_a_length_goes_on_until_the_server_hangs_up(parts: tuple[bytes, ...]) -> None:
    async with exchange_with(first_then_next(*parts, hang_up=True)) as (server, exchange):
        assert read(await exchange.get("n=1", CAP, TIME_S)) == (200, b"whole")
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 2


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nwhole",), (200, b"whole")),
        ((b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nwhole",), (200, b"whole")),
        ((WHOLE + PLANTED,), (200, b"whole")),
        ((b"HTTP/1.1 204 No Content\r\n\r\n" + PLANTED,), (204, b"")),
        ((b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n" % len(PLANTED) + PLANTED,), (204, b"")),
        ((b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(PLANTED) + PLANTED,), (304, b"")),
        (
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + PLANTED,),
            (101, b""),
        ),
    ],
)
async def test_a_response_that_ends_the_connection_or_leaves_something_on_it_is_its_last(
    parts: tuple[bytes, ...], expected: tuple[int, bytes]
) -> None:
    async with exchange_with(first_then_next(*parts)) as (server, exchange):
        assert read(await exchange.get("n=1", CAP, TIME_S)) == expected
        await server.hung_up.wait()
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 2


@pytest.mark.parametrize(
    "parts",
    [
        (OK + b"Content-Length: 101\r\n\r\n" + b"x" * 101,),
        (OK + b"Content-Length: 101\r\n\r\n",),
        (CHUNKED + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",),
        (CHUNKED, b"60\r\n" + b"x" * 96 + b"\r\n", b"5\r\nxxxxx\r\n"),
        (OK + b"\r\n" + b"x" * 101,),
    ],
)
async def test_a_connection_with_a_body_longer_than_the_cap_is_ended(parts: tuple[bytes, ...]) -> None:
    async with exchange_with(first_then_next(*parts)) as (server, exchange):
        response = await exchange.get("n=1", CAP, TIME_S)
        assert (*read(response), response.spoilt) == (200, None, "a body of more than 100 bytes")
        await server.hung_up.wait()
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 2


@pytest.mark.parametrize("parts", [(WHOLE[:-1],), (CHUNKED, b"5\r\nwhole\r\n"), (CHUNKED + b"6\r\nwhole",)])
async def test_a_body_that_breaks_off_is_no_body_and_the_next_query_makes_a_new_connection(
    parts: tuple[bytes, ...],
) -> None:
    async with exchange_with(first_then_next(*parts, hang_up=True)) as (server, exchange):
        response = await exchange.get("n=1", CAP, TIME_S)
        why = "the body of the reply was broken off or garbled"
        assert (*read(response), response.spoilt) == (200, None, why)
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 2


async def test_a_connection_with_a_garbled_chunk_is_ended() -> None:
    async with exchange_with(first_then_next(CHUNKED, b"5\r\nwhole\r\nno chunk\r\n")) as (server, exchange):
        with suppress(TimeoutError):  # aiohttp's parser does not tell those who wait for the body
            await exchange.get("n=1", CAP, SHORT_S)
        await server.hung_up.wait()
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 2


@pytest.mark.parametrize("part", [b"", CONTINUE, WHOLE[:20], WHOLE[:-1]])
async def test_a_query_that_is_cancelled_ends_its_connection_however_much_has_come(part: bytes) -> None:
    sent = asyncio.Event()

    async def answer(visit: Visit) -> None:
        if len(visit.server.visits) > 1:
            await visit.send(NEXT)
        else:
            await visit.send(part)
            sent.set()

    async with exchange_with(answer) as (server, exchange):
        query = asyncio.create_task(exchange.get("n=1", CAP, TIME_S))
        await sent.wait()
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        await server.hung_up.wait()
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 2


@pytest.mark.parametrize("status", [b"101 Switching Protocols", b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize(
    "framing", [b"", b"Content-Length: %d\r\n" % len(PLANTED), b"Transfer-Encoding: chunked\r\n"]
)
async def test_a_late_body_of_a_response_without_one_is_not_taken_for_the_next_response(
    status: bytes, framing: bytes
) -> None:
    async def answer(visit: Visit) -> None:
        if len(visit.server.visits) == 1:
            await visit.send(b"HTTP/1.1 " + status + b"\r\n" + framing + b"\r\n")
            return
        if visit.server.connections == 1:
            await visit.send(PLANTED)
        await visit.send(NEXT)

    async with exchange_with(answer) as (server, exchange):
        assert read(await exchange.get("n=1", CAP, TIME_S)) == (int(status[:3]), b"")
        assert read(await exchange.get("n=2", CAP, TIME_S)) == (200, b"next")
        assert server.connections == 2
