"""attacks.md: storms of questions while everything changes, and every spelling of a name.

Small here; `python -m tests.places.storms`, or ECLCTL_TEST_STORM and ECLCTL_TEST_STORM_FILES, set other sizes.
"""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import HealthCheck, given, note, settings

from tests.places import asking, spellings, storms
from tests.places.arena import ALICE, Arena, needs_arena
from tests.places.policies import SPELLINGS, agrees

pytestmark = needs_arena

QUESTIONS = int(os.environ.get("ECLCTL_TEST_STORM", "4000"))
FILES = int(os.environ.get("ECLCTL_TEST_STORM_FILES", str(QUESTIONS)))


def test_a_storm_of_changing_places_brings_no_trusted_path_that_the_oracle_denies(arena: Arena) -> None:
    counted = storms.storm_of_places(arena, QUESTIONS)
    print("\n".join(storms.lines(counted)))
    assert sum(counted.values()) >= QUESTIONS
    assert {seen.truth for seen in counted} >= {"always trusted", "never trusted", "either"}
    assert dict(storms.wrong_places(counted)) == {}


def test_a_storm_of_threads_reloads_and_new_files_brings_no_internal_error(arena: Arena) -> None:
    counted, reloads = storms.storm_of_threads(arena, QUESTIONS, FILES)
    print(f"{reloads} reloads", *storms.lines(counted), sep="\n")
    assert sum(counted.values()) >= QUESTIONS
    assert reloads > 0
    assert dict(storms.wrong_threads(counted)) == {}


def test_a_storm_of_spellings_gives_the_answer_of_the_plain_name_or_a_deny_that_says_why(arena: Arena) -> None:
    places = spellings.prepare(arena)
    arena.start_daemon(SPELLINGS)
    plain = {name: arena.ask_as(ALICE, places.path(name)) for name in spellings.OWN}
    assert {(answer["decision"], answer["rule"]) for answer in plain.values()} == {
        ("allow", "production"),
        ("deny", "production"),
        ("deny", "secret"),
    }

    asker = arena.start(asking.ask_as_told, arena.site.check_socket, who=ALICE, channel=True)
    counted: Counter[str] = Counter()

    @settings(max_examples=QUESTIONS // 4, suppress_health_check=list(HealthCheck))
    @given(spellings.spelled(places))
    def each(file: tuple[str, str]) -> None:
        name, spelt = file[0], file[1].replace("@DAEMON@", str(arena.site.pid))
        asker.send(asking.Ask(spelt, spelt, otherwise=places.path(name)))
        answer = asker.receive()
        note(str(answer))
        same = answer.get("rule") == plain[name]["rule"] and answer["decision"] == plain[name]["decision"]
        counted["the plain name's answer" if same else "another"] += 1
        assert agrees(answer, plain[name])

    each()
    print(dict(counted))
    assert counted["the plain name's answer"] > counted["another"]
