"""attacks.md: subordinate uids. A daemon that runs as root is asked from uids of user namespaces.

A process with a uid of its user's range is what a user namespace makes of it, as far as a socket can tell.
"""

import json
import os
import pwd
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers.site import APPROVED, PATIENCE, Site, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")

MALLORY, TRUSTY = "daemon", "nobody"  # accounts of every host
POLICY = """version: 1
signers:
  builder: {{pgp: [{builder}]}}
rules:
  - name: no-mallory
    match: {{users: [daemon], paths: ["{root}/images/**"], kinds: [sif, oci-sif, sandbox]}}
    decision: deny
  - name: for-trusty
    match: {{users: [nobody], paths: ["{root}/images/**"]}}
    require: [{{any_of: [builder]}}]
  - name: {last}
"""
FOR_ALL = POLICY.replace(
    "{last}", 'for-all\n    match: {{paths: ["{root}/images/**"]}}\n    require: [{{any_of: [builder]}}]'
)
FOR_TRUSTY = POLICY.replace("{last}", "nothing\n    match: {{paths: [/nowhere]}}\n    decision: deny")
BY_GROUP = FOR_ALL.replace("users: [daemon]", f"groups: ['{pwd.getpwnam(MALLORY).pw_gid}']")
ASK = """
    fd = os.open(sys.argv[2], os.O_RDONLY)
    print(json.dumps(Client(sys.argv[1]).ask(ClientRequest(METHOD, {'image': sys.argv[2], 'fd': True}, (fd,)))))
"""
UIDS = f"{MALLORY}:100000:65536\n{TRUSTY}:165536:65536\n{MALLORY}:300000:10\n{TRUSTY}:300000:10\nghost:400000:10\n"
GIDS = f"{MALLORY}:500000:65536\n{TRUSTY}:600000:65536\n"


class SubidSite(Site):
    """A site whose ranges of subordinate IDs are the test's."""

    def __init__(self, limits="{}"):
        super().__init__(limits)
        self.grant(UIDS, GIDS)

    def grant(self, uids, gids):
        for name, text in (("subuid", uids), ("subgid", gids)):
            new = self.root / f"{name}.new"
            new.write_text(text)
            new.chmod(0o644)
            new.rename(self.root / name)

    def command(self):
        code = (
            "import sys; from eclctl.daemon.lifecycle.service import serve\n"
            "from eclctl.config.subordinate_ids import Files\n"
            "sys.exit(serve(sys.argv[1], subids=Files(subuid=sys.argv[2], subgid=sys.argv[3])))"
        )
        return [sys.executable, "-c", code, str(self.config), str(self.root / "subuid"), str(self.root / "subgid")]


@pytest.fixture
def owned():
    """A site that has not started yet."""
    made = SubidSite()
    try:
        yield made
    finally:
        made.close()


def as_user(site, uid, *, gid=None, groups=(), method="check", code=ASK):
    """Ask about the approved image as a uid; what is printed is JSON."""
    prelude = (  # what is imported may lie where that user cannot read
        "import json, os, socket, sys\nfrom eclctl.client import Client, NoAnswerError, ClientRequest\n"
        f"METHOD = {method!r}\n"
        f"os.setgroups({groups!r}); os.setgid({uid if gid is None else gid}); os.setuid({uid})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code), site.check_socket, site.image(APPROVED)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return json.loads(done.stdout)


def start(site, policy):
    site.policy(policy)
    return site.start()


def uid_of(name):
    return pwd.getpwnam(name).pw_uid


def test_subordinate_uids_are_denied_what_their_user_is(owned):
    start(owned, FOR_ALL)
    assert as_user(owned, 4242)["rule"] == "for-all"
    for uid in (uid_of(MALLORY), 100000, 100001, 165535):
        answer = as_user(owned, uid)
        assert (answer["decision"], answer["code"], answer["rule"]) == ("deny", "rule-deny", "no-mallory")
    records = {record["uid"]: record for record in owned.audit() if record["event"] == "decision"}
    assert records[100001]["person"] == uid_of(MALLORY)
    assert records[4242]["person"] is None


def test_subordinate_uids_are_denied_what_groups_of_their_user_are(owned):
    start(owned, BY_GROUP)
    assert as_user(owned, 4242)["rule"] == "for-all"
    assert as_user(owned, 100001)["rule"] == "no-mallory"


def test_subordinate_gids_hide_no_group_of_their_user(owned):
    """A user who has subordinate gids can leave their own groups behind."""
    start(owned, BY_GROUP)
    assert as_user(owned, uid_of(MALLORY), gid=500001)["rule"] == "no-mallory"
    assert as_user(owned, 100001, gid=500001, groups=[500002])["rule"] == "no-mallory"
    assert (
        as_user(owned, 4242, groups=[500002])["rule"] == "no-mallory"
    )  # who else has such a gid is denied as they are


def test_subordinate_uids_are_allowed_what_their_user_is_and_no_other(owned):
    start(owned, FOR_TRUSTY)
    assert as_user(owned, uid_of(TRUSTY))["rule"] == "for-trusty"
    assert as_user(owned, 165537)["rule"] == "for-trusty"
    assert as_user(owned, 4242)["code"] == "no-rule"


def test_subordinate_gids_make_no_caller_their_user(owned):
    """Who runs a program that is setgid to a subordinate gid has that gid, and is not its owner."""
    group = pwd.getpwnam(TRUSTY).pw_gid
    start(owned, FOR_TRUSTY.replace("users: [nobody]", f"groups: ['{group}']"))
    assert as_user(owned, 165537)["rule"] == "for-trusty"
    assert as_user(owned, 4242, gid=600001)["code"] == "no-rule"
    assert as_user(owned, 4242, gid=group)["rule"] == "for-trusty"


def test_subordinate_uids_of_several_users_are_allowed_as_none_and_denied_as_each(owned):
    start(owned, FOR_TRUSTY)
    assert as_user(owned, 300001)["rule"] == "no-mallory"
    owned.policy(FOR_TRUSTY.replace("users: [daemon]", "users: ['4243']"))
    assert owned.order("reload")["ok"]
    assert as_user(owned, 300001)["code"] == "no-rule"


def test_subordinate_uids_of_an_unknown_user_are_denied_what_any_user_is(owned):
    start(owned, FOR_ALL)
    assert as_user(owned, 400001)["rule"] == "no-mallory"


def test_subordinate_uids_that_are_accounts_are_themselves_and_denied_as_the_owner(owned):
    account = uid_of(TRUSTY)
    owned.grant(f"{MALLORY}:{account}:1\n", "")
    start(owned, FOR_TRUSTY)
    assert as_user(owned, account)["rule"] == "no-mallory"
    assert owned.ask("check", image=owned.image(APPROVED), subject_uid=account)["rule"] == "no-mallory"
    shown = owned.order("status")
    assert shown["subordinate_ids"]["uids"]["holding"] == [{"first": account, "last": account, "owners": [MALLORY]}]
    assert "subid-accounts" in {each["code"] for each in shown["attention"]}
    owned.policy(FOR_TRUSTY.replace("users: [daemon]", "users: ['4243']"))
    assert owned.order("reload")["ok"]
    assert as_user(owned, account)["rule"] == "for-trusty"


def test_subordinate_uids_whose_user_is_denied_are_told_so(owned):
    start(owned, FOR_ALL)
    answer = as_user(owned, 100001, method="explain")
    assert answer["caller"] == (
        f"uid 100001 is no account, and lies in a range of '{MALLORY}' ({owned.root}/subuid): "
        f"it counts as uid {uid_of(MALLORY)}"
    )
    assert as_user(owned, 4242, method="explain")["caller"] is None


def test_subordinate_uids_share_the_limits_of_their_user():
    made = SubidSite("{connections_per_user: 6}")
    hold = """
        held = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for each in held:
            each.connect(sys.argv[1])
        counts = 0
        for each in held:
            each.settimeout(10)
            try:
                each.sendall(b'{"v":1,"id":"1","method":"ping","parameters":{}}\\n')
                counts += b'"result"' in each.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it was turned away
        print(json.dumps(counts), flush=True)
        sys.stdin.read()
    """
    prelude = "import json, os, socket, sys\nos.setgroups([]); os.setgid({0}); os.setuid({0})\n"
    waiting = []

    def connect(uid):
        code = prelude.format(uid) + textwrap.dedent(hold)
        argv = [sys.executable, "-c", code, made.check_socket]
        waiting.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return json.loads(waiting[-1].stdout.readline())

    try:
        made.start()
        assert [connect(uid) for uid in (100001, 100002, 165537, uid_of(MALLORY))] == [4, 2, 4, 0]
    finally:
        for process in waiting:
            process.communicate("")
        made.close()


def test_subordinate_uids_are_known_soon_after_the_file_changes_without_a_reload(owned):
    start(owned, FOR_ALL)
    assert as_user(owned, 700001)["rule"] == "for-all"
    owned.grant(f"{UIDS}{MALLORY}:700000:10\n", GIDS)
    eventually(lambda: as_user(owned, 700001)["rule"] == "no-mallory")


def test_subordinate_uids_are_known_at_a_reload(owned):
    start(owned, FOR_ALL)
    owned.grant(f"{UIDS}{MALLORY}:700000:10\n", GIDS)
    assert owned.order("reload")["ok"]
    assert as_user(owned, 700001)["rule"] == "no-mallory"


def test_subordinate_uids_of_a_file_that_others_can_write_stay_what_they_were(owned):
    start(owned, FOR_ALL)
    assert as_user(owned, 100001)["rule"] == "no-mallory"
    Path(owned.root / "subuid").write_text("")
    os.chmod(owned.root / "subuid", 0o666)
    assert owned.order("reload")["ok"]
    eventually(lambda: "subid-file" in {each["code"] for each in owned.order("status")["attention"]})
    assert as_user(owned, 100001)["rule"] == "no-mallory"


def test_subordinate_uids_are_any_users_where_the_file_could_never_be_trusted(owned):
    os.chmod(owned.root / "subuid", 0o666)
    start(owned, FOR_ALL)
    assert as_user(owned, 4242)["rule"] == "no-mallory"
    assert as_user(owned, uid_of(TRUSTY))["rule"] == "for-trusty"


def test_subordinate_uids_of_root_have_none_of_roots_rights(owned):
    owned.grant("root:800000:10\n", "root:800000:10\n")
    start(owned, FOR_ALL)
    os.chmod(owned.admin_socket, 0o666)
    code = """
        try:
            print(json.dumps(Client(PATH).ask(ClientRequest(METHOD, PARAMETERS))))
        except NoAnswerError as error:
            print(json.dumps(error.code))
    """
    admin = code.replace("PATH", repr(owned.admin_socket)).replace("PARAMETERS", "{}")
    other = code.replace("PATH", "sys.argv[1]").replace("PARAMETERS", "{'image': sys.argv[2], 'subject_uid': 0}")
    assert as_user(owned, 800001, method="status", code=admin) == "not-permitted"
    assert as_user(owned, 800001, method="check", code=other) == "not-permitted"


def test_subordinate_uids_overlaps_are_named_by_status(owned):
    start(owned, FOR_ALL)
    shown = owned.order("status")
    assert shown["subordinate_ids"]["uids"]["overlapping"] == [
        {"first": 300000, "last": 300009, "owners": sorted([MALLORY, TRUSTY])}
    ]
    assert "subid-overlap" in {each["code"] for each in shown["attention"]}


def test_subordinate_gids_fill_no_memory(owned):
    """With 65,536 of them, each connection would cost megabytes, and its credentials ten milliseconds."""
    start(owned, FOR_ALL)
    answer = as_user(
        owned,
        uid_of(MALLORY),
        gid=500000,
        groups=range(500000, 565536),
        code="""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(sys.argv[1])
            print(json.dumps(json.loads(peer.recv(4096))["error"]))
        """,
    )
    assert (answer["code"], "groups" in answer["message"]) == ("not-permitted", True), answer
