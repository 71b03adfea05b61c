"""What a name, a digest or an image stands for when it is to be withdrawn."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from eclctl.errors import ConfigError, EclctlError
from eclctl.model import Code
from eclctl.preview.withdrawing import content_of, digest_of, signatory, with_withdrawn
from tests.helpers.engines import RULES, SIGNERS, Site
from tests.helpers.ocibuilder import OciBuilder, cosign_key
from tests.helpers.previews import LENIENT
from tests.helpers.sifbuilder import SifBuilder
from tests.helpers.support import CORPUS

BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
PEM = CORPUS / "keys" / "pem"


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError("cannot be opened") from error


def test_a_signers_name_stands_for_all_of_their_keys(site: Site) -> None:
    found = signatory(site.use_policy(RULES), "builder", read)
    assert (found.signer, found.names, found.people) == ("builder", (BUILDER,), ("builder",))


@pytest.mark.parametrize("text", [BUILDER, BUILDER.lower(), " ".join(BUILDER[n : n + 4] for n in range(0, 40, 4))])
def test_a_fingerprint_stands_for_one_key_in_any_case_and_spacing(site: Site, text: str) -> None:
    found = signatory(site.use_policy(RULES), text, read)
    assert (found.signer, found.names) == (None, (BUILDER,))


def test_a_key_of_the_keyring_that_no_signer_lists_can_be_withdrawn(site: Site) -> None:
    snapshot = site.use_policy(RULES)
    unlisted = next(
        each.fingerprint
        for each in snapshot.store.pgp.certificates
        if snapshot.policy is not None and snapshot.policy.holders[each.fingerprint].people == (each.fingerprint,)
    )
    assert signatory(snapshot, unlisted, read).people == ()


def test_a_subkey_stands_for_its_certificate(site: Site) -> None:
    snapshot = site.use_policy(RULES)
    certificate = next(each for each in snapshot.store.pgp.certificates if len(each.keys) > 1)
    assert signatory(snapshot, certificate.keys[1].fingerprint, read).names == (certificate.fingerprint,)


def test_a_pem_key_goes_by_its_file_its_digest_and_its_cosign_name(site: Site) -> None:
    key = next(path for path in sorted(PEM.iterdir()) if "p256" in path.name and b"PUBLIC" in path.read_bytes())
    text = SIGNERS.replace("roles:", f"  ci: {{key: [{key}], cosign: [{key}]}}\nroles:")
    snapshot = site.use_policy(RULES, text)
    by_file = signatory(snapshot, str(key), read)
    assert by_file.people == ("ci",)
    assert len(by_file.names) == 2
    for name in by_file.names:
        assert signatory(snapshot, name, read) == by_file


def test_an_openpgp_file_stands_for_the_keys_in_it(site: Site) -> None:
    file = CORPUS / "keys" / "pgp" / "builder.asc"
    assert signatory(site.use_policy(RULES), str(file), read).names == (BUILDER,)


@pytest.mark.parametrize("text", ["bilder", "0" * 40, "sha256:" + "0" * 64, "/nonexistent", str(CORPUS / "README.md")])
def test_what_stands_for_no_key_of_the_policy_is_refused(site: Site, text: str) -> None:
    with pytest.raises(ConfigError, match="is no signer and no key of today's policy"):
        signatory(site.use_policy(RULES), text, read)


def test_a_digest_is_sha256_and_lower_case() -> None:
    assert digest_of("SHA256:" + "AB" * 32) == "sha256:" + "ab" * 32
    for wrong in ("ab" * 32, "sha256:ab", "sha512:" + "ab" * 64, ""):
        with pytest.raises(ConfigError):
            digest_of(wrong)


def test_withdrawing_leaves_what_was_withdrawn_before(site: Site) -> None:
    first = with_withdrawn(site.use_policy(RULES), digests=frozenset({"sha256:" + "0" * 64}))
    both = with_withdrawn(first, signatories=(signatory(first, "builder", read),))
    assert both.policy is not None
    assert both.policy.withdrawn.digests == {"sha256:" + "0" * 64}
    assert both.policy.withdrawn.signers == ("builder",)
    assert both.digest is None


def test_an_image_stands_for_its_primary_partition_which_withdrawn_stops_it_under_any_signatures(site: Site) -> None:
    path = site.image("a.sif", "one-builder.sif")
    snapshot = site.use_policy(LENIENT)
    content = content_of(str(path), snapshot.store)
    assert (content.sort, content.what) == ("objects", "object 3, its primary partition")
    site.engine.install(with_withdrawn(snapshot, digests=frozenset({content.digest})))
    for name in ("one-builder.sif", "one-unsigned.sif", "one-builder+scanner.sif"):
        assert site.ask(site.image(name, name)).code is Code.WITHDRAWN


def test_an_image_without_a_single_primary_partition_is_refused_with_its_objects(site: Site, tmp_path: Path) -> None:
    made = SifBuilder()
    made.add(b"data")
    path = tmp_path / "data.sif"
    path.write_bytes(made.build())
    digest = "sha256:" + hashlib.sha256(b"data").hexdigest()
    with pytest.raises(ConfigError) as caught:
        content_of(str(path), site.engine.snapshot.store)
    assert f"no single primary partition; choose with --object from its objects: 1 ({digest})" in str(caught.value)


def test_an_oci_sif_stands_for_the_manifest_of_its_image(site: Site, tmp_path: Path) -> None:
    builder = OciBuilder()
    manifest = builder.add_image(b"hsqs" + bytes(4092))
    builder.sign(cosign_key())
    path = tmp_path / "oci.sif"
    path.write_bytes(builder.build())
    content = content_of(str(path), site.engine.snapshot.store)
    assert (content.sort, content.digest, content.what) == ("manifests", manifest, "the manifest of its OCI image")


def test_a_file_that_is_no_sif_stands_for_itself(site: Site) -> None:
    content = content_of(str(CORPUS / "images" / "not-a-sif.sif"), site.engine.snapshot.store)
    assert (content.sort, content.what) == ("objects", "the whole file")


def test_what_is_no_file_is_refused(site: Site, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError):
            content_of(str(path), site.engine.snapshot.store)


def test_a_malformed_image_is_refused(site: Site) -> None:
    with pytest.raises(EclctlError):
        content_of(str(CORPUS / "images" / "struct-descr-total-huge.sif"), site.engine.snapshot.store)
