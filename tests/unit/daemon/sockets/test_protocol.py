"""Requests are read strictly; answers are ASCII lines."""

import json

import pytest

from eclctl.daemon.sockets.protocol import (
    IMAGES_LIMIT,
    LINE_LIMIT,
    PATH_LIMIT,
    ErrorCode,
    ImageRef,
    Method,
    Request,
    RequestError,
    encode_error,
    encode_result,
    parse_request,
)


def line(**changes):
    request = {"v": 1, "id": "7", "method": "check", "parameters": {"image": "/a.sif"}} | changes
    return json.dumps({key: value for key, value in request.items() if value is not None}).encode()


def parameters(**given):
    return line(parameters={"image": "/a.sif"} | given)


def refused(raw):
    with pytest.raises(RequestError) as caught:
        parse_request(raw)
    return caught.value


def test_a_check_carries_image_role_and_descriptor():
    raw = parameters(role="overlay", fd=True)
    assert parse_request(raw) == Request("7", Method.CHECK, (ImageRef("/a.sif", "overlay", fd=True),))


def test_a_check_of_many_keeps_the_order_of_the_images():
    images = [{"image": "/b"}, {"image": "/a", "role": "data", "fd": True}]
    request = parse_request(line(method="check_all", parameters={"images": images}))
    assert request.images == (ImageRef("/b"), ImageRef("/a", "data", fd=True))


def test_bytes_that_are_not_utf8_are_named_by_surrogate_escapes():
    assert parse_request(parameters(image="/\udcff.sif")).images[0].image == "/\udcff.sif"


def test_a_subject_is_a_number():
    assert parse_request(parameters(subject_uid=1000)).subject_uid == 1000


@pytest.mark.parametrize("method", ["ping", "status", "reload", "flush", "rescan", "recent"])
def test_methods_without_parameters_need_none(method):
    assert parse_request(line(method=method, parameters=None)) == Request("7", Method(method))


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b"[" * 60_000, "deep"),
        (b'{"a":' * 10_000, "deep"),
        (b'{"v":' + b"1" * 5000 + b"}", "request"),
        (b'{"v":NaN,"id":"7"}', "NaN"),
        (b'{"v":1,"v":1,"id":"7","method":"ping"}', "twice"),
        (b'{"v":1,"id":"7","method":"check","parameters":{"image":"/a","image":"/b"}}', "twice"),
        (line() + b" x", "JSON"),
        (b" " * LINE_LIMIT + line(), "longer"),
        (line(v=2), "version"),
        (line(v=True), "version"),
        (line(v=1.0), "version"),
        (line(v=None), "version"),
        (line(more=1), "no key"),
        (line(parameters=[]), "object"),
        (parameters(more=1), "no key"),
        (parameters(Image="/a"), "no key"),
        (parameters(image=None), "absolute"),
        (parameters(image="a.sif"), "absolute"),
        (parameters(image=""), "absolute"),
        (parameters(image=["/a"]), "absolute"),
        (parameters(image="/a\0b"), "NUL"),
        (parameters(image="/" + "a" * PATH_LIMIT), "at most"),
        (parameters(image="/" + "é" * (PATH_LIMIT // 2)), "at most"),
        (parameters(image="/\ud800"), "surrogate"),
        (parameters(role="Root fs"), "role"),
        (parameters(role="a\n"), "role"),
        (parameters(fd=1), "true or false"),
        (parameters(subject_uid=True), "user ID"),
        (parameters(subject_uid=None), "user ID"),
        (parameters(subject_uid=-1), "user ID"),
        (parameters(subject_uid=2**32 - 1), "user ID"),
        (line(method="check_all", parameters={"images": []}), "list"),
        (line(method="check_all", parameters={"images": [{"image": "/a"}] * (IMAGES_LIMIT + 1)}), "list"),
        (line(method="check_all", parameters={"images": ["/a"]}), "object"),
        (line(method="check_all", parameters={"images": [{"image": "/a", "subject_uid": 0}]}), "no key"),
        (line(method="recent", parameters={"limit": 0}), "limit"),
        (line(method="report", parameters={}), "part"),
        (line(method="report", parameters={"part": "secrets"}), "part"),
        (line(method="report", parameters={"part": ["rules"]}), "part"),
        (line(method="report", parameters={"part": "rules", "limit": 501}), "limit"),
        (line(method="report", parameters={"part": "rules", "after": 7}), "after"),
        (line(method="report", parameters={"part": "rules", "after": "x" * 4097}), "after"),
        (line(method="report", parameters={"part": "rules", "image": "/a"}), "image"),
        (line(method="ping", parameters={"x": 1}), "no key"),
    ],
)
def test_a_line_that_is_not_exactly_a_request_is_refused_with_a_reason(raw, word):
    error = refused(raw)
    assert error.error is ErrorCode.BAD_REQUEST
    assert word in str(error)


@pytest.mark.parametrize("method", ["Check", "", None, 1, ["check"], {"a": 1}])
def test_a_method_that_does_not_exist_has_a_code_of_its_own(method):
    assert refused(line(method=method)).error is ErrorCode.UNKNOWN_METHOD


@pytest.mark.parametrize("request_id", [None, 7, "x" * 257, ["7"]])
def test_an_id_that_is_no_short_string_is_refused(request_id):
    error = refused(line(id=request_id))
    assert (error.error, error.id) == (ErrorCode.BAD_REQUEST, None)


def test_a_refusal_names_the_request_whose_id_could_be_read():
    assert refused(line(v=2)).id == "7"


def test_an_answer_has_no_control_character():
    raw = encode_result("\x1b\x7f\u2028", {"reason": "\x00\n\x9b\udcff\x7f"})
    assert raw.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in raw[:-1])
    assert json.loads(raw) == {"v": 1, "id": "\x1b\x7f\u2028", "result": {"reason": "\x00\n\x9b\udcff\x7f"}}


def test_an_error_answer_has_a_code_and_no_result():
    answer = json.loads(encode_error(None, ErrorCode.BAD_REQUEST, "no"))
    assert answer == {"v": 1, "id": None, "error": {"code": "bad-request", "message": "no"}}
