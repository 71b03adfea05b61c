"""What a registry's answers say, read strictly: states, digests, types, errors, and where an exchange continues."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urljoin

from eclctl.errors import RemoteError
from eclctl.remote.http.client import IncomingResponse, Response, Target, TransientError, escaped, parse_url
from eclctl.remote.http.limits import MAX_LOCATION
from eclctl.sif.oci import INDEX_TYPES, MANIFEST_TYPES

_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_SINGLE: Final = ("content-range", "content-type", "docker-content-digest", "location")
"""Headers that must not have several values."""

_MAX_MESSAGES: Final = 3
_MAX_PAUSE_DIGITS: Final = 5
_LEGAL_IN_URL: Final = "-._~:/?#[]@!$&'()*+,;=%"
"""What RFC 3986 allows besides letters and digits; anything else in a `Location` is percent-encoded."""


def require_one_meaning(answer: IncomingResponse) -> None:
    """Require that no header on which a decision rests has two values.

    Raises:
        RemoteError: One has.
    """
    for name in _SINGLE:
        if len(set(answer.values(name))) > 1:
            raise RemoteError(f"{escaped(answer.url)} sent several headers {name}, which differ")


def require_not_transient(answer: IncomingResponse) -> None:
    """Require that the status does not say that the server is in trouble.

    Raises:
        TransientError: It does; `pause` is what `Retry-After` asks for, in seconds.
    """
    if answer.status in _TRANSIENT:
        after = answer.headers.get("retry-after", "")
        pause = float(after) if after.isascii() and after.isdigit() and len(after) <= _MAX_PAUSE_DIGITS else 0.0
        raise TransientError(f"{escaped(answer.url)} answered with status {answer.status}", pause)


def require_same_digest(response: Response, digest: str) -> None:
    """Require that an answer names no other digest than that of its content, `sha256:<hex>`.

    Raises:
        RemoteError: It does.
    """
    stated = response.headers.get("docker-content-digest", digest)
    if stated != digest:
        raise RemoteError(f"{escaped(response.url)}: the registry says {escaped(stated)} of what is {digest}")


def media_type(response: Response) -> str:
    """Return the media type of a manifest or index.

    Raises:
        RemoteError: Header and content name different types, or it is none of the known ones.
    """
    stated = response.headers.get("content-type", "").partition(";")[0].strip()
    members = json_object(response.body)
    inside = None if members is None else members.get("mediaType", stated)
    known = isinstance(inside, str) and inside in MANIFEST_TYPES | INDEX_TYPES
    if not known or stated not in {"", inside}:
        found = f"{escaped(str(inside))} as {escaped(stated) or 'nothing'}"
        raise RemoteError(f"{escaped(response.url)} sent {found}: no manifest")
    return str(inside)


def json_object(data: bytes) -> dict[str, Any] | None:
    """Return the members of a JSON object, None when the data is anything else."""
    try:
        members = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return members if isinstance(members, dict) else None


def error_messages(body: bytes) -> str:
    """Return what a registry says of an error (distribution-spec, error codes), escaped; "" when that is nothing."""
    try:
        errors = (json_object(body) or {})["errors"][:_MAX_MESSAGES]
        said = [f"{each.get('code', '')} {each.get('message', '')}".strip() for each in errors]
    except (TypeError, KeyError, AttributeError):
        return ""
    return f" ({escaped('; '.join(said))})" if said else ""


def location(answer: IncomingResponse | Response) -> Target:
    """Return the URL that an answer's `Location` names.

    Raises:
        RemoteError: It names none that may be asked.
    """
    named = answer.headers.get("location", "")
    if not named or not named.isascii() or not named.isprintable() or " " in named:
        raise RemoteError(f"{escaped(answer.url)} does not say where it continues")
    try:
        return parse_url(urljoin(answer.url, quote(named, safe=_LEGAL_IN_URL)), MAX_LOCATION)
    except (RemoteError, ValueError) as error:
        raise RemoteError(
            f"{escaped(answer.url)} says that it continues at {escaped(named)}, which is not asked"
        ) from error
