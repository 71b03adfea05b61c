"""What a simulation found, for people and as JSON."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from eclctl.cli.terminal.output import wrapped
from eclctl.dataclass import asdict, dataclass
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Code
from eclctl.preview.callers import Probe
from eclctl.preview.changes import AnswerChange, ChangedImage, PolicyAnswer, UnmetRequirement
from eclctl.preview.records import History
from eclctl.preview.replay import ReplayResult
from eclctl.terms import Verdict
from eclctl.text import counted, json_text, printable

_WIDTH = 80
_LABEL = 11
_MOST_NEEDS = 4
_MOST_USERS = 5
_MOST_PROBES = 4
_MOST_UNREAD = 5
_TITLES = {
    AnswerChange.SAME: "unchanged",
    AnswerChange.STOPPED: "allow -> deny",
    AnswerChange.FREED: "deny -> allow",
    AnswerChange.WOULD: "allowed; what would be denied changes",
    AnswerChange.CODE: "another code, same decision",
}


@dataclass(frozen=True, slots=True)
class Simulation:
    """A candidate beside today's policy, each with what it was named. `unread` says what could not be read, and why."""

    today: tuple[str, Snapshot]
    candidate: tuple[str, Snapshot]
    history: History
    result: ReplayResult
    now: datetime
    unread: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there was nothing to compare."""
        result = self.result
        return not (result.images.total() or self.history.decisions or result.unjudged_images or self.unread)

    @property
    def incomplete(self) -> bool:
        """Whether something was left out that could have flipped."""
        result = self.result
        return bool(result.unjudged_images or result.coarse_images or self.history.left_out or self.unread)


def simulation_lines(made: Simulation) -> Iterator[str]:
    """Yield the lines for people, 80 columns wide but for paths."""
    for label, (name, snapshot) in (("today", made.today), ("candidate", made.candidate)):
        digest = "not written" if snapshot.digest is None else snapshot.digest[: len("sha256:") + 16]
        yield from wrapped(f"{label:{_LABEL}}{printable(name)} ({digest})", later=" " * _LABEL)
    yield ""
    yield from _counts(made.result)
    notes = list(_notes(made))
    if notes:
        yield ""
    for note in notes:
        yield from wrapped(note, later="  ")
    entries = made.result.top.first()
    heading = None
    for entry in entries:
        if entry.change is not heading:
            heading = entry.change
            yield ""
            yield f"{_TITLES[heading]}:"
        yield from _entry(entry)
    left = made.result.top.counts.total() - len(entries)
    if not entries:
        yield ""
        yield "No answer changes."
    if left:
        yield ""
        yield f"{left} more; --limit 0 lists all"


def _counts(result: ReplayResult) -> Iterator[str]:
    yield f"{'':38}{'images':>10}{'decisions':>12}{'users':>8}"
    for change in (AnswerChange.SAME, AnswerChange.STOPPED, AnswerChange.FREED, AnswerChange.WOULD, AnswerChange.CODE):
        users = len(result.users.get(change, ()))
        yield f"{_TITLES[change]:38}{result.images[change]:>10}{result.decisions[change]:>12}{users:>8}"


def _notes(made: Simulation) -> Iterator[str]:
    history = made.history
    if history.decisions:
        yield (
            f"{counted(history.decisions, 'decision')} recorded "
            f"from {_short(history.first)} to {_short(history.last)}. "
            "Images, keys, users' groups and the time are taken as they are now."
        )
    yield from (f"{counted(number, noun)} {text}" for number, noun, text in _not_asked(made) if number)
    yield from (f"INCOMPLETE: {text}" for text in _left_out(made))
    yield from (f"  {printable(path)}: {printable(why)}" for path, why in made.result.unjudged.items())


def _not_asked(made: Simulation) -> Iterator[tuple[int, str, str]]:
    """Yield what is no reason for doubt: a number of things, and what became of them."""
    result, history = made.result, made.history
    images = counted(result.gone_images, "image")
    yield result.drifted, "decision", "would come out otherwise today already: something has changed since."
    yield result.gone, "decision", f"on {images} no longer there: not asked again."
    yield history.unplaced, "decision", "without a path that led to the image: not asked again."
    yield len(result.unknown_users), "user", "unknown to this host: in no group but the recorded one."
    yield history.broken, "line", "of the log that cannot be read as a record: left out."
    yield result.files, "file", "that no rule is about: not counted."


def _left_out(made: Simulation) -> Iterator[str]:
    """Yield what could have flipped unseen."""
    result, history = made.result, made.history
    if history.left_out:
        yield f"{counted(history.left_out, 'decision')} left out: there are too many different ones. Use --since."
    yield from map(printable, made.unread[:_MOST_UNREAD])
    if len(made.unread) > _MOST_UNREAD:
        yield f"{len(made.unread) - _MOST_UNREAD} more of them"
    if result.coarse_images:
        images = counted(result.coarse_images, "image")
        yield f"{images} with rules for too many groups: not all who are in several of them were asked for."
    if result.unjudged_images:
        decisions = counted(result.unjudged_decisions, "decision")
        yield f"{counted(result.unjudged_images, 'image')} with {decisions} could not be read now:"


def _entry(entry: ChangedImage) -> Iterator[str]:
    yield f"  {printable(entry.path)}"
    yield from _answer("today", entry.old)
    yield from _answer("candidate", entry.new)
    label, needs = _needs(entry)
    for need in needs[:_MOST_NEEDS]:
        yield from _field(label, need.text, need.where)
    if _by_reason(entry.new):
        yield from _field("because", entry.new.reason)
    elif _by_reason(entry.old):
        yield from _field("because", entry.old.reason)
    yield from _field("for", _who(entry))


def _answer(label: str, answer: PolicyAnswer) -> Iterator[str]:
    would = "" if answer.would is None else f", would be {answer.would}"
    by = "" if answer.rule is None else f", rule {printable(answer.rule)}"
    yield from _field(label, f"{answer.verdict} {answer.code}{would}{by}", answer.where)


def _needs(entry: ChangedImage) -> tuple[str, tuple[UnmetRequirement, ...]]:
    """Return the requirements that made the difference: those that the side which denies found not to be met."""
    if entry.change is AnswerChange.FREED or (entry.change is AnswerChange.WOULD and entry.new.would is None):
        return "lacked", entry.old.unmet
    return "lacks", entry.new.unmet


def _by_reason(answer: PolicyAnswer) -> bool:
    """Whether an answer is a deny that unmet requirements do not explain."""
    return answer.verdict is Verdict.DENY and answer.code is not Code.REQUIREMENTS_NOT_MET


def _field(label: str, text: str, where: str | None = None) -> Iterator[str]:
    """Yield a labelled field. A place is not broken, however long it is: without room it gets a line of its own."""
    start, rest = f"    {label:{_LABEL}}", " " * (4 + _LABEL)
    place = "" if where is None else f" ({printable(where)})"
    text = printable(text)
    if place and len(start) + len(text) + len(place) <= _WIDTH:
        yield f"{start}{text}{place}"
        return
    yield from wrapped(f"{start}{text}", later=rest)
    if place:
        yield f"{rest}{place.strip()}"


def _who(entry: ChangedImage) -> str:
    parts = [_probe(each) for each in entry.probes[:_MOST_PROBES]]
    if len(entry.probes) > _MOST_PROBES:
        parts.append(f"{len(entry.probes) - _MOST_PROBES} others that rules name")
    if entry.users:
        named = ", ".join(_user(uid) for uid in sorted(entry.users)[:_MOST_USERS])
        more = ", ..." if len(entry.users) > _MOST_USERS else ""
        parts.append(
            f"{counted(len(entry.users), 'user')} ({named}{more}) of {counted(entry.decisions, 'decision')}, "
            f"last {_short(entry.last)}"
        )
    return "; ".join(parts)


def _probe(probe: Probe) -> str:
    if probe.everybody:
        return "everybody"
    if not probe.groups:
        return "a user that no rule names" if probe.user is None else f"user {_user(probe.user)}"
    who = "" if probe.user is None else f"user {_user(probe.user)} in "
    return f"{who}group {' and '.join(map(_group, probe.groups))}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return str(gid)


def _short(time: str | None) -> str:
    """Return a recorded time to the minute, in UTC."""
    if time is None:
        return "never"
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def simulation_as_json(made: Simulation) -> dict[str, Any]:
    """Return the JSON object."""
    result, history = made.result, made.history
    entries = result.top.first()
    return {
        "flips": result.flips,
        "incomplete": made.incomplete,
        "at": made.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "today": {"name": json_text(made.today[0]), "policy": made.today[1].digest},
        "candidate": {"name": json_text(made.candidate[0]), "policy": made.candidate[1].digest},
        "images": _tally({change: result.images[change] for change in AnswerChange})
        | {"unjudged": result.unjudged_images, "files": result.files},
        "decisions": _tally({change: result.decisions[change] for change in AnswerChange})
        | {
            "unjudged": result.unjudged_decisions,
            "gone": result.gone,
            "unplaced": history.unplaced,
            "left_out": history.left_out,
            "drifted": result.drifted,
            "first": history.first,
            "last": history.last,
        },
        "users": _tally({change: len(result.users.get(change, ())) for change in AnswerChange}),
        "gone_images": result.gone_images,
        "coarse_images": result.coarse_images,
        "unjudged": [{"image": json_text(path), "reason": json_text(why)} for path, why in result.unjudged.items()],
        "unknown_users": sorted(result.unknown_users),
        "broken_lines": history.broken,
        "unread": [json_text(each) for each in made.unread],
        "changes": [_change(entry) for entry in entries],
        "not_listed": result.top.counts.total() - len(entries),
    }


def _tally(counts: dict[AnswerChange, int]) -> dict[str, Any]:
    return {change.value.replace("-", "_"): count for change, count in counts.items()}


def _change(entry: ChangedImage) -> dict[str, Any]:
    return {
        "image": json_text(entry.path),
        "kind": entry.kind,
        "change": entry.change,
        "old": _answer_shape(entry.old),
        "new": _answer_shape(entry.new),
        "users": sorted(entry.users),
        "decisions": entry.decisions,
        "last": entry.last,
        "callers": [{"user": probe.user, "groups": list(probe.groups)} for probe in entry.probes],
    }


def _answer_shape(answer: PolicyAnswer) -> dict[str, Any]:
    return {
        "decision": answer.verdict,
        "code": answer.code,
        "would": answer.would,
        "rule": answer.rule,
        "rule_where": None if answer.where is None else json_text(answer.where),
        "reason": json_text(answer.reason),
        "unmet": [asdict(need) | {"where": json_text(need.where)} for need in answer.unmet],
    }
