"""Chains of certificates: which there are from a leaf to trusted roots, and what is wrong with each, at all times.

The rules are those of RFC 5280 sections 4.2 and 6.1 for the few extensions that can matter to a signature, and stricter
where a container's signer needs it. Signatures, key sizes, name constraints and the rest of the profile are the work
of `cryptography.x509.verification`, which is asked about one chain at a time. Where the two overlap both must agree.

Findings are in the words of the reference (Go's crypto/x509) where it has words for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice, pairwise
from typing import NamedTuple, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from eclctl.dataclass import dataclass
from eclctl.errors import KeyMaterialError
from eclctl.terms import Finding
from eclctl.trust.revocation import Link

MAX_PATH = 16
"""The most certificates in a path, leaf and root included."""

UNKNOWN_AUTHORITY = Finding("unknown-authority", "x509: certificate signed by unknown authority")

STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})
"""The hashes that a signature of a certificate may be over."""

UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    Warning,  # the library warns of some malformed fields, and `-W error` raises them
)
"""What the library raises for a certificate, when its fields are looked at, that it cannot make sense of."""

_MAX_CANDIDATES = 64  # a site's files hold a handful; what is beyond is not looked at, so it is not trusted
_MAX_BEGUN = 256  # of each length, while roots are looked for

_INCOMPATIBLE = Finding("incompatible-usage", "x509: certificate specifies an incompatible key usage")
_LEAF_IS_CA = Finding("incompatible-usage", "x509: the certificate of an authority, which signs no containers")
_TOO_MANY = Finding("path-too-long", "x509: too many intermediates for path length constraint")
_CANNOT_SIGN = "x509: invalid signature: parent certificate cannot sign this kind of certificate"
_CODE_SIGNING = frozenset({ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    }
)
# The library's own policy for authorities refuses intermediates that are for code signing; what it asks beyond
# basicConstraints is asked here.
_AUTHORITY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
_SIGNER = ExtensionPolicy.permit_all()

_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, eq=False)
class ReadCertificate:
    """A certificate and the parts of it that rules look at.

    identity: the subject with the public key: who it is in every certificate that says so.
    authority: the CA bit of basicConstraints.
    path_length: None when there is no limit.
    usages: None when there is no extended key usage.
    unhandled: the OID of a critical extension that is not understood here (RFC 5280 section 4.2), or None.
    """

    certificate: x509.Certificate
    subject: bytes
    issuer: bytes
    identity: tuple[bytes, bytes]
    begins: datetime
    ends: datetime
    authority: bool
    path_length: int | None
    key_usage: x509.KeyUsage | None
    usages: frozenset[x509.ObjectIdentifier] | None
    constraints: x509.NameConstraints | None
    unhandled: str | None
    hash_name: str


class Chain(NamedTuple):
    """Certificates from the leaf to a root, and why they are no path at any time, or None when they may be one.

    `begins` is the latest notBefore and `ends` the earliest notAfter: at instants from the one to the other, both
    included, all of them are valid. `links` are what must be asked about to know of its revocation.
    """

    certificates: tuple[x509.Certificate, ...]
    links: tuple[Link, ...]
    begins: datetime
    ends: datetime
    refusal: Finding | None


_Candidate: TypeAlias = tuple[ReadCertificate, ...]


def read_certificate(certificate: x509.Certificate) -> ReadCertificate:
    """Return the parts of a certificate that rules look at.

    Raises:
        KeyMaterialError: A field of it cannot be decoded.
    """
    try:
        constraints = _extension(certificate, x509.BasicConstraints)
        usages = _extension(certificate, x509.ExtendedKeyUsage)
        subject = certificate.subject.public_bytes()
        algorithm = certificate.signature_hash_algorithm
        critical = (each.oid for each in certificate.extensions if each.critical)
        return ReadCertificate(
            certificate=certificate,
            subject=subject,
            issuer=certificate.issuer.public_bytes(),
            identity=(subject, _key(certificate)),
            begins=certificate.not_valid_before_utc,
            ends=certificate.not_valid_after_utc,
            authority=constraints is not None and constraints.ca,
            path_length=None if constraints is None else constraints.path_length,
            key_usage=_extension(certificate, x509.KeyUsage),
            usages=None if usages is None else frozenset(usages),
            constraints=_extension(certificate, x509.NameConstraints),
            unhandled=next((oid.dotted_string for oid in critical if oid not in _UNDERSTOOD), None),
            hash_name="" if algorithm is None else algorithm.name,
        )
    except UNREADABLE as error:
        raise KeyMaterialError(f"the certificate cannot be decoded: {error}") from error


def chains(
    leaf: ReadCertificate, intermediates: Iterable[ReadCertificate], roots: Iterable[ReadCertificate]
) -> tuple[Chain, ...]:
    """Return the chains from a leaf to roots by name, each judged, in no promised order.

    A leaf that is itself among the roots is not its own root: a path has at least two certificates. At most
    64 chains of at most `MAX_PATH` certificates are looked at.
    """
    found = _candidates(leaf, _by_subject(intermediates), _by_subject(roots))
    return tuple(_judged(candidate) for candidate in islice(found, _MAX_CANDIDATES))


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _key(certificate: x509.Certificate) -> bytes:
    """Return the SubjectPublicKeyInfo, or for a key of an unknown kind, which can sign nothing here, a stand-in."""
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        return certificate.fingerprint(SHA256())


def _by_subject(certificates: Iterable[ReadCertificate]) -> dict[bytes, list[ReadCertificate]]:
    index: dict[bytes, list[ReadCertificate]] = {}
    for each in certificates:
        index.setdefault(each.subject, []).append(each)
    return index


def _candidates(
    leaf: ReadCertificate, intermediates: dict[bytes, list[ReadCertificate]], roots: dict[bytes, list[ReadCertificate]]
) -> Iterator[_Candidate]:
    """Yield the chains whose names fit, shorter ones first.

    No chain has a subject twice, not even in two certificates.
    """
    begun: list[_Candidate] = [(leaf,)]
    while begun:
        longer = []
        for chain in begun:
            seen = {each.identity for each in chain}
            yield from ((*chain, root) for root in roots.get(chain[-1].issuer, ()) if root.identity not in seen)
            if len(chain) < MAX_PATH - 1:
                above = intermediates.get(chain[-1].issuer, ())
                longer += [(*chain, each) for each in above if each.identity not in seen]
        begun = longer[:_MAX_BEGUN]


def _judged(candidate: _Candidate) -> Chain:
    certificates = tuple(each.certificate for each in candidate)
    links = tuple(Link(certificate, issuer) for certificate, issuer in pairwise(certificates))
    begins = max(each.begins for each in candidate)
    ends = min(each.ends for each in candidate)
    rules = (_authorities, _lengths, _extensions, _hashes, _names, _usage_of_leaf, _usages)
    refusal = next((finding for rule in rules if (finding := rule(candidate)) is not None), None)
    if refusal is None and begins <= ends:  # otherwise there is no instant to ask about, and none at which it holds
        refusal = _refused_by_library(certificates, begins)
    return Chain(certificates, links, begins, ends, refusal)


def _authorities(candidate: _Candidate) -> Finding | None:
    """Every issuer is a CA (RFC 5280 section 6.1.4 k) whose key may sign certificates (n)."""
    for issuer in candidate[1:]:
        usage = issuer.key_usage
        if not issuer.authority or (usage is not None and not usage.key_cert_sign):
            return _possibly(_CANNOT_SIGN, issuer.certificate)
    return None


def _lengths(candidate: _Candidate) -> Finding | None:
    """No issuer has more CAs below it than it allows (section 6.1.4 l, m); the root and self-issued ones count too."""
    for below, issuer in enumerate(candidate[1:]):
        if issuer.path_length is not None and below > issuer.path_length:
            return _TOO_MANY
    return None


def _extensions(candidate: _Candidate) -> Finding | None:
    for each in candidate:
        if each.unhandled is not None:
            return Finding("unhandled-extension", f"x509: unhandled critical extension {each.unhandled}")
    return None


def _hashes(candidate: _Candidate) -> Finding | None:
    """No weak hash holds the chain together. A root is trusted as it stands: its own signature is not checked."""
    for each in candidate[:-1]:
        if each.hash_name not in STRONG_HASHES:
            name = each.hash_name or "none"
            return Finding("weak-hash", f"x509: cannot verify signature: insecure algorithm (hash: {name})")
    return None


def _names(candidate: _Candidate) -> Finding | None:
    """Names are constrained only in the forms that the library compares (section 4.2.1.10): DNS names and addresses."""
    for each in candidate:
        limits = each.constraints
        trees = [] if limits is None else [*(limits.permitted_subtrees or ()), *(limits.excluded_subtrees or ())]
        if not all(isinstance(tree, x509.DNSName | x509.IPAddress) for tree in trees):
            return Finding("name-constraints", "x509: name constraints of a form that is not evaluated here")
    return None


def _usage_of_leaf(candidate: _Candidate) -> Finding | None:
    leaf = candidate[0]
    if leaf.authority:
        return _LEAF_IS_CA
    if leaf.key_usage is not None and not leaf.key_usage.digital_signature:
        return _INCOMPATIBLE
    return _INCOMPATIBLE if leaf.usages is None else None


def _usages(candidate: _Candidate) -> Finding | None:
    """Who says at all what its key is for, leaf or issuer or root, allows code signing."""
    allowed = all(each.usages is None or each.usages & _CODE_SIGNING for each in candidate)
    return None if allowed else _INCOMPATIBLE


def _refused_by_library(certificates: Sequence[x509.Certificate], at: datetime) -> Finding | None:
    """Return why the library does not find exactly this path at an instant at which all of it is valid."""
    builder = PolicyBuilder().store(Store([certificates[-1]])).time(at).max_chain_depth(MAX_PATH)
    verifier = builder.extension_policies(ca_policy=_AUTHORITY, ee_policy=_SIGNER).build_client_verifier()
    try:
        found = verifier.verify(certificates[0], list(certificates[1:-1])).chain
    except VerificationError as error:
        return _possibly(str(error), certificates[1])
    except UNREADABLE as error:
        return _possibly(f"x509: {error}", certificates[1])
    return None if tuple(found) == tuple(certificates) else UNKNOWN_AUTHORITY


def _possibly(hint: str, authority: x509.Certificate) -> Finding:
    message = (
        f'{UNKNOWN_AUTHORITY.message} (possibly because of "{hint}"'
        f' while trying to verify candidate authority certificate "{_name(authority)}")'
    )
    return Finding(UNKNOWN_AUTHORITY.code, message)


def _name(certificate: x509.Certificate) -> str:
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else certificate.subject.rfc4514_string()
