"""No byte string makes the protocol do anything but answer or refuse."""

import json

from hypothesis import given
from hypothesis import strategies as st

from eclctl.daemon.sockets import protocol
from eclctl.daemon.sockets.protocol import Method, Request, RequestError, parse_request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(["v", "id", "method", "parameters", "image", "images", "role", "fd", "subject_uid", "limit"])
VALUES = st.sampled_from([1, "1", "/a", True, *Method]) | JSON
REQUESTS = st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=4), max_size=5)


def outcome(line):
    try:
        return parse_request(line)
    except RequestError as error:
        return error


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(line):
    assert isinstance(outcome(line), Request | RequestError)


@given(JSON | REQUESTS)
def test_any_json_is_a_request_or_refused(value):
    assert isinstance(outcome(json.dumps(value).encode()), Request | RequestError)


@given(REQUESTS)
def test_what_is_taken_for_a_request_has_only_checked_values(value):
    request = outcome(json.dumps({"v": 1, "id": "7", "method": "check"} | value).encode())
    if isinstance(request, Request):
        assert request.images or request.method not in {Method.CHECK, Method.CHECK_ALL, Method.EXPLAIN}
        assert all(image.image.startswith("/") and "\0" not in image.image for image in request.images)
        assert request.subject_uid is None or type(request.subject_uid) is int


PIECES = st.sampled_from(['"', "\\", "/", "\x7f", "\x00", "é", "{", "}", ":", ",", " ", "a", "role", "\\u0041", "~"])


@st.composite
def lines(draw):
    """Lines that are, or nearly are, in the form that clients write."""
    gap = draw(st.sampled_from(["", " ", "  ", "\t"]))
    name, image = (draw(st.lists(PIECES, max_size=6).map("".join)) for _ in range(2))
    members = f'"image":{gap}"/{image}"'
    if role := draw(st.sampled_from([None, "rootfs", "overlay", "x_1", "Data", "-"])):
        members += f',{gap}"role":{gap}"{role}"'
    if passed := draw(st.sampled_from([None, "true", "false", "1"])):
        members += f',{gap}"fd":{gap}{passed}'
    end = draw(st.sampled_from(["", "\n", "\r", "\x0b", " ", "}"]))
    head = f'{{"v":{gap}1,{gap}"id":{gap}"{name}",{gap}"method":{gap}"check"'
    return f'{head},{gap}"parameters":{gap}{{{members}}}}}{end}'.encode()


@given(lines())
def test_the_short_way_through_the_parser_means_what_the_long_way_means(line):
    assert outcome_key(parse_request, line) == outcome_key(the_long_way, line)


def the_long_way(line):
    message = protocol._object(line)
    return protocol._request(message["id"], message)


def outcome_key(parse, line):
    try:
        return parse(line)
    except RequestError as error:
        return str(error)


def test_what_a_client_writes_takes_the_short_way():
    for parameters in ({"image": "/a b.sif"}, {"image": "/a", "role": "overlay", "fd": True}):
        message = {"v": 1, "id": "7", "method": "check", "parameters": parameters}
        for separators in ((",", ":"), (", ", ": ")):
            assert protocol._PLAIN_CHECK.fullmatch(json.dumps(message, separators=separators).encode())
