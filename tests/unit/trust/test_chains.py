"""What makes a chain of certificates no path, one rule after the other (RFC 5280 sections 4.2 and 6.1)."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA224, SHA384, SHA512

from eclctl.terms import Finding
from eclctl.trust.chains import MAX_PATH, UNKNOWN_AUTHORITY, chains, read_certificate
from eclctl.trust.x509 import load_credential
from tests.helpers.certificates import (
    ANY_USAGE,
    CODE_SIGNING,
    NOW,
    OCSP_SIGNING,
    SERVER_AUTH,
    UNKNOWN_EXTENSION,
    Holder,
    authority,
    common_name,
    ec_key,
    issue,
    key_usage,
    leaf,
    rsa_key,
    signed_with_sha1,
)

ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
USAGE = "x509: certificate specifies an incompatible key usage"


def judged(certificate: Holder, *intermediates: Holder, roots=(ROOT,)):
    """Return the length of the path, or the finding that there is none."""
    loaded = load_credential(
        certificate.pem, [each.pem for each in intermediates], [each.pem for each in roots], ocsp=False
    )
    found = loaded.path(NOW)
    return found if isinstance(found, Finding) else len(found)


def code(certificate: Holder, *intermediates: Holder, roots=(ROOT,)):
    found = judged(certificate, *intermediates, roots=roots)
    return found.code if isinstance(found, Finding) else None


@pytest.mark.parametrize(
    "usages", [[CODE_SIGNING], [ANY_USAGE], [SERVER_AUTH, CODE_SIGNING], [OCSP_SIGNING, ANY_USAGE]]
)
def test_a_leaf_for_code_signing_or_anything_is_accepted(usages):
    assert judged(leaf("leaf", MIDDLE, usages=usages), MIDDLE) == 3


@pytest.mark.parametrize("usages", [None, [SERVER_AUTH], [OCSP_SIGNING], [x509.ObjectIdentifier("1.2.3.4")]])
def test_a_leaf_without_code_signing_is_refused(usages):
    """One without any extended key usage too, which the reference accepts."""
    assert judged(leaf("leaf", MIDDLE, usages=usages), MIDDLE) == Finding("incompatible-usage", USAGE)


@pytest.mark.parametrize("usages", [None, [CODE_SIGNING], [ANY_USAGE], [SERVER_AUTH, CODE_SIGNING]])
@pytest.mark.parametrize("where", ["root", "middle"])
def test_issuers_that_allow_code_signing_or_say_nothing_are_accepted(where, usages):
    root = authority("root", usages=usages if where == "root" else None)
    middle = authority("middle", root, usages=usages if where == "middle" else None)
    assert judged(leaf("leaf", middle), middle, roots=(root,)) == 3


@pytest.mark.parametrize("usages", [[SERVER_AUTH], [OCSP_SIGNING, SERVER_AUTH], [x509.ObjectIdentifier("1.2.3.4")]])
@pytest.mark.parametrize("where", ["root", "upper", "lower"])
def test_an_issuer_for_something_else_takes_code_signing_from_all_below(where, usages):
    root = authority("root", usages=usages if where == "root" else None)
    upper = authority("upper", root, usages=usages if where == "upper" else None)
    lower = authority("lower", upper, usages=usages if where == "lower" else [CODE_SIGNING])
    for of_leaf in ([CODE_SIGNING], [ANY_USAGE]):
        found = judged(leaf("leaf", lower, usages=of_leaf), lower, upper, roots=(root,))
        assert found == Finding("incompatible-usage", USAGE)


@pytest.mark.parametrize("usages", [("digital_signature",), ("digital_signature", "key_encipherment")])
def test_a_leaf_s_key_usage_must_have_digital_signature(usages):
    assert judged(leaf("leaf", MIDDLE, key_usage=key_usage(*usages)), MIDDLE) == 3


@pytest.mark.parametrize("usages", [("content_commitment",), ("key_encipherment",), ("key_cert_sign", "crl_sign")])
def test_a_leaf_s_key_usage_without_digital_signature_is_refused(usages):
    refused = judged(leaf("leaf", MIDDLE, key_usage=key_usage(*usages)), MIDDLE)
    assert refused == Finding("incompatible-usage", USAGE)


def test_a_leaf_without_key_usage_is_accepted():
    assert judged(leaf("leaf", MIDDLE, key_usage=None), MIDDLE) == 3


def test_a_leaf_without_basic_constraints_is_accepted():
    assert judged(leaf("leaf", MIDDLE, ca=None), MIDDLE) == 3


def test_an_authority_signs_no_containers():
    signer = leaf("leaf", MIDDLE, ca=True, key_usage=key_usage("digital_signature", "key_cert_sign"))
    assert code(signer, MIDDLE) == "incompatible-usage"


@pytest.mark.parametrize("ca", [False, None])
@pytest.mark.parametrize("where", ["root", "middle"])
def test_an_issuer_without_the_ca_bit_is_refused(where, ca):
    root = authority("root", ca=ca if where == "root" else True)
    middle = authority("middle", root, ca=ca if where == "middle" else True)
    refused = judged(leaf("leaf", middle), middle, roots=(root,))
    assert refused.code == "unknown-authority"
    assert "parent certificate cannot sign this kind of certificate" in refused.message
    assert refused.message.endswith(f'candidate authority certificate "{where}")')


@pytest.mark.parametrize("where", ["root", "middle"])
def test_an_issuer_whose_key_may_not_sign_certificates_is_refused(where):
    usage = lambda name: key_usage("crl_sign" if where == name else "key_cert_sign", "digital_signature")  # noqa: E731
    root = authority("root", key_usage=usage("root"))
    middle = authority("middle", root, key_usage=usage("middle"))
    assert code(leaf("leaf", middle), middle, roots=(root,)) == "unknown-authority"


def test_issuers_without_a_key_usage_are_accepted():
    root = authority("root", key_usage=None)
    middle = authority("middle", root, key_usage=None)
    assert judged(leaf("leaf", middle), middle, roots=(root,)) == 3


@pytest.mark.parametrize(("limits", "fits"), [((2, 1, 0), True), ((1, None, None), False), ((None, 0, None), False)])
def test_no_issuer_has_more_authorities_below_it_than_it_allows(limits, fits):
    root = authority("root", path_length=limits[0])
    upper = authority("upper", root, path_length=limits[1])
    lower = authority("lower", upper, path_length=limits[2])
    found = judged(leaf("leaf", lower), lower, upper, roots=(root,))
    words = "x509: too many intermediates for path length constraint"
    assert found == (4 if fits else Finding("path-too-long", words))


def test_an_authority_that_issued_itself_a_new_key_counts_as_one_below():
    """RFC 5280 would not count it; the reference does, and a longer chain is the riskier reading."""
    old = authority("middle", ROOT, path_length=0)
    new = authority("middle", old)
    assert code(leaf("leaf", new), new, old) == "path-too-long"


def test_an_authority_that_issued_itself_a_new_key_is_followed():
    old = authority("middle", ROOT)
    new = authority("middle", old)
    assert judged(leaf("leaf", new), new, old) == 4


@pytest.mark.parametrize("where", ["root", "middle", "leaf"])
def test_a_critical_extension_that_nobody_knows_is_refused(where):
    more = lambda name: {"extensions": [(UNKNOWN_EXTENSION, True)]} if name == where else {}  # noqa: E731
    root = authority("root", **more("root"))
    middle = authority("middle", root, **more("middle"))
    refused = judged(leaf("leaf", middle, **more("leaf")), middle, roots=(root,))
    assert refused == Finding("unhandled-extension", "x509: unhandled critical extension 1.3.6.1.4.1.55555.1")


@pytest.mark.parametrize(
    "extension",
    [x509.PolicyConstraints(0, None), x509.InhibitAnyPolicy(0), x509.OCSPNoCheck()],
    ids=["policy-constraints", "inhibit-any-policy", "nocheck"],
)
def test_a_critical_extension_that_is_not_evaluated_is_refused(extension):
    middle = authority("middle", ROOT, extensions=[(extension, True)])
    assert code(leaf("leaf", middle), middle) == "unhandled-extension"


def test_an_extension_that_nobody_knows_and_that_is_not_critical_does_no_harm():
    middle = authority("middle", ROOT, extensions=[(UNKNOWN_EXTENSION, False)])
    assert judged(leaf("leaf", middle, extensions=[(UNKNOWN_EXTENSION, False)]), middle) == 3


def test_a_critical_subject_alternative_name_is_understood():
    names = x509.SubjectAlternativeName([x509.DNSName("ci.example")])
    assert judged(leaf("leaf", MIDDLE, extensions=[(names, True)]), MIDDLE) == 3


def constrained(*, permitted=None, excluded=None, critical=True):
    return authority("middle", ROOT, extensions=[(x509.NameConstraints(permitted, excluded), critical)])


def named(middle, *names):
    return leaf("leaf", middle, extensions=[(x509.SubjectAlternativeName(names), False)] if names else [])


DNS = x509.DNSName("site.example")
NETWORK = x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))


def test_names_within_constraints_are_accepted():
    middle = constrained(permitted=[DNS, NETWORK])
    inside = [x509.DNSName("ci.site.example"), x509.IPAddress(ipaddress.ip_address("10.1.2.3"))]
    assert judged(named(middle, *inside), middle) == 3
    assert judged(named(middle), middle) == 3


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize(
    "name", [x509.DNSName("ci.elsewhere.example"), x509.IPAddress(ipaddress.ip_address("11.1.2.3"))]
)
def test_names_outside_constraints_are_refused(name, critical):
    middle = constrained(permitted=[DNS, NETWORK], critical=critical)
    assert code(named(middle, name), middle) == "unknown-authority"
    forbidden = x509.DNSName("elsewhere.example"), x509.IPAddress(ipaddress.ip_network("11.0.0.0/8"))
    middle = constrained(excluded=list(forbidden), critical=critical)
    assert code(named(middle, name), middle) == "unknown-authority"


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize(
    "tree",
    [
        x509.DirectoryName(common_name("another")),
        x509.RFC822Name("site.example"),
        x509.UniformResourceIdentifier("site.example"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01x"),
    ],
    ids=["directory", "mail", "uri", "other"],
)
def test_constraints_on_names_that_are_not_compared_here_are_refused(tree, critical):
    for sort in ("permitted", "excluded"):
        middle = constrained(**{sort: [tree]}, critical=critical)
        assert code(leaf("leaf", middle), middle) == "name-constraints"


@pytest.mark.parametrize("hash_", [SHA384(), SHA512()])
def test_strong_hashes_are_accepted(hash_):
    middle = authority("middle", ROOT, hash_=hash_)
    assert judged(leaf("leaf", middle, hash_=hash_), middle) == 3


def test_a_signature_over_a_weak_hash_is_refused():
    root = authority("root", key=rsa_key())
    middle = authority("middle", root, key=rsa_key())
    signed = leaf("leaf", middle)
    assert judged(signed, middle, roots=(root,)) == 3
    assert code(signed_with_sha1(signed, middle), middle, roots=(root,)) == "weak-hash"
    assert code(signed, signed_with_sha1(middle, root), roots=(root,)) == "weak-hash"
    assert code(leaf("leaf", MIDDLE, hash_=SHA224()), MIDDLE) == "weak-hash"


def test_what_a_root_signed_itself_with_does_not_matter():
    root = authority("root", key=rsa_key())
    assert judged(leaf("leaf", root), roots=(signed_with_sha1(root, root),)) == 2


@pytest.mark.parametrize("where", ["root", "middle"])
@pytest.mark.parametrize("key", [lambda: rsa_key(1024), lambda: ec_key(ec.SECP256K1)], ids=["rsa1024", "secp256k1"])
def test_an_issuer_with_a_weak_key_is_refused(where, key):
    root = authority("root", key=key() if where == "root" else None)
    middle = authority("middle", root, key=key() if where == "middle" else None)
    assert code(leaf("leaf", middle), middle, roots=(root,)) == "unknown-authority"


@pytest.mark.parametrize("key", [rsa_key, ec_key, lambda: ec_key(ec.SECP384R1), lambda: ec_key(ec.SECP521R1)])
def test_issuers_may_have_rsa_and_nist_curves(key):
    root = authority("root", key=key())
    middle = authority("middle", root, key=key())
    assert judged(leaf("leaf", middle), middle, roots=(root,)) == 3


def test_ed25519_is_for_leaves_alone():
    """The library refuses Ed25519 authorities, and so it is documented."""
    signer = leaf("leaf", MIDDLE, key=ed25519.Ed25519PrivateKey.generate())
    assert judged(signer, MIDDLE) == 3
    root = authority("root", key=ed25519.Ed25519PrivateKey.generate())
    assert isinstance(judged(leaf("leaf", root), roots=(root,)), Finding)


def test_a_forged_signature_is_refused():
    """The names fit at every step; the keys do not."""
    impostor = authority("middle", ROOT)
    assert code(leaf("leaf", impostor), MIDDLE) == "unknown-authority"
    assert code(leaf("leaf", MIDDLE), MIDDLE, roots=(authority("root"),)) == "unknown-authority"


def test_of_two_authorities_with_one_name_the_right_one_is_found():
    impostor = authority("middle", authority("root"))
    assert judged(leaf("leaf", MIDDLE), impostor, MIDDLE, roots=(authority("root"), ROOT)) == 3


def test_a_chain_that_breaks_a_rule_does_not_hide_one_that_does_not():
    """One authority with two certificates, the first of which may not be used for code."""
    key = ec_key()
    narrow = authority("middle", ROOT, key=key, usages=[SERVER_AUTH])
    wide = authority("middle", ROOT, key=key)
    for order in ((narrow, wide), (wide, narrow)):
        assert judged(leaf("leaf", wide), *order) == 3


def test_a_leaf_is_not_its_own_root():
    """A key without an authority is listed as a key; and no responder could say whether it was revoked."""
    signer = leaf("leaf", None)
    assert judged(signer, roots=(signer,)) == UNKNOWN_AUTHORITY
    assert judged(signer, signer, roots=(signer,)) == UNKNOWN_AUTHORITY


def test_a_leaf_among_the_roots_still_needs_its_issuer():
    signer = leaf("leaf", MIDDLE)
    assert code(signer, roots=(signer,)) == "unknown-authority"
    assert judged(signer, MIDDLE, roots=(signer, ROOT)) == 3


def test_a_leaf_under_a_leaf_is_refused():
    upper = leaf("upper", MIDDLE)
    assert code(leaf("lower", upper), upper, MIDDLE) == "unknown-authority"


def test_a_certificate_of_version_1_is_no_authority():
    """It has no extensions, so nothing says that it is one."""
    root = issue("root", ca=None)
    assert code(leaf("leaf", root), roots=(root,)) == "unknown-authority"


def ladder(length):
    """A leaf and what leads to ROOT, `length` certificates in all."""
    found = [ROOT]
    for number in range(length - 2):
        found.append(authority(f"step {number}", found[-1]))
    return leaf("leaf", found[-1]), found[1:]


def test_a_path_has_at_most_so_many_certificates():
    signer, between = ladder(MAX_PATH)
    assert judged(signer, *between) == MAX_PATH
    signer, between = ladder(MAX_PATH + 1)
    assert code(signer, *between) == "unknown-authority"


def found_chains(certificate, intermediates, roots=(ROOT,)):
    read_all = lambda holders: [read_certificate(each.certificate) for each in holders]  # noqa: E731
    return chains(read_certificate(certificate.certificate), read_all(intermediates), read_all(roots))


def test_nobody_is_in_a_chain_twice():
    """Two authorities that certify each other make no circle."""
    upper_key, lower_key = ec_key(), ec_key()
    upper = authority("upper", ROOT, key=upper_key)
    lower = authority("lower", upper, key=lower_key)
    back = authority("upper", lower, key=upper_key)
    found = found_chains(leaf("leaf", lower), [upper, lower, back, ROOT])
    assert [len(chain.certificates) for chain in found] == [4]


def test_a_chain_whose_signatures_skip_an_issuer_is_no_path():
    """The names would fit with the authority's new certificate in between, which signed nothing of it."""
    old = authority("middle", ROOT)
    new = authority("middle", old)
    found = found_chains(leaf("leaf", old), [new, old])
    assert [(len(chain.certificates), chain.refusal is None) for chain in found] == [(3, True), (4, False)]


def test_the_number_of_chains_that_are_looked_at_is_bounded():
    roots = [authority("root", key=ec_key()) for _ in range(100)]
    assert len(found_chains(leaf("leaf", roots[0]), [], roots)) == 64


def test_authorities_that_certify_each_other_cost_bounded_work():
    """Sixty-four of one name, each certified by one of them: more chains than could ever be tried."""
    first = authority("same")
    crossed = [authority("same", first) for _ in range(64)]
    assert found_chains(leaf("leaf", first), crossed) == ()
