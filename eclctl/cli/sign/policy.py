"""What a policy says of an image before it is signed, and what it will still miss afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from eclctl.cli.terminal.output import wrapped
from eclctl.dataclass import dataclass
from eclctl.errors import ConfigError
from eclctl.model import Code, Missing, Outcome
from eclctl.terms import Finding, Verdict
from eclctl.text import printable

# Reading and judging policies is a second of imports that only they cost who name one.
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from eclctl.decide.snapshot import Snapshot
    from eclctl.local.engine import Responders
    from eclctl.model import Verification
    from eclctl.sif.reader import Sif
    from eclctl.sign.coverage import Part
    from eclctl.sign.native import Signing
    from eclctl.sign.pem import PrivateKey
    from eclctl.verify.hashing import DigestCache

File: TypeAlias = "tuple[Sif, DigestCache]"
"""An image that is open, or as it will be, and what is known of its digests."""

_MOST_SHOWN = 5
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
        from eclctl.sign.outlook import unknown_keys, with_signatures  # noqa: PLC0415 - see above
        from eclctl.verify.examine import examine  # noqa: PLC0415 - as above
        from eclctl.verify.hashing import HashPool  # noqa: PLC0415 - as above

        assert self.snapshot.policy is not None
        store = self.snapshot.store
        with HashPool.beside_caller() as pool:
            before = examine(fd, store, pool=pool, digests=self.snapshot.policy.withdraws_objects)
        after = with_signatures(before, parts, signing, store, now)
        says = "its signature counts for no signer"
        unknown = [
            Finding("unknown-to-policy", f"the policy knows nothing of the key {ref.id}: {says}")
            for ref in unknown_keys(signing, store)
        ]
        return Outlook(path, self._outcome(before, path, now), self._outcome(after, path, now), tuple(unknown))

    def cosign_outlook(self, path: str, before: File, after: File, now: datetime) -> Outlook:
        """Verify an OCI-SIF as it was and as cosign signed it with the policy's keys, and put both to the policy.

        Args:
            path: Where the image will lie; it chooses the rule.
            before: The file until now.
            after: The signed one.
            now: Aware, UTC.

        Raises:
            EclctlError: A file cannot be read.
        """
        from eclctl.verify.examine import examine  # noqa: PLC0415 - as above
        from eclctl.verify.hashing import HashPool  # noqa: PLC0415 - as above

        assert self.snapshot.policy is not None
        outcomes = []
        with HashPool.beside_caller() as pool:
            for image, known in (before, after):
                digests = self.snapshot.policy.withdraws_objects
                found = examine(image, self.snapshot.store, pool=pool, digests=digests, known=known)
                outcomes.append(self._outcome(found, path, now))
        return Outlook(path, outcomes[0], outcomes[1], ())

    def _outcome(self, found: Verification, path: str, now: datetime) -> Outcome:
        """Put facts to the policy, once the responders were asked about their certificates."""
        from eclctl.decide.caller_identity import calling_user  # noqa: PLC0415 - as above
        from eclctl.sign.outlook import outcome_at  # noqa: PLC0415 - as above
        from eclctl.trust.keyring import unasked  # noqa: PLC0415 - as above

        self.responders.ask(unasked(self.snapshot.store, found.claims, now, self.responders))
        return outcome_at(self.snapshot, found, path, calling_user(), now, statuses=self.responders)

    def unknown_for_cosign(self, keys: Iterable[PrivateKey]) -> tuple[Finding, ...]:
        """Return those keys that no signer of the policy has for cosign: their signatures count for no signer."""
        known = {key.id for key in self.snapshot.store.cosign}
        strangers = [key.public for key in keys if key.public.id not in known]
        says = "the policy lists no such key for cosign, and its signature counts for no signer"
        return tuple(Finding("unknown-to-policy", f"{key.source} ({key.id}): {says}") for key in strangers)


def policies_from_options(options: argparse.Namespace, now: datetime) -> Policies | None:
    """Load the policy that `--policy` or `--config` names, None when neither does.

    Raises:
        ConfigError: It does not load; the message names each error, one after the other.
    """
    if not options.policy and options.config is None:
        return None
    from eclctl.local.engine import Responders, load_site  # noqa: PLC0415 - as above

    if not options.policy:
        settings, snapshot = load_site(options.config)
        return Policies(snapshot, Responders(settings.ocsp.timeout))
    from eclctl.config.accounts import NAMES  # noqa: PLC0415 - as above
    from eclctl.config.settings import Settings  # noqa: PLC0415 - as above
    from eclctl.decide.snapshot import build  # noqa: PLC0415 - as above
    from eclctl.files.guarded import read_unguarded  # noqa: PLC0415 - as above

    settings = Settings("", "", "", tuple(options.policy), tuple(options.keyring))
    built = build(settings, NAMES, generation=1, now=now, read=read_unguarded)
    if built.snapshot is None:
        more = len(built.errors) - _MOST_SHOWN
        rest = [f"and {more} more: `eclctl policy check`"] if more > 0 else []
        raise ConfigError("; ".join([*map(str, built.errors[:_MOST_SHOWN]), *rest]))
    return Policies(built.snapshot, Responders(settings.ocsp.timeout))


def outlook_lines(found: Outlook) -> Iterator[str]:
    """Yield lines for people: each requirement of the rule, what signing does for it, and who is still to sign."""
    after = found.after
    rule = f"rule {printable(after.rule)}" if after.rule is not None else "no rule"
    where = f" ({printable(after.rule_where)})" if after.rule_where is not None else ""
    yield from wrapped(f"Policy for {printable(found.path)}: {rule}{where}", later="  ")
    met = {(each.where, each.text, each.stage) for each in found.now.requirements if each.met}
    for report in after.requirements:
        known = (report.where, report.text, report.stage) in met
        mark = "missing" if not report.met else "met" if known else "NEW"
        text = f"{_stage(report.stage)}{printable(report.text)} ({report.have} of {report.needed})"
        yield from wrapped(f"  {mark:8}{text}", later=_INDENT)
    for unmet in after.missing:
        yield from wrapped(f"  {_stage(unmet.stage)}still to sign: {_who(unmet)}", later=_INDENT)
    verdict = "allow" if after.verdict is Verdict.ALLOW else "deny"
    yield from wrapped(f"Once it is signed: {verdict} ({after.code.value}): {printable(after.reason)}", later="  ")
    if after.code is Code.NO_RULE:
        yield "  With --as PATH, say where the image will lie."


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
