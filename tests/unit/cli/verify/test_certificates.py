"""`eclctl verify --certificate`: its files, what it says of the signer, and what responders say."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from eclctl.cli.verify import command as verify
from tests.helpers.certificates import authority, leaf
from tests.helpers.sifbuilder import pem_key
from tests.helpers.support import CORPUS

KEYS = CORPUS / "keys" / "x509"
IMAGE = str(CORPUS / "images" / "one-dsse-p256.sif")
PGP_IMAGE = str(CORPUS / "images" / "one-builder.sif")
RING = str(CORPUS / "keys" / "pgp" / "site-ring.asc")
PEM_KEY = str(CORPUS / "keys" / "pem" / "p256-public.pem")
CERTIFICATE = ["--certificate", str(KEYS / "leaf.pem")]
INTERMEDIATES = ["--certificate-intermediates", str(KEYS / "intermediate.pem")]
ROOTS = ["--certificate-roots", str(KEYS / "root.pem")]
TRUSTED = [*CERTIFICATE, *INTERMEDIATES, *ROOTS]


def run_json(capsys, *arguments):
    status = verify.run(["--json", *arguments])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def fingerprint():
    found = x509.load_pem_x509_certificate((KEYS / "leaf.pem").read_bytes())
    return "sha256:" + found.fingerprint(found.signature_hash_algorithm).hex()


def test_a_certificate_is_a_signer_of_its_own_kind(capsys):
    status, (shape,) = run_json(capsys, *TRUSTED, IMAGE)
    assert (status, shape["verified"], shape["error"]) == (0, True, None)
    (signature,) = shape["signatures"]
    assert signature["signer"] == {"kind": "certificate", "id": fingerprint(), "name": "CN=leaf,O=Corpus 101"}
    assert signature["objects"] == [1, 2, 3]


def test_people_are_told_the_subject_and_the_fingerprint(capsys):
    assert verify.run([*TRUSTED, IMAGE]) == 0
    out, err = capsys.readouterr()
    assert "Signing entity: CN=leaf,O=Corpus 101\n" in out
    assert f"Fingerprint: {fingerprint()}\n" in out
    assert f"key material from certificate '{KEYS / 'leaf.pem'}'" in err
    assert "PGP" not in err


def test_a_certificate_without_a_path_fails_the_image_before_its_signatures_are_looked_at(capsys):
    status, shapes = run_json(capsys, *CERTIFICATE, *ROOTS, IMAGE, PGP_IMAGE)
    assert status == 1
    error = {"code": "unknown-authority", "message": "x509: certificate signed by unknown authority"}
    assert [(shape["verified"], shape["error"], shape["signatures"]) for shape in shapes] == [(False, error, [])] * 2


def test_a_certificate_without_a_path_fails_though_the_key_is_given_too(capsys):
    status, (shape,) = run_json(capsys, *CERTIFICATE, *ROOTS, "--key", PEM_KEY, IMAGE)
    assert (status, shape["error"]["code"]) == (1, "unknown-authority")


def test_a_malformed_image_is_told_before_the_certificate(capsys):
    _, (shape,) = run_json(capsys, *CERTIFICATE, *ROOTS, str(CORPUS / "images" / "not-a-sif.sif"))
    assert shape["error"]["code"] == "malformed"


def test_certificates_keys_and_keyrings_are_used_together(capsys):
    both = str(CORPUS / "images" / "one-builder+dsse-p256.sif")
    status, (shape,) = run_json(capsys, *TRUSTED, "--keyring", RING, both)
    assert [found["signer"]["kind"] for found in shape["signatures"]] == ["pgp", "certificate"]
    assert status == 0
    status, (shape,) = run_json(capsys, *TRUSTED, PGP_IMAGE)
    assert status == 1
    assert shape["error"]["message"] == "integrity: key material not provided for PGP clear-sign signature"


def test_a_key_that_is_given_beside_its_certificate_is_named_as_the_key(capsys):
    status, (shape,) = run_json(capsys, *TRUSTED, "--key", PEM_KEY, IMAGE)
    signer = shape["signatures"][0]["signer"]
    assert (status, signer["kind"], signer["id"]) == (0, "key", pem_key("p256").public.id)


def test_roots_and_intermediates_repeat(capsys):
    more = ["--certificate-roots", str(KEYS / "other-root.pem")]
    other = ["--certificate-intermediates", str(KEYS / "intermediate-expired.pem")]
    assert run_json(capsys, *CERTIFICATE, *other, *INTERMEDIATES, *more, *ROOTS, IMAGE)[0] == 0


@pytest.mark.parametrize(
    "arguments", [INTERMEDIATES, ROOTS, ["--ocsp-verify"], [*INTERMEDIATES, *ROOTS, "--ocsp-verify", "--key", PEM_KEY]]
)
def test_options_for_a_certificate_need_one(capsys, arguments):
    assert verify.run([*arguments, IMAGE]) == 2
    assert "need --certificate FILE" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["--certificate", "--certificate-intermediates", "--certificate-roots"])
@pytest.mark.parametrize("bad", [str(KEYS / "leaf-key.pem"), RING, "/nonexistent/x.pem"])
def test_a_file_that_holds_no_certificate_is_a_usage_error(capsys, what, bad):
    arguments = [*CERTIFICATE, what, bad] if what != "--certificate" else [what, bad, *ROOTS]
    status, (shape,) = run_json(capsys, *arguments, IMAGE)
    assert (status, shape["error"]["code"], shape["verified"]) == (2, "key-material", False)


def test_without_roots_the_system_s_are_trusted(capsys, tmp_path, monkeypatch):
    """As OpenSSL's variables name them; a root there that cannot be read strictly does not stop the others."""
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    bundle = tmp_path / "roots.pem"
    bundle.write_bytes(b"# comment\n" + broken + (KEYS / "root.pem").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert run_json(capsys, *CERTIFICATE, *INTERMEDIATES, IMAGE)[0] == 0
    bundle.write_bytes((KEYS / "other-root.pem").read_bytes())
    assert run_json(capsys, *CERTIFICATE, *INTERMEDIATES, IMAGE)[0] == 1


def test_the_system_s_roots_may_be_a_directory(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "01234567.0").write_bytes((KEYS / "root.pem").read_bytes())
    (folder / "notes.txt").write_text("junk")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    assert run_json(capsys, *CERTIFICATE, *INTERMEDIATES, IMAGE)[0] == 0


def test_a_system_without_roots_is_told(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    status, (shape,) = run_json(capsys, *CERTIFICATE, *INTERMEDIATES, IMAGE)
    assert status == 2
    assert "give --certificate-roots FILE" in shape["error"]["message"]


def lasting():
    """When certificates are valid that a command judges by the real clock."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {"begins": now - timedelta(days=1), "ends": now + timedelta(days=1)}


def site_ca(tmp_path, *urls):
    """Options for a certificate of the corpus's signing key under a CA of ours, whose responders are `urls`."""
    method = AuthorityInformationAccessOID.OCSP
    found = [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for url in urls]
    access = [(x509.AuthorityInformationAccess(found), False)] if urls else []
    root = authority("root", **lasting())
    (tmp_path / "root.pem").write_bytes(root.pem)
    signer = leaf("leaf", root, key=pem_key("p256").private, extensions=access, **lasting())
    (tmp_path / "leaf.pem").write_bytes(signer.pem)
    return ["--certificate", str(tmp_path / "leaf.pem"), "--certificate-roots", str(tmp_path / "root.pem")]


@pytest.mark.parametrize("named", [True, False])
def test_with_ocsp_verify_no_answer_is_not_good(capsys, tmp_path, named):
    """Whether no process listens at the responder's address or the certificate names no responder."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{held.getsockname()[1]}/"] if named else []
        options = site_ca(tmp_path, *urls)
        assert run_json(capsys, *options, IMAGE)[0] == 0
        status, (shape,) = run_json(capsys, *options, "--ocsp-verify", IMAGE)
        assert (status, shape["signatures"]) == (1, [])
        assert shape["error"] == {"code": "ocsp", "message": "OCSP verification has failed"}
        assert verify.run([*options, "--ocsp-verify", IMAGE]) == 1
    assert "WARNING: the certificate CN=leaf is not known to be good (unavailable: " in capsys.readouterr().err


def test_local_asks_no_responder(capsys, tmp_path):
    """The socket would see a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = site_ca(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}/")
        assert verify.run([*options, "--ocsp-verify", "--local", IMAGE]) == 2
        assert "leave out --local or --ocsp-verify" in capsys.readouterr().err
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert verify.run([*options, "--local", IMAGE]) == 0


def test_nobody_is_asked_about_a_certificate_without_a_path(capsys, tmp_path):
    """Its URLs are the choice of who made it. The socket would see a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = site_ca(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}/")
        (tmp_path / "root.pem").write_bytes(authority("root", **lasting()).pem)
        _, (shape,) = run_json(capsys, *options, "--ocsp-verify", IMAGE)
        assert shape["error"]["code"] == "unknown-authority"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
