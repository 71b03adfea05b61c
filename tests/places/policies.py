"""Policies for questions about places, and what an answer to another name for the same file may be."""

from __future__ import annotations

_SIGNERS = """version: 1
signers:
  builder: {{pgp: [{builder}]}}
  scanner: {{pgp: [{scanner}]}}
rules:
"""
_PRODUCTION = """  - name: production
    match: {{paths: ["{root}/images/**"]}}
    require:
      - any_of: [builder]
      - any_of: [scanner]
"""
_ANYTHING = """  - name: anything
    match: {{kinds: [sif, oci-sif, sandbox, squashfs, ext3, other]}}
    assurance: none
    decision: allow
"""
_SECRET = """  - name: secret
    match: {{paths: ["{root}/images/secret/**"], kinds: [sif, oci-sif, sandbox, squashfs, ext3, other]}}
    decision: deny
"""
_HOMES = """  - name: homes
    match: {{paths: ["{root}/home/**"], kinds: [sif, oci-sif, sandbox, squashfs, ext3, other]}}
    assurance: none
    decision: allow
"""
_SANDBOXES = """  - name: sandboxes
    match: {{paths: ["{root}/images/**"], kinds: [sandbox]}}
    decision: allow
"""

PRODUCTION = _SIGNERS + _PRODUCTION
"""One rule for the library, which wants two signers and a trusted path."""

SPELLINGS = _SIGNERS + _SECRET + _PRODUCTION + _ANYTHING
"""A part of the library is denied, the rest wants two signers, and what lies elsewhere may run."""

HOMES = _SIGNERS + _PRODUCTION + _HOMES
"""The library as above; in homes, anything may run."""

SANDBOXES = _SIGNERS + _SANDBOXES
"""Sandboxes of the library may run, if their path is trusted."""

_SAYS_WHY = {"no-rule", "unreadable", "unsupported-file", "assurance-too-low", "busy"}
_REFUSED = {"bad-request", "not-permitted"}


def agrees(answer: dict, plain: dict) -> bool:
    """Whether an answer has the rule and decision of the plain name's, or is a deny that says why."""
    if "error" in answer:
        return answer["error"] in _REFUSED and bool(answer["message"])
    if (answer["rule"], answer["decision"]) == (plain["rule"], plain["decision"]):
        return True
    return answer["decision"] == "deny" and answer["code"] in _SAYS_WHY and len(answer["reason"]) > 20
