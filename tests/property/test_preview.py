"""A preview is two answers of the engine: it shows every difference between them, and no other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.decide.questions import Decision
from eclctl.model import Caller
from eclctl.preview.changes import AnswerChange, compare
from tests.helpers.engines import Site
from tests.helpers.previews import record, simulate

IMAGES = (
    "one-builder+scanner+approver.sif",
    "one-builder.sif",
    "one-unsigned.sif",
    "not-a-sif.sif",
    "struct-descr-total-huge.sif",
)
NEEDS = st.sampled_from(["any_of: [builder]", "all_of: [scanner]", "approvals: {count: 1, of: anyone}"])
NUMBERS = st.lists(st.integers(1, 3).map(str), min_size=1, max_size=2, unique=True)
PATHS = st.sampled_from(["@LIBRARY@/**", "@LIBRARY@/one-b*", "/elsewhere/**"])


@st.composite
def rules(draw: st.DrawFn) -> str:
    text = "rules:\n"
    for number in range(draw(st.integers(1, 4))):
        match = [f"paths: ['{draw(PATHS)}']"]
        match += [f"{key}: {draw(NUMBERS)}" for key in ("users", "groups") if draw(st.booleans())]
        text += f"  - name: r{number}\n    match: {{{', '.join(match)}}}\n"
        if draw(st.booleans()):
            text += f"    require: [{{{draw(NEEDS)}}}]\n    mode: {draw(st.sampled_from(['enforce', 'permissive']))}\n"
        else:
            text += f"    decision: {draw(st.sampled_from(['allow', 'deny']))}\n"
    return text


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Site(Path(folder))
        for name in IMAGES:
            made.image(name, name)
        yield made
        made.close()


def asked(site: Site, name: str, caller: Caller) -> Decision:
    site.engine.flush()
    return site.ask(site.library / name, caller)


@settings(max_examples=40, deadline=None)
@given(old=rules(), new=rules(), name=st.sampled_from(IMAGES), asker=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_a_replayed_decision_changes_as_two_engines_answer(
    site: Site, old: str, new: str, name: str, asker: tuple[int, int]
) -> None:
    uid, gid = asker
    caller = Caller(uid, gid, frozenset({gid}))
    first = site.use_policy(old)
    before = asked(site, name, caller)
    second = site.use_policy(new)
    after = asked(site, name, caller)
    line = record(str(site.library / name), uid=uid, gid=gid, decision=before.verdict.value)
    result = simulate(site, first, second, [line], paths=[])
    assert result.decisions == {compare(before, after): 1}
    assert result.drifted == 0
    replayed = [entry for entry in result.top.first() if entry.users]
    assert [(entry.old.code, entry.new.code, entry.new.would) for entry in replayed] == (
        [] if compare(before, after) is AnswerChange.SAME else [(before.code, after.code, after.would)]
    )


@settings(max_examples=25, deadline=None)
@given(rules())
def test_the_same_policy_never_changes_anything(site: Site, text: str) -> None:
    result = simulate(site, site.use_policy(text), site.use_policy(text))
    assert set(result.images) <= {AnswerChange.SAME}
    assert result.top.first() == []


@settings(max_examples=40, deadline=None)
@given(old=rules(), new=rules(), uid=st.integers(1, 4), gid=st.integers(1, 4))
def test_no_caller_sees_a_change_on_an_image_that_is_reported_as_unchanged(
    site: Site, old: str, new: str, uid: int, gid: int
) -> None:
    name = IMAGES[1]
    first, second = site.use_policy(old), site.use_policy(new)
    result = simulate(site, first, second, paths=[site.library / name])
    caller = Caller(uid, gid, frozenset({gid}))
    site.engine.install(first)
    before = asked(site, name, caller)
    site.engine.install(second)
    after = asked(site, name, caller)
    seen = {(entry.old.code, entry.new.code) for entry in result.top.first()}
    if compare(before, after) is not AnswerChange.SAME:
        assert (before.code, after.code) in seen
