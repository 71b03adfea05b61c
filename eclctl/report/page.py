"""The report as one static page: everything in it, nothing fetched, readable without the script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from eclctl.dataclass import dataclass
from eclctl.report.markup import Markup, join, tag
from eclctl.report.style import SCRIPT, STYLE, content_security_policy
from eclctl.text import counted

_PILLS = {
    **dict.fromkeys(("approved", "allow", "ok"), "yes"),
    **dict.fromkeys(("pending", "expiring", "not-yet", "permissive", "active"), "wait"),
    **dict.fromkeys(("refused", "denied", "deny", "expired", "unusable"), "no"),
}
_ORDER = {"denied": "0", "pending": "1", "approved": "2"}
_KEY_ORDER = {"expired": "0", "unusable": "1", "expiring": "2", "not-yet": "3", "ok": "4"}
_WHICH_IMAGES = (
    "The images whose facts are known: in watched directories, or asked about. Approved images may run; pending ones "
    "have at least one of the approvals that they need."
)
_ABOUT_RULES = (
    "In order: the first that matches decides. Decisions are those since the policy came into force; images are "
    "counted as they stand, under every rule that decides on them for some user, and as if permissive rules were "
    "enforced."
)
_ABOUT_EXCEPTIONS = (
    "What lets named images run for a while though the requirements are not met; they are counted as they stand."
)
_ABOUT_KEYS = (
    "Of keys that end within 30 days, or ended within the last 30, the last column has how many images lose their "
    "approval by that, or have lost it."
)
_BREAK = Markup("/<wbr>")
_NEVER = "9999"  # sorts after every date
_STATUSES = {"none": "not known"}
_NONE_ASKED = "no certificate is asked about"


@dataclass(frozen=True, slots=True)
class _Cell:
    """What a cell shows, and what it is sorted by when that is something else."""

    shows: object
    by: object = None
    kind: str | None = None


def render(report: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        report: `v`, `at`, `host`, `from` (who was asked), `summary` (an answer to `status`), `rules`, `keys`, `files`,
            `images`, `images_left_out` (how many more there are), `unread` (paths with the reason), `decisions` (as in
            the audit log, newest first) and `decisions_from` (what they were read from, None when there is no log).
    """
    title = f"eclctl report: {report['host']}, {_minute(report['at'])}"
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Markup(content_security_policy())),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    origin = ("On ", tag("b", report["host"]), f", {_second(report['at'])}, from {report['from']}")
    sections = (tag("section", tag("h2", title, id=name), make(report)) for name, title, make in _SECTIONS)
    body = join(
        tag("header", tag("h1", "Which container images may run here"), _dim(*origin)),
        tag("nav", *(tag("a", title, href=f"#{name}") for name, title, _ in _SECTIONS)),
        tag("main", *sections),
        tag("footer", f"Made by eclctl {report['summary']['version']}. Times are UTC."),
        tag("script", Markup(SCRIPT)),
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _note(text: str) -> Markup:
    return tag("p", text, class_="dim")


def _dim(*content: object) -> Markup:
    return tag("div", *content, class_="dim")


def _table(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[_Cell]],
    nothing: str,
    groups: Sequence[tuple[str, int]] = (),
) -> Markup:
    """Return a table that the script can sort. A column whose title begins with # holds numbers.

    `groups` are titles above the columns, with how many of these each spans.
    """
    body = [tag("tr", *(tag("td", cell.shows, class_=cell.kind, data_v=cell.by) for cell in row)) for row in rows]
    if not body:
        return _note(nothing)
    heads = [
        tag("th", title.removeprefix("#"), scope="col", class_="n" if title.startswith("#") else None)
        for title in columns
    ]
    above = [tag("th", title, colspan=span, class_="group" if title else None) for title, span in groups]
    head = tag("thead", tag("tr", *above) if above else "", tag("tr", *heads))
    table = tag("table", head, tag("tbody", *body), id=f"{name}table", class_="sortable")
    return tag("div", table, class_="scroll")


def _number(value: int) -> _Cell:
    return _Cell(f"{value:,}" if value else "-", value, "n")


def _pill(word: str, label: str | None = None) -> Markup:
    return tag("span", label or word, class_=f"pill {_PILLS.get(word, 'none')}")


def _list(items: Iterable[object]) -> Markup:
    found = [tag("li", item) for item in items]
    return tag("ul", *found, class_="plain") if found else Markup("")


def _mono(value: object) -> Markup:
    return tag("span", value, class_="mono")


def _path(path: object, kind: str = "") -> Markup:
    """Return a path that a narrow column breaks after a slash."""
    first, *others = str(path).split("/")
    return tag("div", first, *(join(_BREAK, part) for part in others), class_=f"mono path {kind}".rstrip())


def _minute(time: str) -> str:
    return f"{time[:10]} {time[11:16]}"


def _second(time: str) -> str:
    return f"{time[:10]} {time[11:19]} UTC"


# -- summary -------------------------------------------------------------------------------------------------------


def _summary(report: Mapping[str, Any]) -> Markup:
    summary = report["summary"]
    return join(_cards(report, summary), _attention(summary), _facts(report, summary))


def _attention(summary: Mapping[str, Any]) -> Markup:
    found = summary["attention"]
    if not found:
        return tag("p", "Nothing needs attention.", class_="well")
    kind = "soon" if all(each["code"] == "key-expiring" for each in found) else "now"
    return tag("ul", *(tag("li", each["message"]) for each in found), class_=f"attention {kind}")


def _cards(report: Mapping[str, Any], summary: Mapping[str, Any]) -> Markup:
    images = summary["images"]
    shown = []
    if images is not None:
        shown = [(images[stand], f"images {stand}", _PILLS[stand]) for stand in ("approved", "pending", "denied")]
    ending = summary["expiring"]
    if ending is not None:
        shown.append((len(ending), "keys about to expire or just expired", "wait" if ending else ""))
    shown.append((len(report["rules"]), "rules", ""))
    cards = [tag("div", tag("b", f"{number:,}"), name, class_=f"card {kind}") for number, name, kind in shown]
    return tag("div", *cards, class_="cards")


def _facts(report: Mapping[str, Any], summary: Mapping[str, Any]) -> Markup:
    facts: list[tuple[str, object]] = [("Policy", _mono(summary["policy"] or "none: every image is denied"))]
    if summary["generation"] is not None:
        loaded = summary["loaded_at"]
        facts.append(("Generation", f"{summary['generation']}{f', loaded {_second(loaded)}' if loaded else ''}"))
    if since := summary["rules"]["since"]:
        facts.append(("Decisions counted", f"since {_second(since)}, when this policy came into force"))
    facts.append(("Images", _how_many(report, summary["images"])))
    facts.append(("Revocation", _ocsp(summary["ocsp"])))
    facts.append(("Audit log", summary["audit"] or "none: decisions are not recorded"))
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")


def _how_many(report: Mapping[str, Any], images: Mapping[str, Any] | None) -> str:
    if images is None:
        return "there was no time to look at them"
    words = [f"{images['approved'] + images['pending'] + images['denied']:,} known"]
    if images["outdated"]:
        words.append(f"{images['outdated']:,} to be verified again, with other keys")
    if not images["complete"]:
        words.append(f"only {images['counted']:,} of {images['kept']:,} were counted, for lack of time")
    if report["images_left_out"]:
        words.append(f"the first {len(report['images']):,} are listed below")
    return "; ".join(words)


def _ocsp(ocsp: Mapping[str, Any]) -> str:
    found = [f"{number} {_STATUSES.get(name, name)}" for name, number in ocsp["statuses"].items() if number]
    return f"certificates that responders are asked about: {', '.join(found)}" if found else _NONE_ASKED


# -- rules ---------------------------------------------------------------------------------------------------------


def _rules(report: Mapping[str, Any]) -> Markup:
    groups = [("", 4), ("Decisions", 3), ("Images now", 3)]
    columns = ("#No.", "Rule", "For", "Asks for", "#allow", "#deny", "#would deny", "#approved", "#pending", "#denied")
    rows = [_rule(number, rule) for number, rule in enumerate(report["rules"], 1)]
    no_rule = report["summary"]["rules"]["no_rule"]
    unmatched = f"No rule matched {no_rule['deny']:,} decisions, which were denied." if no_rule["deny"] else ""
    table = _table("rules", columns, rows, "There are no rules: nothing may run.", groups)
    return join(_note(_ABOUT_RULES), table, _note(unmatched))


def _rule(number: int, rule: Mapping[str, Any]) -> list[_Cell]:
    name = [tag("b", rule["name"])]
    if rule["mode"] == "permissive":
        name.append(join(" ", _pill("permissive")))
    name.append(_path(rule["where"], "dim"))
    if rule["message"]:
        name.append(_dim(f"“{rule['message']}”"))
    images = rule["images"]
    return [
        _Cell(number, number, "n"),
        _Cell(join(*name), rule["name"]),
        _Cell(_match(rule["match"])),
        _Cell(_asks(rule)),
        *(_number(rule[count]) for count in ("allow", "deny", "would_deny")),
        *(_number(images[stand]) for stand in ("approved", "pending", "denied")),
    ]


def _match(match: Mapping[str, Any]) -> Markup:
    paths = match["paths"]
    lines: list[object] = [_path(path) for path in paths] if paths is not None else ["any path"]
    if match["kinds"] != ["oci-sif", "sif"]:
        lines.append(f"kinds {', '.join(match['kinds'])}")
    given = [(name, match[name]) for name in ("users", "groups", "hosts", "times") if match[name] is not None]
    lines += [f"{name} {', '.join(map(str, values))}" for name, values in given]
    if not match["here"]:
        lines.append(_pill("not on this host"))
    return _list(lines)


def _asks(rule: Mapping[str, Any]) -> Markup:
    if rule["decision"] == "deny":
        return _pill("deny")
    lines: list[object] = [_pill("allow", "allow without signatures")] if rule["decision"] else []
    lines += [need["text"] for need in rule["require"]]
    if rule["chain"]:  # signatures do not say what was there before them: no order is enforced
        lines.append(f"stages: {', '.join(rule['chain'])}")
    if rule["distinct"]:
        lines.append("by different people")
    if rule["max_signature_age"] is not None:
        lines.append(f"no older than {rule['max_signature_age'] / 86400:g} days")
    if rule["forbid"]:
        lines.append(f"no signature by {', '.join(rule['forbid'])}")
    if rule["unknown_signatures"] == "deny":
        lines.append("no signature by unknown keys")
    if rule["discounted_signatures"] == "deny":
        lines.append("no signature that does not count")
    # What other rules refuse: an auditor should not have to read the files for that.
    if rule["legacy_signatures"] == "accept":
        lines.append("also signatures of before Singularity 3.6, which cover data only")
    if rule["assurance"] == "none":
        lines.append("also files that their owners can change after the answer")
    return _list(lines)


def _exceptions(report: Mapping[str, Any]) -> Markup:
    columns = ("Exception", "State", "Until", "For", "Approved by", "Reason")
    rows = map(_exception, report["summary"]["exceptions"])
    return join(_note(_ABOUT_EXCEPTIONS), _table("exceptions", columns, rows, "There are none."))


def _exception(found: Mapping[str, Any]) -> list[_Cell]:
    scope: list[object] = [_path(path) for path in found["paths"]]
    if found["files"]:
        scope.append(f"{found['files']} files by their content")
    given = [(name, found[name]) for name in ("users", "groups") if found[name] is not None]
    scope += [f"{name} {', '.join(map(str, numbers))}" for name, numbers in given]
    return [
        _Cell(join(tag("b", found["name"]), _path(found["file"], "dim")), found["name"]),
        _Cell(join(_pill(found["state"]), _dim(found["why"]))),
        _Cell(_minute(found["ends"]) if found["ends"] else "-", found["ends"] or "", "nowrap"),
        _Cell(_list(scope)),
        _Cell(", ".join(found["approved_by"]) or "-"),
        _Cell(found["reason"] or "-"),
    ]


# -- images --------------------------------------------------------------------------------------------------------


def _images(report: Mapping[str, Any]) -> Markup:
    columns = ("Image", "Stands", "Rule", "Approved by", "Missing, or why")
    left_out, unread = report["images_left_out"], report["unread"]
    notes = [_WHICH_IMAGES]
    if left_out:
        notes.append(f"{left_out:,} more are left out of this page.")
    shown = [_note(" ".join(notes)), _table("images", columns, map(_image, report["images"]), "No image is known.")]
    if unread:
        rows = [[_Cell(_path(each["path"])), _Cell(each["reason"])] for each in unread]
        shown += [_note("These files could not be judged:"), _table("unread", ("File", "Why"), rows, "")]
    return join(*shown)


def _image(image: Mapping[str, Any]) -> list[_Cell]:
    standings = image["standings"]
    alone = len(standings) == 1
    facts = f"{image['kind'] or 'damaged'}, {_size(image['size'])}"
    shown = [_path(image["path"]), _dim(facts)]
    if image["manifest"]:
        shown.append(tag("div", image["manifest"], class_="mono dim path"))
    shown.append(_signatures(image["signatures"]))
    signers = dict.fromkeys(name for standing in standings for name in standing["signers"])
    return [
        _Cell(join(*shown), image["path"]),
        _Cell(_pill(image["stand"]), _ORDER[image["stand"]], "nowrap"),
        _Cell(_list(_under(standing, alone=alone) for standing in standings), standings[0]["rule"] or ""),
        _Cell(", ".join(signers) or "-"),
        _Cell(_list(line for standing in standings for line in _lacks(standing, alone=alone)) or "-"),
    ]


def _under(standing: Mapping[str, Any], *, alone: bool) -> Markup:
    """The rule and its word; beside others, also how the image stands under it."""
    name = tag("b", standing["rule"]) if standing["rule"] else tag("span", "no rule", class_="dim")
    who = "" if standing["everybody"] else tag("span", " (for some users, or at times)", class_="dim")
    permissive = join(" ", _pill("permissive")) if standing["mode"] == "permissive" else ""
    stand = "" if alone else join(_pill(standing["stand"]), " ")
    return join(name, who, permissive, tag("div", stand, tag("code", standing["would"] or standing["code"])))


def _lacks(standing: Mapping[str, Any], *, alone: bool) -> list[str]:
    if standing["stand"] == "approved":
        return []
    under = "" if alone else f"{standing['rule']}: "
    lines = []
    for missing in standing["missing"]:
        could = ", ".join(missing["could_sign"]) or "no signer"
        lines.append(f"{under}{missing['requirement']}: {missing['have']} of {missing['needed']}; could sign: {could}")
    return lines or [under + standing["reason"]]


def _signatures(signatures: Sequence[Mapping[str, Any]]) -> Markup:
    if not signatures:
        return _dim("no signatures")
    counting = sum(each["counts"] for each in signatures)
    summary = f"{counted(len(signatures), 'signature')}, {counting} of them count"
    return tag("details", tag("summary", summary), _list(map(_signature, signatures)))


def _signature(report: Mapping[str, Any]) -> str:
    by = f" by {report['signer']}" if report["signer"] else ""
    return f"{'✓' if report['counts'] else '✗'} {report['id']} ({report['format']}){by}: {report['why']}"


def _size(size: int) -> str:
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:  # noqa: PLR2004 - binary units
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" or value >= 10 else f"{value:.1f} {units[0]}"  # noqa: PLR2004


# -- keys ----------------------------------------------------------------------------------------------------------


def _keys(report: Mapping[str, Any]) -> Markup:
    columns = ("Signer", "Key", "Name", "From", "Until", "State", "#Images")
    ending = {key["id"]: key["images"] for key in report["summary"]["expiring"] or ()}
    rows = (_key(key, ending) for key in report["keys"])
    return join(_note(_ABOUT_KEYS), _table("keys", columns, rows, "No signer has a key."))


def _key(key: Mapping[str, Any], ending: Mapping[str, int]) -> list[_Cell]:
    who: list[object] = [tag("b", ", ".join(key["signers"]) or "(anyone)")]
    if key["where"]:
        who.append(_path(key["where"], "dim"))
    what: list[object] = [tag("div", key["id"], class_="mono path"), _dim(key["kind"])]
    state: list[object] = [_pill(key["state"])]
    state += [_dim(key[why]) for why in ("why", "revocation") if key[why]]
    return [
        _Cell(join(*who), ", ".join(key["signers"])),
        _Cell(join(*what), key["id"]),
        _Cell(key["title"]),
        _Cell(str(key["begins"] or "-")[:10], key["begins"] or "", "nowrap"),
        _Cell(str(key["ends"] or "no end")[:10], key["ends"] or _NEVER, "nowrap"),
        _Cell(join(*state), _KEY_ORDER.get(key["state"], "9")),
        _number(ending[key["id"]]) if key["id"] in ending else _Cell("", -1, "n"),
    ]


# -- decisions and files -------------------------------------------------------------------------------------------


def _decisions(report: Mapping[str, Any]) -> Markup:
    columns = ("Time", "Decision", "Image", "Rule", "#User", "Signers")
    source = report["decisions_from"]
    where = f"The newest, from {source}." if source else "Decisions are not recorded: there is no audit log."
    return join(_note(where), _table("decisions", columns, map(_decision, report["decisions"]), "There are none."))


def _decision(decision: Mapping[str, Any]) -> list[_Cell]:
    would, time = decision.get("would"), str(decision.get("time"))
    said = f"{decision.get('code')}: {would}" if would else decision.get("code")
    return [
        _Cell(f"{time[:10]} {time[11:19]}", time, "nowrap"),
        _Cell(join(_pill(str(decision.get("decision"))), " ", tag("code", said, class_="dim")), kind="nowrap"),
        _Cell(_path(decision.get("image"))),
        _Cell(decision.get("rule") or "-"),
        _Cell(decision.get("uid"), decision.get("uid"), "n"),
        _Cell(", ".join(map(str, decision.get("signers") or ())) or "-"),
    ]


def _files(report: Mapping[str, Any]) -> Markup:
    shown = [_file(each) for each in report["files"]] or [_note("There is no policy.")]
    return join(_note("As they were when this policy was loaded."), *shown)


def _file(file: Mapping[str, Any]) -> Markup:
    lines = [] if file["text"] is None else file["text"].splitlines()
    width = len(str(len(lines)))
    numbered = [join(f"{number:>{width}}  ", line, Markup("\n")) for number, line in enumerate(lines, 1)]
    content = tag("pre", *numbered) if lines else _note("Its text is too long for this page.")
    return join(
        tag("h3", _mono(file["path"])),
        tag("div", f"{file['size']:,} bytes, sha256:{file['sha256']}", class_="mono dim path"),
        tag("details", tag("summary", f"{len(lines)} lines"), content, open=True),
    )


_SECTIONS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], Markup]], ...] = (
    ("summary", "Summary", _summary),
    ("rules", "Rules", _rules),
    ("exceptions", "Exceptions", _exceptions),
    ("images", "Images", _images),
    ("keys", "Signers and keys", _keys),
    ("decisions", "Recent decisions", _decisions),
    ("files", "Policy files", _files),
)
