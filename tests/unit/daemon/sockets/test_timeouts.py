"""A connection ends when half a line, an unread answer or silence lasts too long, not while a request is decided."""

from types import SimpleNamespace

import pytest

from eclctl.daemon.sockets.connection import Connection


def connection(*, active=0.0, progress=0.0, unsent=0, in_flight=0, queued=False, partial=False):
    return SimpleNamespace(
        active=active,
        last_progress=progress,
        in_flight=in_flight,
        queued=queued,
        unsent=lambda: unsent,
        lines=SimpleNamespace(has_partial_line=lambda: partial),
    )


@pytest.mark.parametrize(
    ("changes", "now", "kind"),
    [
        ({}, 60.0, None),
        ({}, 60.1, "timeout"),
        ({"partial": True}, 10.0, None),
        ({"partial": True}, 10.1, "timeout"),
        ({"unsent": 1}, 10.0, None),
        ({"unsent": 1}, 10.1, "slow-reader"),
        ({"unsent": 1, "progress": 1.0}, 10.1, None),
        ({"unsent": 1, "active": 1.0}, 10.1, None),
        ({"in_flight": 1}, 1000.0, None),
        ({"queued": True}, 1000.0, None),
    ],
)
def test_what_takes_too_long_is_ended(changes, now, kind):
    assert Connection.timed_out(connection(**changes), now, 60.0) == kind


def test_half_a_line_may_not_outlast_a_short_idle_time_out():
    assert Connection.timed_out(connection(partial=True), 5.1, 5.0) == "timeout"
