"""The JSON Schema of policy files, for editors: what may stand where, with a sentence on each key.

It is made from the tables that the loader reads with, and says as much as a schema can: what depends on other files, on
keyrings or on the host is the loader's to find. Whatever it refuses, the loader refuses. Editors read YAML with types,
and the loader does not, so that a number or a boolean is also taken where the loader sees a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eclctl.model import Assurance, Kind, Verdict
from eclctl.policy import breakglass, conditions, declare, material, requirements, rules
from eclctl.policy.globs import MAX_LENGTH
from eclctl.policy.language import HOLDS
from eclctl.policy.messages import PLACEHOLDERS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""What a schema is written in."""

_Schema = dict[str, Any]
_LONGEST_TEXT = 4096
_DURATION = r"^[0-9]{1,9}[smhdw]$"
_PURPOSE = r"^[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?$"
_NAME = r"^[^\s\-.@+:/]"
_WINDOW = r"^[a-z,-]+ [0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2} \S+$"


def policy_schema() -> _Schema:
    """Return the schema of a policy file, as JSON values."""
    about = "A policy of eclctl; see docs/policy.md."
    return {
        "$schema": DIALECT,
        "title": "eclctl policy",
        "description": about,
        **_object(_top(), declare.TOP_KEYS, required=("version",)),
    }


def _top() -> Mapping[str, _Schema]:
    return {
        "version": _one_of((1, "1"), "The version of the language."),
        "include": _list(_text(), "Files and directories that follow this one, relative to it."),
        "signers": _map(_signer(), "Persons, teams and robots, with every key that speaks for them."),
        "roles": _map(_names(), "Lists of signers, for approvals. The role anyone is built in."),
        "withdrawn": _object(
            {
                "objects": _list(_digest(), "SHA-256 of data objects that may not run, in whatever file."),
                "manifests": _list(_digest(), "Digests of OCI images that may not run."),
                "signers": _names("Signers; nothing that carries a signature of theirs runs."),
                "keys": _list(_word(), "Keys, by fingerprint or digest; nothing that they signed runs."),
            },
            declare.WITHDRAWN_KEYS,
            "What may not run, whatever a rule says.",
        ),
        "exceptions": _object(
            {
                "directory": _text("Where the files of exceptions are."),
                "approvals": _approvals("Who must sign an exception."),
                "longest": _duration("How long one may last."),
            },
            breakglass.TERMS_KEYS,
            "How images may run for a while though requirements are not met.",
            required=breakglass.TERMS_KEYS,
        ),
        "rules": _list(_rule(), "The first rule that matches decides."),
        "default": _one_of(("deny",), "What no rule matches is denied."),
    }


def _signer() -> _Schema:
    files = "PEM public keys, as files relative to this one"
    fields = {
        "pgp": _list(
            _word(r"^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$"), "OpenPGP primary fingerprints, 40 or 64 hex digits."
        ),
        "key": _list(_text(), f"{files}, for DSSE signatures."),
        "certificate": {"oneOf": [_certificate(), _list(_certificate(), "Certificates.")]},
        "cosign": _list(_text(), f"{files}, for cosign signatures."),
        "annotations": {**_map(_word()), "minProperties": 1, "description": "What cosign signatures must say."},
        "repository": _text("Which repositories cosign signatures must name: registry.example/prod/**"),
        "purpose": {
            "description": "What signatures by PEM keys and certificates are for.",
            "oneOf": [_purpose(), _list(_purpose())],
        },
    }
    return _object(fields, declare.SIGNER_KEYS)


def _certificate() -> _Schema:
    files = {"oneOf": [_text(), _list(_text())]}
    fields = {
        "file": _text("The signer's certificate."),
        "intermediates": {**files, "description": "What leads from it to a root."},
        "roots": {**files, "description": "The authorities that are trusted for this signer."},
        "ocsp": _one_of(("require", "off"), "Whether responders must say that it is not revoked; require if left out."),
    }
    return _object(fields, material.CERTIFICATE_KEYS, required=("file", "roots"))


def _rule() -> _Schema:
    fields = {
        "name": _name(),
        "match": _match(),
        "require": _list(_requirement(), "All of these must be met."),
        "chain": _list(
            {"oneOf": [_purpose(), {**_map(_requirement()), "minProperties": 1, "maxProperties": 1}]},
            "The stages that an image goes through, by name.",
        ),
        "decision": _one_of(tuple(Verdict), "The answer, whatever is signed."),
        "distinct": _boolean("No person serves two requirements."),
        "forbid": _object(
            {"signed_by": _names("Signers.")},
            rules.FORBID_KEYS,
            "Who must not have signed.",
            required=rules.FORBID_KEYS,
        ),
        "max_signature_age": _duration("How old a signature may be. Only PGP signatures say when they were made."),
        "unknown_signatures": _one_of(rules.UNKNOWN_SIGNATURES, "What of signatures by unknown keys?"),
        "discounted_signatures": _one_of(rules.DISCOUNTED_SIGNATURES, "What of signatures that count for nothing?"),
        "legacy_signatures": _one_of(rules.LEGACY_SIGNATURES, "What of signatures of before Singularity 3.6?"),
        "assurance": _one_of(tuple(Assurance), "The least that the place of the file must be worth."),
        "mode": _one_of(rules.MODES, "Whether missing approvals deny."),
        "message": {
            **_text(longest=rules.LONGEST_MESSAGE),
            "description": f"One line for who is denied. In braces: {', '.join(PLACEHOLDERS)}.",
        },
    }
    return _object(fields, rules.RULE_KEYS, required=("name",))


def _match() -> _Schema:
    fields = {
        "paths": _list(_text(r"^/", longest=MAX_LENGTH), "Patterns for the resolved path: /srv/containers/**"),
        "kinds": _list(_one_of(tuple(Kind)), "Kinds of images; sif and oci-sif if left out."),
        "users": _list(_word(), "Users who ask, by name or number."),
        "groups": _list(_word(), "Groups of who asks, by name or number."),
        "hosts": _list(_word(), "Hosts: login*, node01, *.cluster.example"),
        "times": _list(_word(_WINDOW), "Days, hours and zone: mon-fri 08:00-18:00 Europe/Zurich"),
    }
    return _object(fields, conditions.MATCH_KEYS, "Which questions the rule answers. All that is given must match.")


def _requirement() -> _Schema:
    number = {"type": ["integer", "string"]}
    fields = {
        "any_of": _names("One of these signers."),
        "all_of": _names("Each of these signers."),
        "approvals": _approvals("So many different people of a role."),
        "objects": _object(
            {
                "groups": _list(number, "Object groups, all of which must be there."),
                "ids": _list(number, "Data objects that one signature must cover."),
                "holds": _list(_one_of(HOLDS), "What they must hold."),
            },
            requirements.SCOPE_KEYS,
            "The part of the image that must be approved.",
            least=1,
        ),
        "purpose": {**_purpose(), "description": "Only signatures that say that they are for this count."},
    }
    one = [{"required": [key]} for key in requirements.ASKS]
    return {**_object(fields, requirements.REQUIREMENT_KEYS), "oneOf": one}


def _approvals(about: str) -> _Schema:
    count = {"type": ["integer", "string"], "minimum": 1, "maximum": requirements.HIGHEST_COUNT}
    keys = requirements.APPROVALS_KEYS
    return _object({"count": count, "of": _word()}, keys, about, required=keys)


def _object(
    fields: Mapping[str, _Schema],
    keys: Sequence[str],
    about: str = "",
    *,
    required: Sequence[str] = (),
    least: int = 0,
) -> _Schema:
    """Return the schema of a mapping that may have `keys`; what each may be must be said in `fields`."""
    made: _Schema = {"type": "object", "properties": {key: fields[key] for key in keys}, "additionalProperties": False}
    made |= {"required": list(required)} if required else {}
    made |= {"minProperties": least} if least else {}
    return made | ({"description": about} if about else {})


def _map(value: _Schema, about: str = "") -> _Schema:
    return {"type": "object", "additionalProperties": value} | ({"description": about} if about else {})


def _list(item: _Schema, about: str = "") -> _Schema:
    return {"type": "array", "items": item, "minItems": 1} | ({"description": about} if about else {})


def _names(about: str = "") -> _Schema:
    return _list(_word(), about)


def _word(pattern: str | None = None) -> _Schema:
    """A word that an editor may take for something else: a name that is a number, a fingerprint of digits."""
    made: _Schema = {"type": ["string", "number", "boolean"], "minLength": 1}
    return made | ({"pattern": pattern} if pattern else {})


def _name() -> _Schema:
    return {**_word(_NAME), "maxLength": 64, "description": "1 to 64 letters, digits, spaces and _ . @ + : / -"}


def _text(pattern: str | None = None, *, longest: int = _LONGEST_TEXT) -> _Schema:
    made: _Schema = {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": longest}
    if pattern is None:
        return made
    return made | ({"pattern": pattern} if pattern.startswith("^") else {"description": pattern})


def _digest() -> _Schema:
    return {"type": "string", "pattern": r"^sha256:[0-9A-Fa-f]{64}$"}


def _duration(about: str) -> _Schema:
    return {"type": "string", "pattern": _DURATION, "description": f"{about} A number and s, m, h, d or w."}


def _purpose() -> _Schema:
    return _word(_PURPOSE)


def _boolean(about: str) -> _Schema:
    return {"enum": [True, False, "true", "false"], "description": about}


def _one_of(values: Sequence[object], about: str = "") -> _Schema:
    """One of some words; `off` is false to a reader of YAML 1.1, and so allowed as that, too."""
    words = [str(value) if isinstance(value, str) else value for value in values]
    words += [False] if "off" in words else []
    return {"enum": words} | ({"description": about} if about else {})
