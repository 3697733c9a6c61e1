"""Errors as `application/problem+json` (RFC 9457), each with a `detail` that says what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from poller.core.orders import NotAllowedError
from poller.intake.answers import encode
from poller.ports import StoreCorruptError, StoreUnavailableError, UnknownOrderError

CONTENT_TYPE = "application/problem+json"
ERRORS_MOST = 10  # how many wrong fields one answer names
SHOWN_CHARS = 80  # how much of a text from outside an answer repeats

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field; `pointer` is a JSON pointer in fragment form, from the order object."""

    pointer: str
    detail: str


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818  RFC 9457's own word for it
    """Ends a request with this answer."""

    status: int
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail

    def document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"pointer": one.pointer, "detail": one.detail} for one in self.errors]
        return document

    def body(self) -> bytes:
        return encode(self.document())

    def response(self) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", **self.headers}
        return web.Response(status=self.status, body=self.body(), headers=headers)


def shown(text: str) -> str:
    """A text from outside, fit to be repeated: cut, and always encodable."""
    cut = text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"
    return cut.encode("utf-8", "backslashreplace").decode()


def unknown_order() -> Problem:
    return Problem(404, "there is no such order; hand it in with POST /v1/orders")


def wrong_fields(errors: Sequence[FieldError]) -> Problem:
    """One problem of all fields that are wrong, in the order of their names."""
    named = sorted(errors, key=lambda error: error.pointer)[:ERRORS_MOST]
    return Problem(422, "; ".join(error.detail for error in named), named)


def store_unavailable(error: StoreUnavailableError) -> Problem:
    return Problem(503, f"not on disk, try again: {error}", headers={"Retry-After": "1"})


def store_corrupt(error: StoreCorruptError) -> Problem:
    return Problem(503, f"the store is damaged and the daemon ends: {error}")


def defect() -> Problem:
    return Problem(500, "a defect of the daemon; its log has the traceback")


def _of_aiohttp(error: web.HTTPException, request: web.Request) -> Problem:
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return Problem(
                405, f"{request.method} is not for this path; use {allowed}", headers={"Allow": allowed}
            )
        case web.HTTPNotFound():
            return Problem(404, f"there is nothing at {shown(request.path)}; see /openapi.json")
        case web.HTTPRequestEntityTooLarge():
            return Problem(413, "the body is too big; send fewer orders at once")
        case _:
            return Problem(error.status, error.reason)


def answer_errors() -> Middleware:
    """The middleware that turns every error of a handler into a problem."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except Problem as error:
            problem = error
        except UnknownOrderError:
            problem = unknown_order()
        except NotAllowedError as error:
            problem = Problem(409, str(error))
        except StoreUnavailableError as error:
            problem = store_unavailable(error)
        except StoreCorruptError as error:
            problem = store_corrupt(error)  # the daemon ends by itself, and says so in its log
        except web.HTTPException as error:
            problem = _of_aiohttp(error, request)
        except web.RequestPayloadError:
            problem = Problem(400, "the body is not well-formed HTTP; send it with a right Content-Length")
        except ConnectionError:
            raise  # the client has gone
        except Exception:
            log.exception("intake.defect", method=request.method, path=shown(request.path))
            if request.writer.output_size > 0:
                raise ConnectionResetError("the answer had begun already") from None
            problem = defect()
        else:
            return _closing_unread(request, response)
        return _closing_unread(request, problem.response())

    return middleware


def _closing_unread(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """What is left of a body that nobody wanted must not hold the connection."""
    if not request.content.is_eof():
        response.force_close()
    return response
