"""The cache of OCSP answers watches the certificates of the snapshot in force, and those only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from eclctl.daemon.revocation import ocsp_watchlist
from eclctl.daemon.revocation.ocsp_watchlist import OcspWatchlist
from eclctl.signature import openpgp
from eclctl.trust.keyring import KeyStore
from eclctl.trust.revocation import Link
from eclctl.trust.x509 import Credential, load_credential
from tests.helpers.pki import Authority
from tests.helpers.site import PATIENCE

AUTHORITY = Authority()


def credential(*, ocsp: bool = True, authority: Authority = AUTHORITY, name: str = "leaf") -> Credential:
    leaf = authority.leaf(name)
    return load_credential(leaf.pem, [authority.intermediate.pem], [AUTHORITY.root.pem], ocsp=ocsp)


class Cache:
    """Remembers what it was told to watch."""

    def __init__(self) -> None:
        self.watched: asyncio.Queue[list[str]] = asyncio.Queue()

    def watch(self, links: Iterable[Link]) -> None:
        names = [link.certificate.subject.rfc4514_string().removeprefix("CN=") for link in links]
        self.watched.put_nowait(sorted(names))


class Site:
    def __init__(self, *credentials: Credential) -> None:
        self.now = datetime.now(UTC)
        self.cache = Cache()
        self.engine = SimpleNamespace(snapshot=None)
        self.install(*credentials)
        self.watchlist = OcspWatchlist(self.engine, self.cache, lambda: self.now)  # type: ignore[arg-type]

    def install(self, *credentials: Credential) -> None:
        store = KeyStore.of(openpgp.Keyring.parse(), credentials=credentials)
        self.engine.snapshot = SimpleNamespace(store=store)

    async def watched(self) -> list[str]:
        async with asyncio.timeout(PATIENCE):
            return await self.cache.watched.get()


def test_every_certificate_but_the_root_is_watched_where_ocsp_is_required() -> None:
    async def main() -> list[str]:
        site = Site(credential(name="a"), credential(name="b"), credential(name="c", ocsp=False))
        site.watchlist.refresh()
        found = await site.watched()
        site.watchlist.stop()
        return found

    assert asyncio.run(main()) == ["a", "b", "intermediate"]


def test_what_leads_to_no_trusted_root_is_asked_nowhere() -> None:
    async def main() -> list[str]:
        site = Site(credential(authority=Authority(), name="stranger"))
        site.watchlist.refresh()
        found = await site.watched()
        site.watchlist.stop()
        return found

    assert asyncio.run(main()) == []


def test_a_new_snapshot_during_the_search_is_searched_too() -> None:
    async def main() -> list[str]:
        site = Site(credential(name="old"))
        for _ in range(5):
            site.watchlist.refresh()
        site.install(credential(name="new"))
        await site.watched()
        found = await site.watched()
        assert site.cache.watched.empty()
        site.watchlist.stop()
        return found

    assert asyncio.run(main()) == ["intermediate", "new"]


def test_certificates_that_become_valid_or_expire_are_noticed_without_a_reload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ocsp_watchlist, "INTERVAL", 0.01)

    async def main() -> None:
        site = Site(credential())
        site.watchlist.refresh()
        assert await site.watched() == ["intermediate", "leaf"]
        site.now += timedelta(days=1000)
        while await site.watched():
            pass
        site.watchlist.stop()

    asyncio.run(main())


def test_a_bug_leaves_what_is_watched_as_it_is() -> None:
    async def main() -> None:
        site = Site(credential())
        site.engine.snapshot = None
        site.watchlist.refresh()
        site.watchlist.refresh()
        await asyncio.to_thread(lambda: None)
        site.install(credential())
        site.watchlist.refresh()
        assert await site.watched() == ["intermediate", "leaf"]
        site.watchlist.stop()

    asyncio.run(main())
