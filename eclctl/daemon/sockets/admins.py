"""Who is an admin: root, the daemon's own user, and members of the group `eclctl`.

Admins may use the admin socket, and ask about an image by name alone. What else is asked of a request is checked in
`permissions`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from eclctl.dataclass import dataclass

if TYPE_CHECKING:
    from eclctl.daemon.sockets.peers import Peer

ADMIN_GROUP: Final = "eclctl"


@dataclass(frozen=True, slots=True)
class Admins:
    """Says whether a peer is an admin.

    `group` is the admin group's ID, None where the host has no such group.
    """

    group: int | None

    def __call__(self, peer: Peer) -> bool:
        """Return whether `peer` may use the admin socket, and ask by name."""
        caller = peer.caller
        return caller.uid in {0, os.geteuid()} or (self.group is not None and self.group in caller.groups)
