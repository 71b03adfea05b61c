"""A request times out: what a caller gets when a decision takes too long.

A caller waits at most `limits.request_timeout` seconds. Then each image of the call that is not decided yet is denied
with code `timeout`. Work in threads goes on as long as another call waits for it, and its result serves later calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eclctl.daemon.background.timers import Timer
from eclctl.model import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from eclctl.daemon.decisions.call_state import CheckCall, ImageCheck

MESSAGE: Final = "the image could not be examined in time; ask again, it may be done by then"


def start_timeout(call: CheckCall, seconds: float, deny: Callable[[ImageCheck, Code, str], None]) -> None:
    """Deny in so many seconds what is not decided of a call by then. `call.deadline` ends it.

    Args:
        call: the call.
        seconds: how long its caller waits.
        deny: decides one image, with a code and a reason.
    """

    def expire() -> None:
        for check in call.checks:
            if not check.done:
                deny(check, Code.TIMEOUT, MESSAGE)

    call.deadline = Timer(expire)
    call.deadline.set(seconds)
