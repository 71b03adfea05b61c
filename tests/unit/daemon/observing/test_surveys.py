"""Surveys: bounded, gone on with, begun again when anything has changed, and never without an answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.daemon.observing.surveys import Surveyor, page
from eclctl.decide.facts import Facts
from eclctl.files.locating import FileKey
from tests.helpers.engines import Site
from tests.helpers.support import NOW

HALF, FULL = "one-builder.sif", "one-builder+scanner+approver.sif"
ELSEWHERE = 999_999  # the device of files that are not looked for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def known(site: Site, name: str) -> Path:
    path = site.image(name, name)
    assert site.engine.prefetch(str(path)).status == "kept"
    return path


def fill(site: Site, count: int) -> None:
    """Let the engine keep the facts of many images."""
    known(site, HALF)
    facts = site.engine.cache.kept()[0].facts
    for number in range(count):
        key = FileKey(ELSEWHERE, number, None, 1, 1, 1)
        copy = Facts(facts.store, facts.verification, facts.error, facts.digested)
        site.engine.cache.put(key, copy, f"{site.library}/{number:04}.sif")


def surveyor(site: Site) -> Surveyor:
    return Surveyor(site.engine, lambda: NOW)


def test_a_survey_without_time_goes_on_the_next_time_until_it_has_seen_all(site: Site) -> None:
    site.engine.cache._capacity = 1000
    fill(site, 95)
    found = surveyor(site)._begin((1, 0, 0))
    steps = 0
    while not found.complete:
        before = found.counted
        found.continue_until(lambda _: True, deadline=0.0)
        assert 0 < found.counted - before <= 10
        steps += 1
    assert steps == 10
    assert (found.kept, found.survey.images.pending) == (96, 96)


def test_it_is_used_again_until_an_image_key_or_policy_changes(site: Site) -> None:
    known(site, HALF)
    asked = surveyor(site)
    first = asked.survey()
    assert asked.survey() is first
    known(site, FULL)
    second = asked.survey()
    assert second is not first
    assert (second.survey.images.approved, second.survey.images.pending) == (1, 1)
    site.use_policy("rules: [{name: open, match: {paths: ['@LIBRARY@/**']}, decision: allow}]\n")
    assert asked.survey().survey.images.approved == 2


def test_what_is_no_longer_there_or_is_another_file_is_not_counted(site: Site) -> None:
    gone, replaced = known(site, HALF), known(site, FULL)
    gone.unlink()
    os.replace(site.image("other", HALF), replaced)
    found = surveyor(site).survey()
    assert (found.counted, found.gone, found.survey.images.approved, found.survey.images.pending) == (2, 2, 0, 0)
    assert surveyor(site).images("", 10)[1] == []


def test_pages_of_images_are_in_the_order_of_their_names_and_end(site: Site) -> None:
    site.engine.cache._capacity = 1000
    fill(site, 25)
    asked, after, seen = surveyor(site), "", []
    while after is not None:
        _, items, after = asked.images(after, 7)
        seen += [os.path.basename(item["path"]) for item in items]
    assert seen == [*(f"{number:04}.sif" for number in range(25)), HALF]


def test_a_survey_that_fails_is_answered_with_nothing_and_reported(site: Site) -> None:
    bugs: list[BaseException] = []
    site.engine.on_bug = bugs.append

    async def ask() -> object:
        answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        surveyor(site).request(lambda: 1 // 0, answered.set_result)
        return await answered

    assert asyncio.run(ask()) is None
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


def test_an_answer_that_comes_late_is_not_given_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eclctl.daemon.observing.surveys.PATIENCE", 0.0)
    answers: list[object] = []

    async def ask() -> None:
        loop, asked = asyncio.get_running_loop(), surveyor(site)
        held, late, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        def told(result: object) -> None:
            answers.append(result)
            late.set()

        asked.request(lambda: asyncio.run_coroutine_threadsafe(held.wait(), loop).result(), told)
        await late.wait()
        held.set()
        asked.request(lambda: loop.call_soon_threadsafe(done.set), lambda _: None)
        await done.wait()

    asyncio.run(ask())
    assert answers == [None]


@pytest.mark.parametrize(
    ("after", "items", "following"), [("", [0, 1], "2"), ("2", [2, 3], "4"), ("4", [4], None), ("9", [], None)]
)
def test_a_list_is_paged_by_position(after: str, items: list[int], following: str | None) -> None:
    assert page(range(5), after, 2) == (items, following)


@pytest.mark.parametrize("after", ["x", "-1", "٣", "1.5"])
def test_a_position_that_is_none_is_the_beginning(after: str) -> None:
    assert page(range(5), after, 2) == ([0, 1], "2")


def test_a_very_long_number_is_a_position_beyond_every_list() -> None:
    assert page(range(5), "9" * 4000, 2) == ([], None)
