"""Which proxy is used, as the environment says."""

from __future__ import annotations

import pytest

from eclctl.errors import RemoteError
from eclctl.remote.http.proxies import Proxy, choose

PROXY = Proxy("http://proxy.example:3128", None)
SET = {"http_proxy": "http://proxy.example:3128"}


def test_without_a_proxy_in_the_environment_there_is_none() -> None:
    assert choose("http", "ocsp.example", 80, {}) is None


@pytest.mark.parametrize("value", ["http://proxy.example:3128", "proxy.example:3128", " http://proxy.example:3128/ "])
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_is_named_for_each_scheme(name: str, value: str) -> None:
    assert choose("http", "ocsp.example", 80, {name: value}) == PROXY
    assert choose("https", "ocsp.example", 443, {name: value}) is None


def test_small_letters_count_before_capitals_even_when_they_say_none() -> None:
    assert choose("http", "ocsp.example", 80, {"http_proxy": "", "HTTP_PROXY": "http://other.example"}) is None


def test_credentials_of_a_proxy_are_kept_out_of_its_url() -> None:
    proxy = choose("https", "ocsp.example", 443, {"https_proxy": "http://me:p%40ss@proxy.example:1"})
    assert proxy == Proxy("http://proxy.example:1", "Basic bWU6cEBzcw==")


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_host_is_never_asked_through_a_proxy(host: str) -> None:
    assert choose("http", host, 80, SET) is None


@pytest.mark.parametrize(
    ("listed", "host", "port"),
    [
        ("*", "ocsp.example", 80),
        ("example", "ocsp.example", 80),
        (".example", "ocsp.example", 80),
        ("*.example", "ocsp.example", 80),
        ("a, OCSP.example", "ocsp.example", 80),
        ("ocsp.example:8080", "ocsp.example", 8080),
        ("10.0.0.0/8", "10.1.2.3", 80),
        ("10.1.2.3", "10.1.2.3", 80),
        ("10.1.2.3:80", "10.1.2.3", 80),
        ("fd00::/8", "fd00::1", 80),
        ("[fd00::1]:80", "fd00::1", 80),
    ],
)
def test_what_no_proxy_lists_is_asked_directly(listed: str, host: str, port: int) -> None:
    assert choose("http", host, port, SET | {"no_proxy": listed}) is None
    assert choose("http", host, port, SET | {"NO_PROXY": listed}) is None


@pytest.mark.parametrize(
    ("listed", "host", "port"),
    [
        ("xample", "ocsp.example", 80),
        ("ocsp.example:8080", "ocsp.example", 80),
        ("10.0.0.0/8", "11.1.2.3", 80),
        ("10.0.0.0/8", "ocsp.example", 80),
        (", ,", "ocsp.example", 80),
        ("b.example", "ocsp.example", 80),
    ],
)
def test_everything_else_goes_through_the_proxy(listed: str, host: str, port: int) -> None:
    assert choose("http", host, port, SET | {"no_proxy": listed}) == PROXY


@pytest.mark.parametrize("value", ["socks5://proxy.example:1080", "http://", "http://a:b:c", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_an_error_and_no_reason_to_go_without(value: str) -> None:
    with pytest.raises(RemoteError, match="the proxy in http_proxy"):
        choose("http", "ocsp.example", 80, {"http_proxy": value})
