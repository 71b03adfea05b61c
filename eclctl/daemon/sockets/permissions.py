"""Which requests a caller may make, checked for every request before the daemon looks at any file.

Rules:

1. What changes or shows the daemon's state is answered on the admin socket only.
2. Only root asks for another user.
3. Only admins ask by name (`admins`). All others open the image and pass the descriptor, so that the kernel has
   checked that they can reach and read it. The refusal is the same for every name.
4. Names are looked up with the rights of those who sent them: what they cannot see shows neither in an answer nor in
   the time that it takes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from eclctl.daemon.sockets.admins import ADMIN_GROUP
from eclctl.daemon.sockets.protocol import ADMIN_ONLY, ErrorCode, RequestError
from eclctl.files.lookup_rights import LookupRights
from eclctl.files.syscalls import Credentials, can_assume

if TYPE_CHECKING:
    from collections.abc import Callable

    from eclctl.daemon.sockets.peers import Peer
    from eclctl.daemon.sockets.protocol import Request
    from eclctl.model import Caller

BY_NAME: Final = (
    f"only root, the daemon's own user and the group {ADMIN_GROUP} may ask by name: open the image and pass its "
    'descriptor with "fd":true, as `eclctl check IMAGE` does; docs/protocol.md shows how in other languages'
)


def require_permitted(request: Request, peer: Peer, *, admin_socket: bool, is_admin: Callable[[Peer], bool]) -> None:
    """Check that a peer may ask a well-formed request.

    Args:
        request: what is asked.
        peer: who asks, as the kernel said.
        admin_socket: whether the request came by the admin socket.
        is_admin: says who may ask by name, on either socket.

    Raises:
        RequestError: `not-permitted`; the message says what to do instead.
    """
    if request.method in ADMIN_ONLY and not admin_socket:
        message = f"`{request.method}` is answered on the admin socket only"
        raise RequestError(ErrorCode.NOT_PERMITTED, message, request.id)
    if request.subject_uid is not None and peer.caller.uid != 0:
        raise RequestError(ErrorCode.NOT_PERMITTED, "only root may ask for another user", request.id)
    for image in request.images:
        if not image.fd and not is_admin(peer):
            raise RequestError(ErrorCode.NOT_PERMITTED, BY_NAME, request.id)


def asker_of(peer: Caller, subject: Caller) -> LookupRights:
    """Return whose rights names are looked up with: the asker's; where root asks for another user, then that user's.

    A daemon that is not root can look with its own rights only.
    """
    if not can_assume():
        return LookupRights(opens=peer.uid == os.geteuid())
    if peer.uid != 0:
        return LookupRights(_credentials(peer))
    return LookupRights(None, _credentials(subject)) if subject.uid != 0 else LookupRights()


def _credentials(caller: Caller) -> Credentials:
    return Credentials(caller.uid, caller.gid, caller.groups)
