"""What answers say of decisions: the results of `check`, `check_all` and `explain` (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from eclctl.decide.key_reports import KeyReport
from eclctl.decide.questions import Decision
from eclctl.terms import Verdict

__all__ = ["all_fields", "decision_fields", "explanation_fields"]


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
        "exception": decision.exception,
        "message": decision.message,
    }


def all_fields(decisions: Sequence[Decision]) -> dict[str, Any]:
    """The result of check_all: allow only if every image is; else the code and reason of the first that is not."""
    denied = [decision for decision in decisions if decision.verdict is not Verdict.ALLOW]
    deciding = denied[0] if denied else decisions[0]
    return {
        "decision": deciding.verdict,
        "code": deciding.code,
        "reason": f"{deciding.image}: {deciding.reason}" if denied else "every image may run",
        "generation": deciding.generation,
        "policy": deciding.policy,
        "results": [{"image": each.image, "role": each.role} | decision_fields(each) for each in decisions],
    }


def explanation_fields(decision: Decision, *, admin: bool = False) -> dict[str, Any]:
    """The result of `explain`: a check's fields, the rule's place, its requirements, and every signature with its key.

    Whose name and address a key carries, and where the site keeps and lists it, is for admins alone.
    """
    return decision_fields(decision) | {
        "image": decision.image,
        "path": decision.path,
        "role": decision.role,
        "caller": None if decision.caller.identity is None else decision.caller.identity.note,
        "rule_where": decision.rule_where,
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
            {
                "id": each.id,
                "format": each.format,
                "signer": each.signer,
                "counts": each.counts,
                "why": each.why,
                "key": None if key is None else _key_fields(key, admin=admin),
            }
            for each, key in zip(decision.signatures, decision.keys, strict=True)
        ],
    }


def _lacks(decision: Decision, *, admin: bool) -> str | None:
    """What keeps the image from a trusted path: to those alone who may see the directory that it is about."""
    weak = decision.weak
    return weak.text if weak is not None and (weak.shown or admin) else None


def _key_fields(key: KeyReport, *, admin: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": key.kind,
        "id": key.id,
        "short": key.short,
        "primary": key.primary or None,
        "subject": key.subject or None,
        "signed": _seconds(key.signed),
        "signature_expires": _seconds(key.signature_expires),
        "begins": _seconds(key.begins),
        "ends": _seconds(key.ends),
        "revocation": key.revocation or None,
    }
    if admin:
        fields |= {"user_id": key.user_id or None, "source": key.source or None, "declared": key.declared}
    return fields


def _seconds(time: datetime | None) -> str | None:
    """A time of a key or signature, which have whole seconds, in UTC."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
