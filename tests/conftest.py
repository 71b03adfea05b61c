"""Runs for every test: nothing is skipped unseen where everything was asked for."""

from __future__ import annotations

import os
import ssl
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.pki import Authority
from tests.helpers.site import Site
from tests.places.arena import Arena, one_at_a_time

settings.register_profile("eclctl", deadline=None)  # what is timed is timed by benchmarks
settings.load_profile("eclctl")


def pytest_configure() -> None:
    """What tests make is writable by its owner alone, as a trusted path must be, under every umask of the user."""
    os.umask(0o022)


@pytest.fixture
def site() -> Iterator[Site]:
    """A site whose daemon runs."""
    made = Site()
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def quiet_site() -> Iterator[Site]:
    """A site whose daemon does not run yet."""
    made = Site()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A mount namespace with a site in it; one such test runs at a time, however many workers there are."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers share
    with one_at_a_time(folder / "arena.lock"), Arena() as made:
        yield made


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the file of the root that it has its certificate from."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    certificate, key = authority.leaf("localhost", names=("localhost",)).write(folder, "server")
    certificate.write_bytes(certificate.read_bytes() + authority.intermediate.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, authority.root.write(folder, "root")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ECLCTL_TEST_EVERYTHING set, a test that is skipped because something is missing has failed."""
    report = yield
    if report.skipped and os.environ.get("ECLCTL_TEST_EVERYTHING") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if "needs " in reason:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: nothing may be skipped here: {reason}"
    return report
