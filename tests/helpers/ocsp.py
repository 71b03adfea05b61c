"""Waiting for an OCSP cache in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eclctl.remote.ocsp.cache import OcspCache
from eclctl.trust.revocation import Link


async def ready(cache: OcspCache, links: Sequence[Link]) -> None:
    """Do as `OcspCache.wait`, and return when it would call back."""
    told = asyncio.Event()
    cache.wait(links, told.set)
    await told.wait()
