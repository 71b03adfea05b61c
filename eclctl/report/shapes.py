"""What there is to report as JSON types: in the daemon's answers, and in what a page is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from eclctl.dataclass import asdict
from eclctl.decide.breakglass import Candidate, standing
from eclctl.decide.key_reports import short_name
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Missing
from eclctl.policy.language import Match, Rule
from eclctl.policy.load import PolicyFile
from eclctl.report.answers import seconds, signature_fields
from eclctl.report.keys import ListedKey
from eclctl.report.survey import ImageReport, RuleStanding, Survey, Tally

_MOST_TEXT = 1024 * 1024
_MOST = 64  # of what an image has many of: any user can have written it


def rule_fields(rule: Rule, counts: Mapping[str, int], images: Tally) -> dict[str, Any]:
    """Describe a rule, with what it decided and how images stand under it."""
    return {
        "name": rule.name,
        "where": rule.where,
        "mode": rule.mode,
        "match": match_fields(rule.match),
        "require": [
            {"text": need.text, "where": need.where, "people": list(need.people[:_MOST])} for need in rule.require
        ],
        "decision": rule.decision,
        "forbid": list(rule.forbidden),
        "chain": list(rule.chain),
        "distinct": rule.distinct,
        **condition_fields(rule),
        "message": rule.message,
        **counts,
        "images": asdict(images),
    }


def condition_fields(rule: Rule) -> dict[str, Any]:
    """Describe what a rule makes of signatures and of the file's identity, under the names that policies use."""
    return {
        "max_signature_age": rule.max_age,
        "unknown_signatures": "deny" if rule.deny_unknown else "ignore",
        "discounted_signatures": "deny" if rule.deny_discounted else "ignore",
        "legacy_signatures": "accept" if rule.accept_legacy else "ignore",
        "assurance": rule.assurance,
    }


def match_fields(match: Match) -> dict[str, Any]:
    """Describe which questions a rule answers; None means any."""
    return {
        "paths": None if match.paths is None else [glob.pattern for glob in match.paths],
        "kinds": sorted(match.kinds),
        "users": None if match.users is None else sorted(match.users),
        "groups": None if match.groups is None else sorted(match.groups),
        "hosts": None if match.hosts is None else list(match.hosts),
        "here": match.here,
        "times": None if match.times is None else [window.text for window in match.times],
    }


def key_fields(key: ListedKey, now: datetime) -> dict[str, Any]:
    """Describe a key, and what it is worth at `now`."""
    about = key.about
    return {
        "signers": list(key.signers),
        "kind": key.kind,
        "id": about.id,
        "short": short_name(about.id),
        "title": about.title,
        "begins": seconds(about.life.begins),
        "ends": seconds(about.life.ends),
        "state": key.state(now),
        "why": None if about.life.fault is None else about.life.fault.message,
        "revocation": about.revocation or None,
        "where": key.where or None,
        "source": about.source or None,
    }


def turning_fields(survey: Survey) -> list[dict[str, Any]]:
    """Describe the keys that end soon or ended lately, with how many images gain or lose an approval by that."""
    return [
        {
            **{name: value for name, value in key_fields(key, survey.now).items() if name not in {"where", "source"}},
            "days": (key.about.life.ends - survey.now).days,
            "images": survey.concerned[key.name, key.about.key],
        }
        for key in survey.turning
        if key.about.life.ends is not None
    ]


def survey_fields(survey: Survey, *, kept: int, counted: int) -> dict[str, Any]:
    """Describe how images stand; `kept` are all whose facts there are, `counted` those that were looked at."""
    return {
        **asdict(survey.images),
        "other_files": survey.files,
        "outdated": survey.outdated,
        "kept": kept,
        "counted": counted,
        "at": seconds(survey.now),
    }


def exception_fields(candidate: Candidate, snapshot: Snapshot, now: datetime) -> dict[str, Any]:
    """Describe an exception and how it stands. The snapshot is of a policy that knows exceptions."""
    assert snapshot.policy is not None
    stands, found = standing(candidate, snapshot.policy, snapshot.store, now), candidate.exception
    return {
        "name": candidate.name,
        "file": candidate.file,
        "state": stands.state,
        "why": stands.why,
        "approved_by": list(stands.approvers),
        "reason": None if found is None else found.reason,
        "starts": None if found is None else seconds(found.starts),
        "ends": None if found is None else seconds(found.ends),
        "files": 0 if found is None else len(found.files),
        "paths": [] if found is None else [glob.pattern for glob in found.paths[:_MOST]],
        "users": None if found is None or found.users is None else sorted(found.users)[:_MOST],
        "groups": None if found is None or found.groups is None else sorted(found.groups)[:_MOST],
    }


def file_fields(source: PolicyFile) -> dict[str, Any]:
    """Describe a policy file as it was loaded; one that is longer than a person reads comes without its text."""
    return {
        "path": source.path,
        "sha256": hashlib.sha256(source.text).hexdigest(),
        "size": len(source.text),
        "text": source.text.decode("utf-8", "backslashreplace") if len(source.text) <= _MOST_TEXT else None,
    }


def image_fields(report: ImageReport) -> dict[str, Any]:
    """Describe an image and how it stands."""
    return {
        "path": report.path,
        "kind": report.kind,
        "size": report.size,
        "stand": report.stand,
        "manifest": report.manifest,
        "digests": {str(number): digest for number, digest in islice(sorted(report.digests.items()), _MOST)},
        "standings": [_standing(standing) for standing in report.standings],
        "signatures": [signature_fields(each) for each in report.signatures[:_MOST]],
    }


def _standing(standing: RuleStanding) -> dict[str, Any]:
    outcome = standing.outcome
    return {
        "rule": standing.name,
        "stand": standing.stand,
        "decision": outcome.verdict,
        "code": outcome.code,
        "would": outcome.would,
        "mode": outcome.mode,
        "reason": outcome.reason,
        "signers": list(outcome.signers),
        "missing": [_missing(each) for each in outcome.missing],
        "everybody": standing.everybody,
    }


def _missing(missing: Missing) -> dict[str, Any]:
    return {
        "requirement": missing.requirement,
        "needed": missing.needed,
        "have": missing.have,
        "could_sign": list(missing.could_sign[:_MOST]),
    }
