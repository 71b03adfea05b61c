"""Which ring a command of `eclctl keys` works on, and what the rings and the commands say of themselves."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

from eclctl.cli.inputs.policies import SYSTEM_CONFIG, named_settings
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.rings import UserRing, user_ring_directory
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.text import printable

SYSTEM_KEYS = "/etc/eclctl/keys.d"
"""The site's keyring where there is no configuration that names another."""


def add_ring_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a ring."""
    rings = parser.add_argument_group("which ring", "your own, unless one of these is given")
    rings.add_argument(
        "--site", "--global", action="store_true", help="the site's ring, which the daemon trusts; root changes it"
    )
    rings.add_argument("--keyring-dir", type=directory, metavar="DIR", help="the ring in this directory")
    rings.add_argument("--config", metavar="FILE", help=f"with --site: its configuration ({SYSTEM_CONFIG})")


def directory(text: str) -> str:
    """Parse a directory for a parser: an empty name, as of a variable that a script has not set, is none."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no directory")
    return text


def chosen_ring(options: argparse.Namespace) -> UserRing | SiteRing:
    """Return the ring that the options choose.

    Raises:
        KeyMaterialError: the configuration that should name it does not load, or the options name the site's as
            a user's own.
    """
    if options.site:
        return SiteRing([options.keyring_dir]) if options.keyring_dir else site_ring(options.config)
    if options.config is not None:
        raise KeyMaterialError("--config names the site's keyrings: add --site")
    return user_ring(options.keyring_dir)


def user_ring(named: str | None) -> UserRing:
    """Return a user's ring: the one in a directory, or without one that at its usual place.

    Raises:
        KeyMaterialError: the directory is the site's, where other rules say how a key gets in.
    """
    if named is None:
        return UserRing(user_ring_directory(os.environ))
    if os.path.realpath(named) == os.path.realpath(SYSTEM_KEYS):
        raise KeyMaterialError(f"{named} is the site's ring: say --site instead of --keyring-dir")
    return UserRing(os.path.abspath(named))


def site_ring(config: str | None) -> SiteRing:
    """Return the keyrings that a configuration names; the default is the system's, and needs none.

    Raises:
        KeyMaterialError: it does not load.
    """
    if config is None and not os.path.lexists(SYSTEM_CONFIG):
        return SiteRing([SYSTEM_KEYS])
    return SiteRing(named_settings(config or SYSTEM_CONFIG, KeyMaterialError).keyrings or [SYSTEM_KEYS])


def ring_location(ring: UserRing | SiteRing, *, secret: bool = False) -> str:
    """Return where the keys of a ring are, printable."""
    if isinstance(ring, SiteRing):
        return printable(", ".join(ring.paths))
    return printable(ring.secret_path if secret else ring.public_path)


def remind_of_reload(ring: UserRing | SiteRing, *, changed: bool) -> None:
    """Say that a daemon does not know yet what has changed in the site's ring, a revocation perhaps."""
    if changed and isinstance(ring, SiteRing):
        print("A daemon knows of it from its next reload: eclctl reload", file=sys.stderr)


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings beside the output."""
    for line in lines:
        print(f"WARNING: {printable(line)}", file=sys.stderr)
