"""Who may ask what."""

from __future__ import annotations

import os

import pytest

from eclctl.daemon.sockets.admins import Admins
from eclctl.daemon.sockets.peers import Peer
from eclctl.daemon.sockets.permissions import BY_NAME, require_permitted
from eclctl.daemon.sockets.protocol import ADMIN_ONLY, ImageRef, Method, Request, RequestError
from eclctl.model import Caller

GROUP = 4711
OTHER = os.geteuid() + 1000
USER, MEMBER = Peer(Caller(OTHER, 100, frozenset({100})), 7), Peer(Caller(OTHER, 100, frozenset({100, GROUP})), 8)
ROOT, OWN = Peer(Caller(0, 0, frozenset({0})), 9), Peer(Caller(os.geteuid(), 1, frozenset({1})), 10)
NAMED, PASSED = ImageRef("/a.sif"), ImageRef("/b.sif", fd=True)
OF_NAMES = f"1: not-permitted: {BY_NAME}"
DECIDING = (Method.CHECK, Method.CHECK_ALL, Method.EXPLAIN)
EITHER_SOCKET = pytest.mark.parametrize("admin_socket", [False, True])


def refusal(request: Request, peer: Peer, *, admin_socket: bool = False, group: int | None = GROUP) -> str | None:
    """The refusal with its request's ID and code, None when there is none."""
    try:
        require_permitted(request, peer, admin_socket=admin_socket, is_admin=Admins(group))
    except RequestError as error:
        return f"{error.id}: {error.error}: {error}"
    return None


@EITHER_SOCKET
@pytest.mark.parametrize("method", DECIDING)
def test_by_name_only_root_the_daemons_user_and_the_admin_group_may_ask(method: Method, *, admin_socket: bool) -> None:
    request = Request("1", method, (NAMED,))
    assert refusal(request, USER, admin_socket=admin_socket) == OF_NAMES
    for peer in (ROOT, OWN, MEMBER):
        assert refusal(request, peer, admin_socket=admin_socket) is None


def test_where_there_is_no_admin_group_no_user_is_in_it() -> None:
    assert refusal(Request("1", Method.CHECK, (NAMED,)), MEMBER, group=None) == OF_NAMES


@EITHER_SOCKET
@pytest.mark.parametrize("method", DECIDING)
def test_with_a_descriptor_everybody_may_ask(method: Method, *, admin_socket: bool) -> None:
    for peer in (USER, MEMBER, ROOT):
        assert refusal(Request("1", method, (PASSED,)), peer, admin_socket=admin_socket) is None


@pytest.mark.parametrize("images", [(NAMED, PASSED), (PASSED, NAMED), (PASSED, PASSED, NAMED)])
def test_one_name_among_descriptors_is_by_name(images: tuple[ImageRef, ...]) -> None:
    assert refusal(Request("1", Method.CHECK_ALL, images), USER) == OF_NAMES
    assert refusal(Request("1", Method.CHECK_ALL, images), MEMBER) is None


def test_the_refusal_says_how_to_ask() -> None:
    assert '"fd":true' in BY_NAME
    assert "eclctl check" in BY_NAME
    assert "docs/protocol.md" in BY_NAME


@pytest.mark.parametrize("method", sorted(ADMIN_ONLY))
def test_what_is_for_the_admin_socket_is_refused_on_the_other_even_to_root(method: Method) -> None:
    assert refusal(Request("1", method), ROOT) == f"1: not-permitted: `{method}` is answered on the admin socket only"
    assert refusal(Request("1", method), ROOT, admin_socket=True) is None


@EITHER_SOCKET
def test_only_root_may_ask_for_another_user(*, admin_socket: bool) -> None:
    request = Request("1", Method.CHECK, (PASSED,), subject_uid=1000)
    for peer in (USER, MEMBER):
        assert (
            refusal(request, peer, admin_socket=admin_socket) == "1: not-permitted: only root may ask for another user"
        )
    assert refusal(request, ROOT, admin_socket=admin_socket) is None
