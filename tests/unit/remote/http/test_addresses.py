"""Which addresses a redirect may lead to."""

from __future__ import annotations

import pytest

from eclctl.remote.http.addresses import why_refused


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("0.1.2.3", "reserved"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::7f00:1", "reserved"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("localhost", "no numeric address"),
        ("", "no numeric address"),
    ],
)
def test_a_redirect_never_leads_to_this_host_or_to_what_is_beside_it(address: str, why: str) -> None:
    assert why in (why_refused(address) or "")


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "192.168.0.1", "192.0.2.1", "8.8.8.8", "2001:4860::8", "fd00::1", "64:ff9b::808:808"]
)
def test_a_redirect_may_lead_to_another_host_of_the_site_or_of_the_internet(address: str) -> None:
    assert why_refused(address) is None
