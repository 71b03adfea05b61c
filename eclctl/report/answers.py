"""What answers say of decisions: the results of `check`, `check_all` and `explain` (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from eclctl.decide.key_reports import KeyReport, short_name
from eclctl.decide.questions import Decision
from eclctl.model import SignatureReport
from eclctl.terms import Verdict


def decision_fields(decision: Decision) -> dict[str, Any]:
    """The result of `check`: every field of docs/protocol.md, on allow and deny alike."""
    return {
        "decision": decision.verdict,
        "code": decision.code,
        "rule": decision.rule,
        "reason": decision.reason,
        "mode": decision.mode,
        "kind": decision.kind,
        "signers": decision.signers,
        "missing": [
            {
                "requirement": unmet.requirement,
                "needed": unmet.needed,
                "have": unmet.have,
                "signed": unmet.signed,
                "could_sign": unmet.could_sign,
                "stage": unmet.stage,
            }
            for unmet in decision.missing
        ],
        "cached": decision.cached,
        "assurance": decision.assurance,
        "generation": decision.generation,
        "policy": decision.policy,
        "decision_id": decision.id,
        "would": decision.would,
        "exception": decision.outcome.exception,
        "message": decision.message,
    }


def all_fields(decisions: Sequence[Decision]) -> dict[str, Any]:
    """The result of check_all: allow only if every image is; else the code and reason of the first that is not."""
    denied = [decision for decision in decisions if decision.verdict is not Verdict.ALLOW]
    deciding = denied[0] if denied else decisions[0]
    return {
        "decision": deciding.verdict,
        "code": deciding.code,
        "reason": f"{deciding.question.image}: {deciding.reason}" if denied else "every image may run",
        "generation": deciding.generation,
        "policy": deciding.policy,
        "results": [
            {"image": each.question.image, "role": each.question.role} | decision_fields(each) for each in decisions
        ],
    }


def explanation_fields(decision: Decision, *, admin: bool = False) -> dict[str, Any]:
    """The result of `explain`: a check's fields, the rule's place, its requirements, and every signature with its key.

    Whose name and address a key carries, and where the site keeps and lists it, is for admins alone.
    """
    caller = decision.question.caller
    return decision_fields(decision) | {
        "image": decision.question.image,
        "path": decision.path,
        "role": decision.question.role,
        "caller": None if caller.identity is None else caller.identity.note,
        "rule_where": decision.outcome.rule_where,
        "assurance_lacks": _lacks(decision, admin=admin),
        "writers": decision.writers.value,
        "requirements": [
            {
                "text": report.text,
                "where": report.where,
                "met": report.met,
                "needed": report.needed,
                "have": report.have,
                "stage": report.stage,
                "signers": [
                    {"signer": signer.signer, "counts": signer.counts, "why": signer.why} for signer in report.signers
                ],
            }
            for report in decision.outcome.requirements
        ],
        "signatures": [
            signature_fields(each) | {"key": None if key is None else _key_fields(key, admin=admin)}
            for each, key in zip(decision.signatures, decision.keys, strict=True)
        ],
    }


def signature_fields(report: SignatureReport) -> dict[str, Any]:
    """Describe what became of a signature."""
    return {
        "id": report.id,
        "format": report.format,
        "signer": report.signer,
        "counts": report.counts,
        "why": report.why,
    }


def _lacks(decision: Decision, *, admin: bool) -> str | None:
    """What keeps the image from a trusted path: to those alone who may see the directory that it is about."""
    weak = decision.weak
    return weak.text if weak is not None and (weak.shown or admin) else None


def _key_fields(key: KeyReport, *, admin: bool) -> dict[str, Any]:
    about = key.about
    fields: dict[str, Any] = {
        "kind": key.kind,
        "id": about.id,
        "short": short_name(about.id),
        "primary": about.primary or None,
        "subject": about.subject or None,
        "signed": seconds(key.signed),
        "signature_expires": seconds(key.signature_expires),
        "begins": seconds(about.life.begins),
        "ends": seconds(about.life.ends),
        "revocation": about.revocation or None,
    }
    if admin:
        fields |= {"user_id": about.user_id or None, "source": about.source or None, "declared": key.declared}
    return fields


def seconds(time: datetime | None) -> str | None:
    """Write a time in UTC with whole seconds."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
