"""The socket protocol: one line of bytes in, a request out; a decision in, one line of bytes out. No sockets.

One JSON object a line, at most `LINE_LIMIT` bytes with its newline (docs/protocol.md). What a request may hold is
closed: an unknown or repeated key, a number that JSON does not know, a wrong type or version is a `RequestError`,
never a guess. Answers are plain ASCII, so nothing that a user chose reaches a terminal or a log as a raw control
character.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from json import JSONDecodeError, JSONDecoder, JSONEncoder
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from eclctl.daemon.sockets.lines import LINE_LIMIT
from eclctl.errors import EclctlError

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION: Final = 1
ID_LIMIT: Final = 256
IMAGES_LIMIT: Final = 64
PATH_LIMIT: Final = 4096
RECENT_LIMIT: Final = 500
UID_LIMIT: Final = 2**32 - 2

_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class Method(StrEnum):
    """Everything that can be asked."""

    CHECK = "check"
    CHECK_ALL = "check_all"
    EXPLAIN = "explain"
    PING = "ping"
    STATUS = "status"
    RELOAD = "reload"
    FLUSH = "flush"
    RESCAN = "rescan"
    RECENT = "recent"
    REPORT = "report"

    __hash__ = str.__hash__  # what Enum brings is Python code, and every request is looked up by its method


ADMIN_ONLY: Final = frozenset({Method.STATUS, Method.RELOAD, Method.FLUSH, Method.RESCAN, Method.RECENT, Method.REPORT})


class ReportPart(StrEnum):
    """The parts of a report."""

    SUMMARY = "summary"
    RULES = "rules"
    KEYS = "keys"
    FILES = "files"
    IMAGES = "images"


class ErrorCode(StrEnum):
    """The closed list of codes in an `error` answer: the question itself was wrong, so nothing was decided."""

    BAD_REQUEST = "bad-request"
    UNKNOWN_METHOD = "unknown-method"
    NOT_PERMITTED = "not-permitted"
    UNKNOWN_USER = "unknown-user"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    INTERNAL_ERROR = "internal-error"


class RequestError(EclctlError):
    """A line that is no request. `error` is what to answer, `id` the request's, when it could be read."""

    def __init__(self, error: ErrorCode, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.id = request_id


class ImageRef(NamedTuple):
    """One image that is asked about. `fd`: its descriptor travels with the request.

    This and `Request` are tuples because every decision makes one, and a frozen dataclass takes three times as long.
    """

    image: str
    role: str = "rootfs"
    fd: bool = False


class Request(NamedTuple):
    """A well-formed request.

    `images` has one element for check and explain, one or more for check_all, none otherwise. `subject_uid` is
    the user on whose behalf root asks. `limit` is for `recent` and `report`: how many of a thing to show; `part` and
    `after` for `report` alone.
    """

    id: str
    method: Method
    images: tuple[ImageRef, ...] = ()
    subject_uid: int | None = None
    limit: int = 50
    part: ReportPart = ReportPart.SUMMARY
    after: str = ""


class _NotJsonError(ValueError):
    """A value that Python's decoder takes and JSON, or this protocol, does not."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotJsonError("a key occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _NotJsonError(f"{name} is not JSON")


_decode = JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode
_decode_quickly = JSONDecoder(parse_constant=_no_constant).decode
_encode = JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


def parse_request(line: bytes) -> Request:
    """Read one request.

    Args:
        line: the bytes of one line, with or without its newline.

    Returns:
        The request; every value in it has been checked.

    Raises:
        RequestError: the line is anything else. Nothing else is raised, for any bytes.
    """
    if len(line) <= LINE_LIMIT and (plain := _PLAIN_CHECK.fullmatch(line)) is not None:
        request_id, image, role, passed = plain.groups()
        name = "rootfs" if role is None or role == b"rootfs" else role.decode("ascii")
        reference = ImageRef(image.decode("ascii"), name, passed == b"true")
        return Request(request_id.decode("ascii"), Method.CHECK, (reference,))
    message = _object(line)
    request_id = message.get("id")
    if type(request_id) is not str or len(request_id) > ID_LIMIT:
        raise RequestError(ErrorCode.BAD_REQUEST, f"`id` must be a string of at most {ID_LIMIT} characters")
    try:
        return _request(request_id, message)
    except RequestError as error:
        raise RequestError(error.error, str(error), request_id) from None


# The form in which nearly every question comes: members in the order of docs/protocol.md, nothing escaped, ASCII. What
# it matches means the same to the parser below, which takes every other form and names every error.
_PLAIN_CHECK: Final = re.compile(
    rb'\{"v": ?1, ?"id": ?"([ !#-\[\]-~]{0,256})", ?"method": ?"check", ?"parameters": ?'
    rb'\{"image": ?"(/[ !#-\[\]-~]{0,4000})"(?:, ?"role": ?"([a-z]{1,32})")?(?:, ?"fd": ?(true|false))?\}\}[ \t\r\n]*'
)


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LINE_LIMIT:
        raise RequestError(ErrorCode.BAD_REQUEST, f"a request is longer than {LINE_LIMIT} bytes")
    try:
        message = _decoded(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RequestError(ErrorCode.BAD_REQUEST, "the line is not UTF-8") from None
    except JSONDecodeError as error:
        raise RequestError(ErrorCode.BAD_REQUEST, f"the line is not JSON: {error.msg}, column {error.colno}") from None
    except RecursionError:
        raise RequestError(ErrorCode.BAD_REQUEST, "the line is nested too deeply") from None
    except ValueError as error:  # a repeated key, NaN, or an integer of thousands of digits
        raise RequestError(ErrorCode.BAD_REQUEST, f"the line is not a request: {error}"[:200]) from None
    if type(message) is not dict:
        raise RequestError(ErrorCode.BAD_REQUEST, "a request is a JSON object")
    return message


def _decoded(text: str) -> Any:
    """Decode JSON; a repeated key is an error.

    Each member of an object has a colon of its own. Where there are as many colons as members that arrived, no member
    was repeated, and the slower decoder that looks at every pair is not needed.
    """
    message = _decode_quickly(text)
    if type(message) is dict:
        parameters = message.get("parameters")
        if text.count(":") == len(message) + (len(parameters) if type(parameters) is dict else 0):
            return message
    return _decode(text)


def _refuse(message: str) -> NoReturn:
    raise RequestError(ErrorCode.BAD_REQUEST, message)


_ENVELOPE = frozenset({"v", "id", "method", "parameters"})


def _request(request_id: str, message: dict[str, Any]) -> Request:
    _only(message, _ENVELOPE, "a request")
    version = message.get("v")
    if type(version) is not int or version != VERSION:  # True == 1 in Python, not here
        _refuse(f"`v` must be {VERSION}, the protocol's version")
    parameters = message.get("parameters", {})
    if type(parameters) is not dict:
        _refuse("`parameters` must be an object")
    name = message.get("method")
    known = _PARSERS.get(name) if isinstance(name, str) else None
    if known is None:
        raise RequestError(ErrorCode.UNKNOWN_METHOD, f"`method` must be one of {', '.join(Method)}")
    method, members, parse = known
    _only(parameters, members, "`parameters`")
    return parse(request_id, method, parameters)


def _only(found: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    if not known.issuperset(found):
        unknown = min(set(found) - known)
        _refuse(f"{what} has no key {_encode(unknown[:64])}; it may have {', '.join(sorted(known)) or 'none'}")


_IMAGE = frozenset({"image", "role", "fd"})


def _parse_check(request_id: str, method: Method, parameters: dict[str, Any]) -> Request:
    return Request(request_id, method, (_image(parameters),), _subject(parameters))


def _parse_check_all(request_id: str, method: Method, parameters: dict[str, Any]) -> Request:
    images = parameters.get("images")
    if type(images) is not list or not 1 <= len(images) <= IMAGES_LIMIT:
        _refuse(f"`images` must be a list of 1 to {IMAGES_LIMIT} objects")
    for image in images:
        if type(image) is not dict:
            _refuse("each of `images` must be an object")
        _only(image, _IMAGE, "an image")
    return Request(request_id, method, tuple(_image(image) for image in images), _subject(parameters))


def _parse_limit(request_id: str, method: Method, parameters: dict[str, Any]) -> Request:
    return Request(request_id, method, limit=_limit(parameters))


def _parse_report(request_id: str, method: Method, parameters: dict[str, Any]) -> Request:
    part, after = parameters.get("part"), parameters.get("after", "")
    if not isinstance(part, str) or part not in frozenset(ReportPart):
        _refuse(f"`part` must be one of {', '.join(ReportPart)}")
    if type(after) is not str or len(after) > PATH_LIMIT:
        _refuse("`after` must be what the answer before said in `next`")
    return Request(request_id, method, limit=_limit(parameters), part=ReportPart(part), after=after)


def _limit(parameters: dict[str, Any]) -> int:
    limit = parameters.get("limit", 50)
    if type(limit) is not int or not 1 <= limit <= RECENT_LIMIT:
        _refuse(f"`limit` must be a number from 1 to {RECENT_LIMIT}")
    return int(limit)


_PARSERS: Final = {method.value: (method, frozenset[str](), _parse_limit) for method in Method} | {
    "check": (Method.CHECK, _IMAGE | {"subject_uid"}, _parse_check),
    "explain": (Method.EXPLAIN, _IMAGE | {"subject_uid"}, _parse_check),
    "check_all": (Method.CHECK_ALL, frozenset({"images", "subject_uid"}), _parse_check_all),
    "recent": (Method.RECENT, frozenset({"limit"}), _parse_limit),
    "report": (Method.REPORT, frozenset({"part", "after", "limit"}), _parse_report),
}


def _image(parameters: dict[str, Any]) -> ImageRef:
    image, role, passed = parameters.get("image"), parameters.get("role", "rootfs"), parameters.get("fd", False)
    if type(image) is not str or not image.startswith("/"):
        _refuse("`image` must be an absolute path")
    if len(image) > PATH_LIMIT or "\0" in image:
        _refuse(f"`image` must be a path of at most {PATH_LIMIT} bytes without NUL")
    if role != "rootfs" and (type(role) is not str or _ROLE.fullmatch(role) is None):
        _refuse("`role` must be a short lower-case word, for instance rootfs, overlay or data")
    if type(passed) is not bool:
        _refuse("`fd` must be true or false")
    if not image.isascii():
        _encodable(image)
    return ImageRef(image, role, passed)


def _encodable(image: str) -> None:
    r"""Bytes that are not UTF-8 come as \udc80 to \udcff (PEP 383); no other surrogate names a file."""
    try:
        encoded = os.fsencode(image)
    except UnicodeEncodeError:
        _refuse("`image` holds a surrogate that stands for no byte")
    if len(encoded) > PATH_LIMIT:
        _refuse(f"`image` must be a path of at most {PATH_LIMIT} bytes without NUL")


def _subject(parameters: dict[str, Any]) -> int | None:
    if "subject_uid" not in parameters:
        return None
    uid = parameters["subject_uid"]
    if type(uid) is not int or not 0 <= uid <= UID_LIMIT:
        _refuse("`subject_uid` must be a numeric user ID")
    return int(uid)


def encode_result(request_id: str, result: Mapping[str, Any]) -> bytes:
    """Return one answer line, ASCII, with its newline."""
    return _line({"v": VERSION, "id": request_id, "result": result})


def encode_error(request_id: str | None, code: ErrorCode, message: str) -> bytes:
    """Return one error line, ASCII, with its newline. Nothing was decided: a wrapper treats it as deny."""
    error = {"code": code, "message": message}
    return _line({"v": VERSION, "id": request_id, "error": error})


def encode_members(fields: Mapping[str, Any]) -> str:
    """Return a JSON object without its braces, to be put into a larger one."""
    return _encode(fields)[1:-1]


def _line(message: Mapping[str, Any]) -> bytes:
    """JSON escapes every control character but DEL, which can only stand inside a string."""
    return _encode(message).replace("\x7f", "\\u007f").encode("ascii") + b"\n"
