"""What a policy says of an image before it is signed, and what it will still miss afterwards."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eclctl.errors import ConfigError
from eclctl.model import Code, Missing, Outcome, RequirementReport
from eclctl.terms import Finding, Verdict
from eclctl.text import printable

# Reading and judging policies is a second of imports that only they cost who name one.
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from datetime import datetime

    from eclctl.decide.snapshot import Snapshot
    from eclctl.local.engine import Responders
    from eclctl.sign.coverage import Part
    from eclctl.sign.native import Signing

__all__ = ["Outlook", "Policies", "load_policies", "outlook_as_json", "outlook_lines", "wrapped"]

_MOST_SHOWN = 5
_WIDTH = 80
_INDENT = " " * 10


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a policy says of an image at a path now, and what it will say; `unknown` tells of keys that it lacks."""

    path: str
    now: Outcome
    after: Outcome
    unknown: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Policies:
    """A policy with its keys, and what responders say of its certificates."""

    snapshot: Snapshot
    responders: Responders

    def outlook(self, fd: int, path: str, parts: tuple[Part, ...], signing: Signing, now: datetime) -> Outlook:
        """Verify an image with the policy's keys, and put it to the policy as it is and as it will be.

        Args:
            fd: The image, open for reading.
            path: Where the image will lie; it chooses the rule.
            parts: What will be signed.
            signing: With which keys.
            now: Aware, UTC.

        Raises:
            EclctlError: The image cannot be read.
        """
        from eclctl.decide.caller_identity import calling_user  # noqa: PLC0415 - see above
        from eclctl.sign.outlook import outcome_at, unknown_keys, with_signatures  # noqa: PLC0415 - see above
        from eclctl.trust.keyring import unasked  # noqa: PLC0415 - as above
        from eclctl.verify.examine import examine  # noqa: PLC0415 - as above
        from eclctl.verify.hashing import HashPool  # noqa: PLC0415 - as above

        snapshot, responders = self.snapshot, self.responders
        assert snapshot.policy is not None
        store = snapshot.store
        with HashPool.beside_caller() as pool:
            before = examine(fd, store, pool=pool, digests=snapshot.policy.withdraws_objects)
        after = with_signatures(before, parts, signing, store, now)
        responders.ask(unasked(store, after.claims, now, responders))
        caller = calling_user()
        unknown = [
            Finding(
                "unknown-to-policy", f"the policy knows nothing of the key {ref.id}: its signature counts for no signer"
            )
            for ref in unknown_keys(signing, store)
        ]
        return Outlook(
            path,
            outcome_at(snapshot, before, path, caller, now, statuses=responders),
            outcome_at(snapshot, after, path, caller, now, statuses=responders),
            tuple(unknown),
        )


def load_policies(options: argparse.Namespace, now: datetime) -> Policies | None:
    """Load the policy that `--policy` or `--config` names, None when neither does.

    Raises:
        ConfigError: It does not load; the message names each error, one after the other.
    """
    if not options.policy and options.config is None:
        return None
    from eclctl.config import settings as configuration  # noqa: PLC0415 - as above
    from eclctl.config.accounts import NAMES  # noqa: PLC0415 - as above
    from eclctl.decide.snapshot import build  # noqa: PLC0415 - as above
    from eclctl.files.guarded import read_guarded, read_unguarded  # noqa: PLC0415 - as above
    from eclctl.local.engine import Responders  # noqa: PLC0415 - see above

    if options.policy:
        named, read = configuration.Settings("", "", "", tuple(options.policy), tuple(options.keyring)), read_unguarded
    else:
        loaded = configuration.load_settings(options.config, resolve_user=NAMES.user)
        if loaded.settings is None:
            raise ConfigError(_listed([str(error) for error in loaded.errors]))
        named, read = loaded.settings, read_guarded
    built = build(named, NAMES, generation=1, now=now, read=read)
    if built.snapshot is None:
        raise ConfigError(_listed([str(error) for error in built.errors]))
    return Policies(built.snapshot, Responders(named.ocsp.timeout))


def outlook_lines(found: Outlook) -> Iterator[str]:
    """Yield lines for people: each requirement of the rule, what signing does for it, and who is still to sign."""
    after = found.after
    rule = f"rule {printable(after.rule)}" if after.rule is not None else "no rule"
    where = f" ({printable(after.rule_where)})" if after.rule_where is not None else ""
    yield from wrapped(f"Policy for {printable(found.path)}: {rule}{where}", "  ")
    met = {_key(each) for each in found.now.requirements if each.met}
    for report in after.requirements:
        mark = "missing" if not report.met else "met" if _key(report) in met else "NEW"
        text = f"{_stage(report.stage)}{printable(report.text)} ({report.have} of {report.needed})"
        yield from wrapped(f"  {mark:8}{text}", _INDENT)
    for unmet in after.missing:
        yield from wrapped(f"  {_stage(unmet.stage)}still to sign: {_who(unmet)}", _INDENT)
    verdict = "allow" if after.verdict is Verdict.ALLOW else "deny"
    yield from wrapped(f"Once it is signed: {verdict} ({after.code.value}): {printable(after.reason)}", "  ")
    if after.code is Code.NO_RULE:
        yield "  With --as PATH, say where the image will lie."


def wrapped(text: str, indent: str) -> list[str]:
    """Return lines at most 80 columns wide where words allow."""
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def outlook_as_json(found: Outlook) -> dict[str, Any]:
    """Return an outlook for JSON."""
    return {"path": found.path, "now": _outcome(found.now), "after": _outcome(found.after)}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "decision": outcome.verdict.value,
        "code": outcome.code.value,
        "reason": outcome.reason,
        "rule": outcome.rule,
        "rule_where": outcome.rule_where,
        "missing": [
            {
                "requirement": unmet.requirement,
                "needed": unmet.needed,
                "have": unmet.have,
                "signed": list(unmet.signed),
                "could_sign": list(unmet.could_sign),
                "stage": unmet.stage,
            }
            for unmet in outcome.missing
        ],
    }


def _key(report: RequirementReport) -> tuple[str, str, str | None]:
    return report.where, report.text, report.stage


def _stage(stage: str | None) -> str:
    return "" if stage is None else f"stage {printable(stage)}: "


def _who(unmet: Missing) -> str:
    names = [printable(name) for name in unmet.could_sign[:_MOST_SHOWN]]
    if len(unmet.could_sign) > _MOST_SHOWN:
        names.append(f"{len(unmet.could_sign) - _MOST_SHOWN} more")
    if not names:
        return "no signer who could"
    short = unmet.needed - unmet.have
    return " and ".join(names) if len(unmet.could_sign) <= short else f"{short} of {', '.join(names)}"


def _listed(errors: list[str]) -> str:
    more = [f"and {len(errors) - _MOST_SHOWN} more: `eclctl policy check`"] if len(errors) > _MOST_SHOWN else []
    return "; ".join([*errors[:_MOST_SHOWN], *more])
