"""The user's own key ring: certificates and secret keys in files that are nobody else's."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["PUBLIC", "SECRET", "user_ring_directory"]

PUBLIC, SECRET = "pgp-public", "pgp-secret"
"""The files of a ring, named and laid out as SingularityCE's are: binary keys, one after the other."""


def user_ring_directory(environ: Mapping[str, str]) -> str:
    """Return where a user's ring is: $ECLCTL_KEYS, or eclctl/keys in $XDG_DATA_HOME, by default ~/.local/share."""
    if named := environ.get("ECLCTL_KEYS"):
        return os.path.abspath(named)
    data = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # the XDG base directory specification: a relative path is ignored
        home = environ.get("HOME") or os.path.expanduser("~")
        data = os.path.join(home, ".local", "share")
    return os.path.join(data, "eclctl", "keys")
