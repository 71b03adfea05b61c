"""What to do now: sentences for the user who wants to run the image, made from an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MOST_NAMED = 8
_ADMINS = "ask the admins of this system"

_BY_CODE = {
    "object-not-approved": (
        "have the image signed again: each approver must sign all of its objects, in every object group"
    ),
    "tampered": (
        "do not run it: its content is not what was signed. Fetch it again from where it was built; if that is the "
        "same, those who signed must look at it and sign again"
    ),
    "forbidden": f"use an image that others built: no approval makes up for that signature. If it is needed, {_ADMINS}",
    "withdrawn": f"use a newer image: this one, or something in it, was withdrawn. If there is none, {_ADMINS}",
    "unknown-signature": (
        "have that signature removed, or its key listed in the policy: the rule denies images with signatures by keys "
        "that are in no keyring"
    ),
    "discounted-signature": (
        "have that signature removed, or made again by a key that counts and over the whole image: the rule denies "
        "images with signatures that count for nothing"
    ),
    "rule-deny": f"use an image from elsewhere: the rule lets nothing run from there. If it should, {_ADMINS}",
    "no-rule": f"move the image to where a rule lets images run, or {_ADMINS} for one that covers it",
    "no-policy": f"{_ADMINS}: the daemon has no policy (`eclctl policy check` says why)",
    "assurance-too-low": (
        "have the image put into a directory that only the site can write: what others can change after it was "
        "checked cannot be trusted"
    ),
    "malformed": "copy or build the image again: the file is damaged",
    "unreadable": "check the name, and that you may read the file and enter the directories above it",
    "unsupported-file": "name an image file or a sandbox directory",
    "busy": "ask again when the file is no longer being written",
    "timeout": "ask again in a minute: the image is still being read",
    "internal-error": f"{_ADMINS}: the daemon's log says more (`journalctl -u eclctl`)",
}


def advice(result: Mapping[str, Any]) -> list[str]:
    """Return what to do about the result of `explain`, most useful first; unescaped. Empty when nothing is to be done.

    The rule's own message comes last, where it stands out.
    """
    code, found = str(result.get("code")), []
    if result.get("decision") != "allow":
        found = _approvals(result)
        if not found or code in {"object-not-approved", "tampered"}:
            found = [_BY_CODE.get(code, _ADMINS)]
    if result.get("would"):
        found = ["nothing, for now: once the rule is enforced, this image will not run", *_approvals(result)]
    if result.get("exception"):
        found = ["nothing, for now: when the exception ends, this image will not run", *_approvals(result)]
    if result.get("message") and (found or result.get("would")):
        found.append(f"the site says: {result['message']}")
    return found


def _approvals(result: Mapping[str, Any]) -> list[str]:
    """Return the signers to ask for each requirement that is not met."""
    unmet: Sequence[Mapping[str, Any]] = result.get("missing") or ()
    places = [each.get("where") for each in result.get("requirements") or () if not each.get("met")]
    return [_ask(each, place) for each, place in zip(unmet, [*places, *[None] * len(unmet)], strict=False)]


def _ask(unmet: Mapping[str, Any], place: object) -> str:
    could, short = list(unmet["could_sign"]), unmet["needed"] - unmet["have"]
    if not could:
        where = f" ({place})" if place else ""
        return f"no other signer can sign for `{unmet['requirement']}`{where}: {_ADMINS}"
    if len(could) == short:
        signers = _listed(could, "and")
    else:
        signers = _listed(could, "or") if short == 1 else f"{short} of {_listed(could, 'and')}"
    return f"ask {signers} to sign the image (needed: {unmet['requirement']})"


def _listed(names: Iterable[str], word: str) -> str:
    found = list(names)
    more = len(found) - _MOST_NAMED
    if more > 0:
        found = [*found[:_MOST_NAMED], f"{more} more"]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} {word} {found[-1]}"
