"""The JSON Schema of policy files, for editors: what may stand where, with a sentence on each key.

It is made from the tables that the loader reads with, and says as much as a schema can: what depends on other files, on
keyrings or on the host is the loader's to find. What it refuses, the loader refuses. Editors read YAML with types,
and the loader does not, so that a number or a boolean is also taken where the loader sees a word.
"""

from __future__ import annotations

from collections.abc import Mapping

from eclctl.policy import breakglass, conditions, declare, requirements, rules
from eclctl.policy import schema_parts as parts
from eclctl.policy.globs import MAX_LENGTH
from eclctl.policy.language import HOLDS
from eclctl.policy.messages import PLACEHOLDERS
from eclctl.policy.schema_parts import Schema
from eclctl.policy.signer_declarations import signer_schema
from eclctl.terms import Assurance, Kind, Verdict

_WINDOW = r"^[a-z,-]+ [0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2} \S+$"


def policy_schema() -> Schema:
    """Return the schema of a policy file, as JSON values."""
    fields: Mapping[str, Schema] = {
        "version": parts.one_of((1, "1"), "The version of the language."),
        "include": parts.list_of(parts.text_schema(), "Files and directories that follow this one, relative to it."),
        "signers": parts.mapping_of(signer_schema(), "Persons, teams and robots, with every key that speaks for them."),
        "roles": parts.mapping_of(
            parts.names_schema(), "Lists of signers, for approvals. The role anyone is built in."
        ),
        "withdrawn": parts.mapping_schema(
            {
                "objects": parts.list_of(
                    parts.digest_schema(), "SHA-256 of data objects that may not run, in any file."
                ),
                "manifests": parts.list_of(parts.digest_schema(), "Digests of OCI images that may not run."),
                "signers": parts.names_schema("Signers; nothing that carries a signature of theirs runs."),
                "keys": parts.list_of(
                    parts.word_schema(), "Keys, by fingerprint or digest; nothing that they signed runs."
                ),
            },
            declare.WITHDRAWN_KEYS,
            "What may not run under any rule.",
        ),
        "exceptions": parts.mapping_schema(
            {
                "directory": parts.text_schema("Where the files of exceptions are."),
                "approvals": _approvals("Who must sign an exception."),
                "longest": parts.duration_schema("How long one may last."),
            },
            breakglass.TERMS_KEYS,
            "How images may run for a while though requirements are not met.",
            required=breakglass.TERMS_KEYS,
        ),
        "rules": parts.list_of(_rule(), "The first rule that matches decides."),
        "default": parts.one_of(("deny",), "What no rule matches is denied."),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "eclctl policy",
        "description": "A policy of eclctl; see docs/policy.md.",
        **parts.mapping_schema(fields, declare.TOP_KEYS, required=("version",)),
    }


def _rule() -> Schema:
    fields = {
        "name": {
            **parts.word_schema(r"^[^\s\-.@+:/]"),
            "maxLength": 64,
            "description": "1 to 64 letters, digits, spaces and _ . @ + : / -",
        },
        "match": _match(),
        "require": parts.list_of(_requirement(), "All of these must be met."),
        "chain": parts.list_of(
            {
                "oneOf": [
                    parts.purpose_schema(),
                    {**parts.mapping_of(_requirement()), "minProperties": 1, "maxProperties": 1},
                ]
            },
            "The stages that an image goes through, by name.",
        ),
        "decision": parts.one_of(tuple(Verdict), "The answer, signed or not."),
        "distinct": parts.one_of((True, False, "true", "false"), "No person serves two requirements."),
        "forbid": parts.mapping_schema(
            {"signed_by": parts.names_schema("Signers.")},
            rules.FORBID_KEYS,
            "Who must not have signed.",
            required=rules.FORBID_KEYS,
        ),
        "max_signature_age": parts.duration_schema(
            "How old a signature may be. Only PGP signatures say when they were made."
        ),
        "unknown_signatures": parts.one_of(rules.IGNORE_OR_DENY, "What of signatures by unknown keys?"),
        "discounted_signatures": parts.one_of(rules.IGNORE_OR_DENY, "What of signatures that count for nothing?"),
        "legacy_signatures": parts.one_of(rules.LEGACY_SIGNATURES, "What of signatures of before Singularity 3.6?"),
        "assurance": parts.one_of(tuple(Assurance), "The least that the place of the file must be worth."),
        "mode": parts.one_of(rules.MODES, "Whether missing approvals deny."),
        "message": {
            **parts.text_schema(longest=rules.LONGEST_MESSAGE),
            "description": f"One line for who is denied. In braces: {', '.join(PLACEHOLDERS)}.",
        },
    }
    return parts.mapping_schema(fields, rules.RULE_KEYS, required=("name",))


def _match() -> Schema:
    fields = {
        "paths": parts.list_of(
            parts.text_schema(r"^/", longest=MAX_LENGTH), "Patterns for the resolved path: /srv/containers/**"
        ),
        "kinds": parts.list_of(parts.one_of(tuple(Kind)), "Kinds of images; sif and oci-sif if left out."),
        "users": parts.list_of(parts.word_schema(), "Users who ask, by name or number."),
        "groups": parts.list_of(parts.word_schema(), "Groups of who asks, by name or number."),
        "hosts": parts.list_of(parts.word_schema(), "Hosts: login*, node01, *.cluster.example"),
        "times": parts.list_of(parts.word_schema(_WINDOW), "Days, hours and zone: mon-fri 08:00-18:00 Europe/Zurich"),
    }
    return parts.mapping_schema(
        fields, conditions.MATCH_KEYS, "Which questions the rule answers. All that is given must match."
    )


def _requirement() -> Schema:
    number = {"type": ["integer", "string"]}
    fields = {
        "any_of": parts.names_schema("One of these signers."),
        "all_of": parts.names_schema("Each of these signers."),
        "approvals": _approvals("So many different people of a role."),
        "objects": parts.mapping_schema(
            {
                "groups": parts.list_of(number, "Object groups, all of which must be there."),
                "ids": parts.list_of(number, "Data objects that one signature must cover."),
                "holds": parts.list_of(parts.one_of(HOLDS), "What they must hold."),
            },
            requirements.SCOPE_KEYS,
            "The part of the image that must be approved.",
            least=1,
        ),
        "purpose": {**parts.purpose_schema(), "description": "Only signatures that say that they are for this count."},
    }
    one = [{"required": [key]} for key in requirements.ASKS]
    return {**parts.mapping_schema(fields, requirements.REQUIREMENT_KEYS), "oneOf": one}


def _approvals(about: str) -> Schema:
    count = {"type": ["integer", "string"], "minimum": 1, "maximum": requirements.HIGHEST_COUNT}
    keys = requirements.APPROVALS_KEYS
    return parts.mapping_schema({"count": count, "of": parts.word_schema()}, keys, about, required=keys)
