"""A site that leaves ECL: its ecl.toml imported by the command, and a daemon that answers as ECL did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.helpers.ecl import KEYS, Ecl, Group, Image, images, put
from tests.helpers.site import ECLCTL, Site
from tests.helpers.support import CORPUS

KINDS = ("strict", "listed", "forbidden", "elsewhere")


@pytest.fixture
def library(quiet_site: Site):
    """A site with ECL's keyring and every corpus image in each of four directories; its daemon does not run yet."""
    shutil.rmtree(quiet_site.root / "keys.d")
    (quiet_site.root / "keys.d").mkdir(mode=0o755)
    shutil.copyfile(CORPUS / "keys" / "pgp" / "site-ring.asc", quiet_site.root / "keys.d" / "global-pgp-public")
    for name in KINDS:
        folder = quiet_site.root / name
        folder.mkdir(mode=0o755)
        for image in images():
            put(image, folder)
    return quiet_site


def configuration(site: Site, *, legacy: bool = False) -> Ecl:
    root = str(site.root)
    return Ecl(
        (
            Group("whitestrict", f"{root}/strict", (KEYS["builder"], KEYS["scanner"])),
            Group("whitelist", f"{root}/listed", (KEYS["builder"].lower(), KEYS["approver"])),
            Group("blacklist", f"{root}/forbidden", (KEYS["scanner"],)),
            Group("whitelist", "", (KEYS["release"],)),
        ),
        legacy=legacy,
    )


def import_ecl(site: Site, ecl: Ecl, *options: str) -> dict[str, dict]:
    """Import with the command into the place of the site's policy; return the report on each rule."""
    file = site.root / "ecl.toml"
    file.write_bytes(ecl.toml())
    target = site.root / "policies.d" / "10.yaml"
    keyring = str(site.root / "keys.d" / "global-pgp-public")
    command = [*ECLCTL, "policy", "import-ecl", "--json", "--keyring", keyring, "-o", str(target), *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {group["rule"]: group for group in json.loads(done.stdout)["groups"]}


def ask(site: Site, path: str) -> dict:
    return site.check_open(path, os.open(path, os.O_RDONLY))


def differences(site: Site, ecl: Ecl, rules: dict[str, dict]) -> dict[str, list[tuple[str, Image]]]:
    """Ask the daemon about every image; return those of which it says something else than ECL, by what that is."""
    found: dict[str, list[tuple[str, Image]]] = {"stricter": [], "laxer": []}
    for name in KINDS:
        for image in images():
            path = f"{site.root}/{name}/{image.name}"
            answer, theirs = ask(site, path), ecl.should_run(path, image)
            ours = answer["decision"] == "allow"
            if ours is not theirs:
                relation = "laxer" if ours else "stricter"
                rule = rules[answer["rule"] or "name"]  # what is malformed is refused before there is a rule
                assert rule[relation], (path, answer)
                assert answer["rule"] or "strict-reading" in rule[relation]
                found[relation].append((answer["code"], image))
    return found


def test_the_daemon_answers_as_ecl_or_as_the_report_says(library: Site) -> None:
    ecl = configuration(library)
    rules = import_ecl(library, ecl)
    library.start()
    found = differences(library, ecl, rules)
    codes = {code for code, _ in found["stricter"]}
    assert codes == {"malformed", "unknown-signature", "requirements-not-met", "forbidden"}
    assert found["laxer"] == []
    allowed = [image.name for image in images() if ecl.should_run(f"{library.root}/strict/x", image)]
    assert "one-builder+scanner.sif" in allowed
    assert ask(library, f"{library.root}/strict/one-builder+scanner.sif")["decision"] == "allow"


def test_an_image_in_a_directory_that_its_user_can_write_is_refused_unless_chosen_otherwise(library: Site) -> None:
    """As the report says of user-writable: ECL does not ask."""
    ecl = configuration(library)
    assert "user-writable" in import_ecl(library, ecl)["name"]["stricter"]
    library.start()
    (library.root / "strict").chmod(0o777)
    path = f"{library.root}/strict/one-builder+scanner.sif"
    assert ask(library, path)["code"] == "assurance-too-low"
    assert "later-changes" in import_ecl(library, ecl, "--assurance", "none")["name"]["laxer"]
    library.order("reload")
    assert ask(library, path)["code"] == "requirements-met"


def test_while_it_is_permissive_what_ecl_runs_runs_and_what_would_be_refused_is_recorded(library: Site) -> None:
    """The way to leave ECL: it goes on refusing, and the audit log tells what eclctl would."""
    ecl = configuration(library)
    import_ecl(library, ecl, "--permissive")
    library.start()
    path = f"{library.root}/strict/two-g1-builder+g2-scanner.sif"
    answer = ask(library, path)
    assert (answer["decision"], answer["code"], answer["mode"]) == ("allow", "permissive", "permissive")
    assert [line["would"] for line in library.audit() if line.get("would")] == ["requirements-not-met"]


def test_old_signatures_are_refused_until_images_are_signed_anew(library: Site) -> None:
    ecl = configuration(library, legacy=True)
    rules = import_ecl(library, ecl)
    library.start()
    assert all(rule["decision"] == "deny" for rule in rules.values())
    found = differences(library, ecl, rules)
    assert found["laxer"] == []
    assert {image.name for _, image in found["stricter"]} >= {"object-primary.sif", "all-objects.sif"}
    import_ecl(library, ecl, "--modern")
    library.order("reload")
    both = f"{library.root}/listed/{_signed_both_ways()}"
    assert ask(library, both)["code"] == "requirements-met"


def _signed_both_ways() -> str:
    return next(image.name for image in images() if image.legacy.ok and image.modern.ok)
