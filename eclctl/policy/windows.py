"""Time windows of rules: `mon-fri 08:00-18:00 Europe/Zurich`.

Days and hours are those of a wall clock in the stated zone. A window is half-open: it holds from its first time on, and
no more at its last. One that ends at or before its beginning (`22:00-06:00`) goes on into the next day, and the day
that is listed is the one on which it begins. Where clocks are set forward, the hour that is skipped is in no window;
where they are set back, the hour that comes twice is in its windows both times. The zone's rules are read when the
policy loads.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo

from eclctl.config.document import WrongTextError
from eclctl.dataclass import dataclass, field

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?P<days>[a-z,-]+) (?P<start>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2}) (?P<zone>[\w./+-]+)")
_SHAPE = "write days, hours and zone: mon-fri 08:00-18:00 Europe/Zurich"
_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """Weekdays (0 is Monday) and minutes of the day, from `start` up to but not including `end`, in a zone."""

    text: str
    days: frozenset[int]
    start: int
    end: int
    zone: tzinfo = field(compare=False)

    def holds(self, now: datetime) -> bool:
        """Tell whether an instant (aware) is in the window."""
        local = now.astimezone(self.zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


def parse_window(text: str) -> Window:
    """Read a window.

    Raises:
        WrongTextError: It is none, or its zone is not known on this host; the message begins with a verb.
    """
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise WrongTextError("is no time window", _SHAPE)
    start = _minute(found["start"])
    if start == _DAY:
        raise WrongTextError("begins at 24:00", "write 00:00, and the day after")
    return Window(text, _days(found["days"]), start, _minute(found["end"]), _zone(found["zone"]))


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        for word in (first, last or first):
            if word not in _DAYS:
                raise WrongTextError(f"has the day {word!r}", f"days are {', '.join(_DAYS)}, alone or as mon-fri")
        begin, length = _DAYS.index(first), (_DAYS.index(last or first) - _DAYS.index(first)) % 7
        days.update((begin + n) % 7 for n in range(length + 1))
    return frozenset(days)


def _minute(text: str) -> int:
    minute = int(text[:2]) * 60 + int(text[3:])
    if minute > _DAY or int(text[3:]) > 59:  # noqa: PLR2004 - minutes of an hour
        raise WrongTextError(f"has the time {text}", "times are from 00:00 to 24:00")
    return minute


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - few policies have windows

        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such file, no name of one, a directory
        hint = "use UTC or a name of the time zone database, such as Europe/Zurich"
        raise WrongTextError(f"names the time zone {name!r}, which this host does not know", hint) from None
