"""The page: everything in it, nothing fetched, and no name that breaks out of its place."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from eclctl.report.markup import Markup, join, tag
from eclctl.report.page import render

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'&\x1b[31m\u202e\udcff"
MISSING = {"requirement": "2 approvals from security", "needed": 2, "have": 1, "could_sign": ["bob"]}
STANDING = {
    "rule": "production",
    "stand": "pending",
    "decision": "deny",
    "code": "requirements-not-met",
    "would": None,
    "mode": "enforce",
    "reason": "2 approvals are needed",
    "signers": ["alice"],
    "missing": [MISSING],
    "everybody": True,
}
IMAGE = {
    "path": "/srv/a.sif",
    "kind": "sif",
    "size": 123_456_789,
    "stand": "pending",
    "manifest": None,
    "digests": {},
    "standings": [STANDING],
    "signatures": [{"id": 4, "format": "pgp", "signer": "alice", "counts": True, "why": "it covers group 1"}],
}
RULE = {
    "name": "production",
    "where": "/etc/eclctl/policies.d/10.yaml:5",
    "mode": "permissive",
    "match": {"paths": ["/srv/**"], "kinds": ["oci-sif", "sif"], "users": [1000], "groups": None}
    | {"hosts": ["login*"], "here": False, "times": ["Mon-Fri 08:00-18:00 UTC"]},
    "require": [{"text": "2 approvals from security", "where": "x:1", "people": ["alice", "bob"]}],
    "decision": None,
    "forbid": ["mallory"],
    "chain": ["build", "scan"],
    "distinct": True,
    "max_signature_age": 43200.0,
    "unknown_signatures": "deny",
    "discounted_signatures": "deny",
    "legacy_signatures": "accept",
    "assurance": "none",
    "message": "Ask us",
    "allow": 1204,
    "deny": 0,
    "would_deny": 3,
    "images": {"approved": 1, "pending": 2, "denied": 3},
}
KEY = {
    "signers": ["alice"],
    "kind": "pgp",
    "id": "A" * 40,
    "short": "A" * 16,
    "title": "Alice <alice@site.example>",
    "begins": "2025-01-01T00:00:00Z",
    "ends": "2026-12-01T00:00:00Z",
    "state": "expiring",
    "why": None,
    "revocation": None,
    "where": "10.yaml:3",
    "source": None,
}
EXCEPTION = {
    "name": "urgent",
    "file": "/etc/eclctl/exceptions.d/urgent.yaml",
    "state": "active",
    "why": "until tomorrow",
    "approved_by": ["alice"],
    "reason": "the deadline",
    "starts": "2026-11-01T00:00:00Z",
    "ends": "2026-12-01T00:00:00Z",
    "files": 2,
    "paths": ["/srv/x/**"],
    "users": None,
    "groups": [77],
}
DECISION = {
    "time": "2026-11-22T10:20:30.123456Z",
    "decision": "allow",
    "code": "permissive",
    "would": "tampered",
    "image": "/srv/a.sif",
    "rule": "production",
    "uid": 1000,
    "signers": ["alice"],
}
SUMMARY = {
    "version": "1.2.3",
    "policy": "sha256:" + "0" * 64,
    "generation": 4,
    "loaded_at": "2026-11-22T10:00:00.000000Z",
    "audit": "/var/log/eclctl/audit.jsonl",
    "attention": [{"code": "x", "message": "look at this"}],
    "images": {"approved": 1, "pending": 2, "denied": 3, "outdated": 4, "complete": False, "counted": 5, "kept": 6},
    "expiring": [{"id": "A" * 40, "images": 7}],
    "ocsp": {"statuses": {"good": 2, "none": 1}},
    "rules": {"since": "2026-11-22T10:00:00.000000Z", "no_rule": {"allow": 0, "deny": 9, "would_deny": 0}},
    "exceptions": [EXCEPTION],
}
REPORT: dict[str, Any] = {
    "v": 1,
    "at": "2026-11-22T10:30:00.000000Z",
    "host": "node1",
    "from": "the daemon at /run/eclctl/admin.sock",
    "summary": SUMMARY,
    "rules": [RULE],
    "keys": [KEY],
    "files": [{"path": "/etc/a.yaml", "sha256": "0" * 64, "size": 20, "text": "version: 1\nrules: []\n"}],
    "images": [IMAGE],
    "images_left_out": 8,
    "unread": [{"path": "/srv/b.sif", "reason": "it is new"}],
    "decisions": [DECISION],
    "decisions_from": "/var/log/eclctl/audit.jsonl",
}
NOTHING: dict[str, Any] = REPORT | {
    "rules": [],
    "keys": [],
    "files": [],
    "images": [],
    "images_left_out": 0,
    "unread": [],
    "decisions": [],
    "decisions_from": None,
    "summary": SUMMARY
    | {
        "attention": [],
        "images": None,
        "expiring": None,
        "exceptions": [],
        "policy": None,
        "generation": None,
        "loaded_at": None,
        "audit": None,
        "ocsp": {"statuses": {}},
        "rules": {"since": None, "no_rule": {"allow": 0, "deny": 0, "would_deny": 0}},
    },
}


class Page(HTMLParser):
    """The elements and the text that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.inline: dict[str, str] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name not in {"meta", "wbr", "br"}:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"script", "style"}:
            self.inline[self.open[-1]] = data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def changed(value: Any, to: str) -> Any:
    """The same shape with every text but the few that the page knows by word replaced."""
    known = {"pending", "denied", "approved", "oci-sif", "sif", "permissive", "enforce"}
    if isinstance(value, dict):
        return {name: changed(each, to) for name, each in value.items()}
    if isinstance(value, list):
        return [changed(each, to) for each in value]
    return to if isinstance(value, str) and value not in known else value


def test_everything_that_there_is_to_say_is_on_the_page_without_a_script() -> None:
    text = Page(render(REPORT)).text
    for words in (
        "On node1, 2026-11-22 10:30:00 UTC, from the daemon at /run/eclctl/admin.sock",
        "look at this",
        "sha256:" + "0" * 64,
        "1,204",
        "2 approvals from security: 1 of 2; could sign: bob",
        "1 signature, 1 of them count",
        "118 MiB",
        "8 more are left out of this page",
        "only 5 of 6 were counted",
        "Alice <alice@site.example>",
        "2 good, 1 not known",
        "No rule matched 9 decisions",
        "permissive: tampered",
        "2  rules: []",
        "the deadline",
        "it is new",
        "not on this host",
        "times Mon-Fri 08:00-18:00 UTC",
        "stages: build, scan",
        "no older than 0.5 days",
        "no signature by unknown keys",
        "no signature that does not count",
        "also signatures of before Singularity 3.6, which cover data only",
        "also files that their owners can change after the answer",
    ):
        assert words in text, words


def test_what_a_rule_refuses_is_on_the_page_also_when_it_allows_without_signatures() -> None:
    text = Page(render(REPORT | {"rules": [RULE | {"decision": "allow", "require": [], "chain": []}]})).text
    assert "allow without signatures" in text
    assert "no signature by mallory" in text
    assert "also files that their owners can change after the answer" in text


def test_a_report_of_nothing_says_so() -> None:
    text = Page(render(NOTHING)).text
    for words in (
        "Nothing needs attention.",
        "none: every image is denied",
        "There are no rules: nothing may run.",
        "No image is known.",
        "No signer has a key.",
        "There is no policy.",
        "Decisions are not recorded: there is no audit log.",
        "no certificate is asked about",
    ):
        assert words in text, words


@pytest.mark.parametrize("report", [REPORT, NOTHING], ids=["full", "empty"])
def test_a_browser_runs_nothing_but_the_pages_own_script_and_fetches_nothing(report: dict[str, Any]) -> None:
    page = Page(render(report))
    (csp,) = (given["content"] for name, given in page.tags if given.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.split(" ", 1) for part in str(csp).split("; "))
    assert allowed["default-src"] == "'none'"
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.inline[name].encode()).digest()).decode()
        assert allowed[f"{name}-src"] == f"'sha256-{digest}'"
    assert not {name for name, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "form", "base", "svg"}
    given = [(key, value) for _, attributes in page.tags for key, value in attributes.items()]
    assert not [key for key, _ in given if key in {"src", "style", "srcset"} or key.startswith("on")]
    assert all(str(value).startswith("#") for key, value in given if key == "href")
    assert not re.search(r"url\(|@import|https?:", render(report))


def test_no_text_breaks_out_of_its_place_or_reorders_what_is_around_it() -> None:
    made = render(changed(REPORT, EVIL))
    page, plain = Page(made), Page(render(REPORT))
    assert [name for name, _ in page.tags if name == "script"] == ["script"]
    assert {name for name, _ in page.tags} == {name for name, _ in plain.tags}
    assert not page.open
    assert made.replace("\n", "").isprintable()
    made.encode("utf-8")
    assert page.text.count("alert(1)") > 30


def test_columns_of_numbers_and_words_say_what_they_are_sorted_by() -> None:
    page = Page(render(REPORT))
    values = [attributes["data-v"] for name, attributes in page.tags if name == "td" and "data-v" in attributes]
    assert {"1204", "/srv/a.sif", "1", "2026-12-01T00:00:00Z"} <= set(values)


def test_links_lead_to_sections_that_there_are() -> None:
    page = Page(render(REPORT))
    targets = {str(given["href"])[1:] for name, given in page.tags if name == "a"}
    assert targets <= {given.get("id") for _, given in page.tags}


def test_an_image_under_several_rules_shows_each_ones_word() -> None:
    other = STANDING | {"rule": "members", "stand": "approved", "everybody": False, "missing": [], "code": "rule-allow"}
    text = Page(render(REPORT | {"images": [IMAGE | {"standings": [other, STANDING], "stand": "approved"}]})).text
    assert "members (for some users, or at times)" in text
    assert "production: 2 approvals from security: 1 of 2; could sign: bob" in text


def test_a_file_too_long_for_people_comes_without_its_text() -> None:
    long = REPORT["files"][0] | {"text": None, "size": 16_000_000}
    assert "Its text is too long for this page." in Page(render(REPORT | {"files": [long]})).text


def test_ten_thousand_images_make_a_page_that_a_browser_takes() -> None:
    images = [IMAGE | {"path": f"/srv/containers/{number}.sif"} for number in range(10_000)]
    assert len(render(REPORT | {"images": images})) < 16 * 1024 * 1024


def test_markup_made_here_is_not_escaped_again_and_everything_else_is() -> None:
    assert join(Markup("<b>"), "<i>", 3) == "<b>&lt;i&gt;3"
    assert tag("a", "x", href='"', open=True, hidden=None, class_="c", data_v=1) == (
        '<a href="&quot;" open class="c" data-v="1">x</a>'
    )
