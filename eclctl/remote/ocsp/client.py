"""Asking OCSP responders whether certificates were revoked (RFC 6960, RFC 5019).

Every responder that a certificate names is asked, all at once, each within the same time: POST first, and GET, which
caches answer too, with what POST did not settle. What comes back is judged by `trust.ocsp`; what the responders say is
then taken together:

1. `revoked` if any of them says so: a responder that has not heard of a revocation must not hide it.
2. Else `good` if any does: each answer is signed for the issuer, so one is enough.
3. Else `unknown`, `invalid`, `unavailable`, the first in this order that is among the answers.

Of several equal answers, the newest counts.

No nonce is sent: most responders answer with responses made ahead of time, which cannot hold it (RFC 5019 section
2.2.1), and thisUpdate and nextUpdate bound how old a replayed response can be.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from eclctl.dataclass import dataclass
from eclctl.errors import RemoteError
from eclctl.remote.http import client as http
from eclctl.trust import ocsp
from eclctl.trust.revocation import Known, Link, Status, StatusSubject

TIMEOUT: Final = 5.0
"""Seconds for each responder, POST and GET together."""

MAX_AGE: Final = timedelta(days=1)
"""For how long an answer is kept at most, even if its nextUpdate is later."""

_MAX_GET: Final = 255  # bytes that the encoded request may have (RFC 6960 appendix A.1)
_SETTLED: Final = frozenset({Status.GOOD, Status.REVOKED, Status.UNKNOWN})
_WEIGHT: Final = (Status.REVOKED, Status.GOOD, Status.UNKNOWN, Status.INVALID, Status.UNAVAILABLE)
_POST: Final = {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
_GET: Final = {"Accept": "application/ocsp-response"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one responder said. `seconds` is how long that took."""

    url: str
    answer: ocsp.OcspAnswer
    seconds: float


@dataclass(frozen=True, slots=True)
class ResponderReply:
    """What the responders of one certificate said, taken together.

    `until` is how long it may be relied on; `this_update` is since when the responder knows it, None without an answer.
    """

    status: Status
    reason: str
    until: datetime
    this_update: datetime | None = None
    answers: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A `StatusSource` of what was asked once, for a command that ends with its answer."""

    replies: Mapping[str, ResponderReply]
    version: int = 0

    def known(self, subject: StatusSubject, now: datetime) -> Known | None:
        """Return what was said of a certificate, None when it was not asked about, or that has run out."""
        reply = self.replies.get(subject.id)
        if reply is None or (reply.status in _SETTLED and reply.until <= now):
            return None
        return Known(reply.status, reply.until, reply.reason)


async def ask(
    link: Link,
    *,
    now: Callable[[], datetime],
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - it is each exchange's deadline
    max_age: timedelta = MAX_AGE,
) -> ResponderReply:
    """Ask every responder of one certificate. Never raises for what responders do.

    Args:
        link: the certificate and its issuer, on a path to a trusted root: the URLs are the certificate's.
        now: the time of day, aware, UTC; read once the answers are there.
        timeout: seconds for each responder; all are asked at once.
        max_age: how long an answer may be kept at most, from now.
    """
    urls = ocsp.responders(link.certificate)
    if not urls:
        return ResponderReply(Status.UNAVAILABLE, "the certificate names no OCSP responder", now())
    asked = await asyncio.gather(*(_ask_one(url, link, now, timeout) for url in urls))
    until = judged = now()
    status = min((each.answer.status for each in asked), key=_WEIGHT.index)
    same = [each for each in asked if each.answer.status is status]
    newest = max(same, key=lambda each: each.answer.this_update.timestamp() if each.answer.this_update else 0.0)
    answer = newest.answer
    if status in _SETTLED:
        until = judged + max_age if answer.next_update is None else min(answer.next_update, judged + max_age)
    shown = http.escaped(newest.url)
    reason = answer.reason if shown in answer.reason else f"{shown}: {answer.reason}"  # the client's own names the URL
    return ResponderReply(status, reason, until, answer.this_update, tuple(asked))


async def ask_all(certificates: Iterable[Link], *, now: Callable[[], datetime], timeout: float = TIMEOUT) -> Told:  # noqa: ASYNC109 - as for ask
    """Ask about several certificates at once, and return what can be looked up then."""
    unique = {link.id: link for link in certificates}
    replies = await asyncio.gather(*(ask(link, now=now, timeout=timeout) for link in unique.values()))
    return Told(dict(zip(unique, replies, strict=True)))


async def _ask_one(url: str, link: Link, now: Callable[[], datetime], timeout: float) -> Asked:  # noqa: ASYNC109 - as for ask
    loop = asyncio.get_running_loop()
    begun = loop.time()
    question = ocsp.build_request(link, None)

    async def answer_of(method: str, where: str, body: bytes | None) -> ocsp.OcspAnswer:
        left = begun + timeout - loop.time()
        headers = _GET if body is None else _POST
        try:
            response = await http.request_url(
                method, where, body=body, headers=headers, timeout=left, limit=ocsp.MAX_RESPONSE
            )
        except RemoteError as error:
            return ocsp.OcspAnswer(Status.UNAVAILABLE, str(error))
        if response.status != 200:  # noqa: PLR2004 - OK is the only status of a response (RFC 6960 appendix A.2)
            return ocsp.OcspAnswer(
                Status.UNAVAILABLE, f"{http.escaped(response.url)} answered with status {response.status}"
            )
        return ocsp.judge_response(response.body, link.certificate, link.issuer, now=now())

    answer = await answer_of("POST", url, question)
    short = _get_url(url, question)
    if answer.status not in _SETTLED and short is not None and loop.time() < begun + timeout:
        answer = min(answer, await answer_of("GET", short, None), key=lambda each: _WEIGHT.index(each.status))
    return Asked(url, answer, loop.time() - begun)


def _get_url(url: str, question: bytes) -> str | None:
    """The URL of the same question for GET (RFC 6960 appendix A.1), None when it has no such form."""
    encoded = base64.b64encode(question).decode("ascii")
    if len(encoded) > _MAX_GET or "?" in url or "#" in url:
        return None
    return url.rstrip("/") + "/" + quote(encoded, safe="")
