"""The answer to `status` as a page for a terminal: 80 columns, no colour, what is wrong before what is well."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eclctl.cli.terminal.output import wrapped
from eclctl.text import counted, duration_in_words, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_RULES = 12
_KEYS = 6
_PROBLEMS = 5
_OVERLAPS = 3
_INDENT = " " * 12


def status_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The result of `status` for a person, its texts made safe for a terminal."""
    up = duration_in_words(result["uptime"])
    yield f"eclctl {_text(result['version'])}, process {result['pid']}, since {time_text(result['started'])} ({up})"
    if result["policy_loaded"]:
        yield f"policy      generation {result['generation']}, loaded {time_text(result['loaded_at'])}"
        yield f"    {_text(result['policy'])}"
    else:
        yield "policy      NONE: every image is denied"
    yield from _attention_lines(result.get("attention") or ())
    yield from load_lines(result.get("last_reload") or {})
    yield from _rule_lines(result["rules"])
    yield from _image_lines(result["images"])
    yield from _exception_lines(result.get("exceptions") or ())
    yield from _key_lines(result["expiring"])
    yield from _ocsp_lines(result["ocsp"])
    yield from _keyserver_lines(result.get("keyservers") or {})
    yield from _subid_lines(result.get("subordinate_ids") or {})
    yield from _work_lines(result)
    yield from _watch_lines(result["watch"].get("trees") or [])


def _text(value: object) -> str:
    return "none" if value is None else printable(str(value))


def time_text(time: object) -> str:
    """A time of the daemon's, in whole seconds of UTC."""
    try:
        return datetime.fromisoformat(str(time)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return "never" if time is None else _text(time)


def _attention_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        yield "attention   nothing: all is well"
        return
    yield f"ATTENTION   {counted(len(found), 'thing')} to look at"
    for each in found[:_PROBLEMS]:
        yield from wrapped(_text(each["message"]), "  ! ", "    ")
    if len(found) > _PROBLEMS:
        yield f"  and {len(found) - _PROBLEMS} more: eclctl status --json | jq '.attention'"


def load_lines(last: Mapping[str, Any]) -> Iterator[str]:
    """What the last load of policy and keys had to say."""
    if last and not last.get("ok"):
        yield f"last load   FAILED at {time_text(last.get('at'))}"
    for kind in ("error", "warning"):
        problems = last.get(f"{kind}s") or ()
        for problem in problems[:_PROBLEMS]:
            yield f"  {kind}: {_text(problem)}"
        if len(problems) > _PROBLEMS:
            yield f"  and {len(problems) - _PROBLEMS} more: eclctl policy check"


def _rule_lines(rules: Mapping[str, Any]) -> Iterator[str]:
    """A table of the rules; the name, which has any length, comes last."""
    if not rules["total"]:
        return
    yield f"rules       {rules['total']}; decisions since {time_text(rules['since'])}, and images as they stand"
    yield "   ALLOW   DENY  WOULD DENY | APPROVED PENDING DENIED | RULE"
    shown = _most_telling(rules["listed"])
    for rule in shown:
        name = _text(rule["name"]) + (" (permissive)" if rule["mode"] == "permissive" else "")
        yield _row(rule, rule["images"], name)
    if rules["no_rule"]["deny"]:
        yield _row(rules["no_rule"], {}, "(no rule)")
    if len(shown) < rules["total"]:
        yield f"  and {rules['total'] - len(shown)} more: eclctl report --html FILE shows them all"


def _most_telling(rules: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """As many as fit: those under which most is denied or pending go first, and the policy's order stays."""
    if len(rules) <= _RULES:
        return list(rules)

    def weight(rule: Mapping[str, Any]) -> tuple[int, int]:
        images = rule["images"]
        return -(rule["deny"] + rule["would_deny"] + images["pending"] + images["denied"]), -rule["allow"]

    chosen = {id(rule) for rule in sorted(rules, key=weight)[:_RULES]}
    return [rule for rule in rules if id(rule) in chosen]


def _row(decided: Mapping[str, int], images: Mapping[str, int], name: str) -> str:
    left = f"{_number(decided['allow']):>8}{_number(decided['deny']):>7}{_number(decided['would_deny']):>12}"
    stands = [_number(images.get(stand, 0)) for stand in ("approved", "pending", "denied")]
    return f"{left} |{stands[0]:>9}{stands[1]:>8}{stands[2]:>7} | {name}"


def _number(number: int) -> str:
    """A count in at most six places; none is a dash, so that what is there stands out."""
    if number >= 10**6:
        return f"{number / 10**6:.1f}M" if number < 10**8 else f"{number // 10**6}M"
    return str(number) if number else "-"


def _image_lines(images: Mapping[str, Any] | None) -> Iterator[str]:
    if images is None:
        yield "images      there was no time to look at them; ask again"
        return
    number = images["approved"] + images["pending"] + images["denied"]
    stands = ", ".join(f"{images[stand]} {stand}" for stand in ("approved", "pending", "denied"))
    yield f"images      {number} known: {stands}"
    if images["outdated"]:
        yield f"{_INDENT}{images['outdated']} more are to be verified again, with other keys"
    if not images["complete"]:
        yield f"{_INDENT}only {images['counted']} of {images['kept']} were looked at, for lack of time"


def _exception_lines(exceptions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Those that allow something now are named; of the others it is enough to know that there are some."""
    if not exceptions:
        return
    states = [each["state"] for each in exceptions]
    words = ", ".join(f"{states.count(state)} {_text(state)}" for state in dict.fromkeys(states))
    yield f"exceptions  {words}"
    active = [each for each in exceptions if each["state"] == "active"]
    for each in active[:_KEYS]:
        yield f"  until {_text(each['ends'])[:16]}Z  {_text(each['name'])}: {_text(each['reason'])}"
    if len(active) > _KEYS:
        yield f"  and {len(active) - _KEYS} more: eclctl status --json | jq '.exceptions'"


def _key_lines(keys: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    if keys is None:
        return
    if not keys:
        yield "keys        none expires within 30 days"
        return
    yield f"keys        {len(keys)} to expire within 30 days, or expired within the last 30"
    yield "  ENDS        IN DAYS  IMAGES  KEY                OF"
    for key in keys[:_KEYS]:
        days = "EXPIRED" if key["days"] < 0 else str(key["days"])
        short = _text(key["short"]).removeprefix("sha256:")
        who = ", ".join(_text(name) for name in key["signers"]) or _text(key["title"])
        yield f"  {_text(key['ends'])[:10]:<11} {days:>7}  {key['images']:>6}  {short:<18} {who}"
    if len(keys) > _KEYS:
        yield f"  and {len(keys) - _KEYS} more: eclctl status --json | jq '.expiring'"


def _ocsp_lines(ocsp: Mapping[str, Any]) -> Iterator[str]:
    statuses = {name: number for name, number in ocsp["statuses"].items() if number}
    if not statuses:
        yield "ocsp        no certificate has to be asked about"
        return
    words = ", ".join(f"{number} {'not known' if name == 'none' else _text(name)}" for name, number in statuses.items())
    soonest = ocsp["soonest_expiry_seconds"]
    runs_out = "" if soonest is None else f"; the first runs out in {duration_in_words(max(0.0, soonest))}"
    yield f"ocsp        {counted(sum(statuses.values()), 'certificate')}: {words}{runs_out}"


def _keyserver_lines(keyservers: Mapping[str, Any]) -> Iterator[str]:
    servers = keyservers.get("servers")
    if servers is None:
        return
    if not servers:
        yield "keyservers  none: revocations are what the keyrings say"
        return
    unanswered = keyservers["unanswered"]
    yield f"keyservers  {counted(len(servers), 'server')}, asked about {counted(keyservers['keys'], 'key')} in use"
    answer = f"the oldest answer is of {duration_in_words(keyservers['oldest_answer_seconds'])} ago"
    yield f"{_INDENT}{answer}" + (f"; none yet about {counted(unanswered, 'key')}" if unanswered else "")


def _subid_lines(ids: Mapping[str, Any]) -> Iterator[str]:
    """Ranges of subordinate IDs, and those that overlap; `attention` has what else is wrong with them."""
    if not ids:
        return
    sorts = [(sort, ids[sort]) for sort in ("uids", "gids")]
    counts = [counted(found["ranges"], f"range of {sort}", f"ranges of {sort}") for sort, found in sorts]
    yield f"subids      {', '.join(counts)}"
    for sort, found in sorts:
        for each in found["overlapping"][:_OVERLAPS]:
            owners = "very many owners" if each["owners"] is None else ", ".join(map(_text, each["owners"]))
            yield f"  {sort} {each['first']}-{each['last']}: {owners}"
        if found["overlaps"] > _OVERLAPS:
            yield f"  and {found['overlaps'] - _OVERLAPS} more overlaps of {sort}: eclctl status --json"


def _work_lines(result: Mapping[str, Any]) -> Iterator[str]:
    cache, waiting = result["cache"], result["waiting"]
    in_flight = counted(result["in_flight"], "request")
    yield f"clients     {counted(result['connections'], 'connection')}, {in_flight} in flight, with this one"
    yield f"waiting     {counted(waiting['opening'], 'image')} to be opened, {waiting['verifying']} to be verified"
    yield f"cache       {counted(cache['entries'], 'file')}, {cache['hits']} hits, {cache['misses']} misses"
    failing = ", which CANNOT BE WRITTEN" if result["unrecorded"] else ""
    log = "none: decisions are not recorded" if result["audit"] is None else f"{_text(result['audit'])}{failing}"
    yield f"audit log   {log}"
    bugs = result.get("internal_errors") or {}
    if bugs.get("last"):
        yield f"errors      {counted(bugs['count'], 'internal error')}, the last at {time_text(bugs['last']['at'])}"


def _watch_lines(trees: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table of the watched directories; the path, which has any length, has a line of its own."""
    if not trees:
        yield "watching    nothing: images are verified when they are first asked for"
        return
    yield f"watching    {counted(len(trees), 'directory', 'directories')}"
    yield "  QUEUED  OVERDUE  BY        LAST RESCAN           TOOK"
    for tree in trees:
        overdue, took = f"{tree['overdue_seconds']:.0f} s", tree["last_rescan_seconds"]
        last = "under way" if tree["rescanning"] else time_text(tree["last_rescan"])
        took = "-" if took is None else f"{took:.3f} s"
        path = _text(tree["path"]) + ("" if tree["recursive"] else " (not below)")
        yield f"  {tree['queued']:<7} {overdue:<8} {_text(tree['mode']):<9} {last:<21} {took}"
        yield f"    {path}"
        if tree.get("why_not") is not None:
            yield from wrapped(f"no trusted-path: {_text(tree['why_not'])}", "    ! ", "      ")
