"""Time windows: half-open, by the wall clock of their zone, through the night and through changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from eclctl.policy.windows import parse_window

SECOND = timedelta(seconds=1)
ZURICH = ZoneInfo("Europe/Zurich")


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).astimezone(UTC)


@pytest.mark.parametrize(
    ("window", "first", "last"),
    [
        ("mon-fri 08:00-18:00 UTC", "2026-11-23T08:00", "2026-11-23T18:00"),  # a Monday
        ("mon 00:00-24:00 UTC", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("mon 00:00-00:00 UTC", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("sun 22:00-06:00 UTC", "2026-11-22T22:00", "2026-11-23T06:00"),
        ("sat-sun 22:00-06:00 UTC", "2026-11-22T22:00", "2026-11-23T06:00"),
        ("tue,mon 12:00-12:01 UTC", "2026-11-23T12:00", "2026-11-23T12:01"),
        ("sun-mon 12:00-12:01 UTC", "2026-11-23T12:00", "2026-11-23T12:01"),
        ("mon 08:00-18:00 Asia/Tokyo", "2026-11-22T23:00", "2026-11-23T09:00"),
        ("mon 18:00-08:00 Pacific/Auckland", "2026-11-23T05:00", "2026-11-23T19:00"),
    ],
)
def test_a_window_holds_from_its_first_instant_to_just_before_its_last(window: str, first: str, last: str) -> None:
    made, begin, end = parse_window(window), at(first), at(last)
    assert [made.holds(when) for when in (begin - SECOND, begin, end - SECOND, end)] == [False, True, True, False]


@pytest.mark.parametrize(("day", "holds"), [(22, False), (23, True), (27, True), (28, False), (29, False)])
def test_days_are_those_that_are_listed(day: int, holds: bool) -> None:
    assert parse_window("mon-fri 08:00-18:00 UTC").holds(datetime(2026, 11, day, 12, tzinfo=UTC)) is holds


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    night = parse_window("fri 22:00-06:00 UTC")
    assert night.holds(at("2026-11-27T23:00"))
    assert night.holds(at("2026-11-28T05:59"))
    assert not night.holds(at("2026-11-27T05:59"))
    assert not night.holds(at("2026-11-28T22:00"))


def test_hours_are_those_of_the_wall_clock_in_summer_and_in_winter() -> None:
    window = parse_window("mon-sun 08:00-18:00 Europe/Zurich")
    assert window.holds(at("2026-01-15T07:00"))
    assert not window.holds(at("2026-01-15T06:59"))
    assert window.holds(at("2026-07-15T06:00"))
    assert not window.holds(at("2026-07-15T16:00"))


def test_an_hour_that_clocks_skip_is_in_no_window() -> None:
    """On 2026-03-29, 02:00 to 03:00 does not exist in Zurich."""
    window = parse_window("sun 02:00-03:00 Europe/Zurich")
    start = at("2026-03-29T00:00")
    assert not any(window.holds(start + minutes * timedelta(minutes=1)) for minutes in range(24 * 60))


def test_an_hour_that_comes_twice_is_in_its_window_both_times() -> None:
    """On 2026-10-25, 02:00 to 03:00 comes twice in Zurich."""
    window = parse_window("sun 02:00-03:00 Europe/Zurich")
    start = at("2026-10-25T00:00")
    assert sum(window.holds(start + minutes * timedelta(minutes=1)) for minutes in range(24 * 60)) == 120
    twice = datetime(2026, 10, 25, 2, 30, tzinfo=ZURICH)
    assert window.holds(twice.replace(fold=0).astimezone(UTC))
    assert window.holds(twice.replace(fold=1).astimezone(UTC))
