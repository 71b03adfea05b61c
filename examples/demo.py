"""A real daemon over a small image library: what it allows, what it denies, and why.

`make demo` runs through a tour and stops; `make run` leaves the daemon in the foreground. Everything happens in a
directory of its own under the temporary directory, which is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from examples.responder import Authority, authority

HERE = Path(__file__).resolve().parent
ECLCTL = Path(sys.executable).parent / "eclctl"
PATIENCE = 30.0
FRESH = timedelta(seconds=4)  # for how long the responder's answers are good; a real one says hours or days

CONFIG = """\
version: 1
sockets: {{check: run/eclctl.sock, admin: run/admin.sock}}
state_dir: state
policies: [policies.d]
keyrings: [rings.d]
watch: [{{path: library, recursive: true, rescan: 15m}}]
metrics: {{listen: "127.0.0.1:{port}"}}
audit: {{path: audit.jsonl}}
trusted_owners: [root, "{uid}"]
ocsp: {{max_age: 4s}}  # for the sake of the demonstration; a site says a day
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Site:
    """A private directory with a configuration, policies, keys and a library of images."""

    def __init__(self, root: Path, release: Authority) -> None:
        self.root = root
        self.release = release
        self.library = root / "library"
        self.config = root / "config.yaml"
        self.policy = root / "policies.d" / "10-production.yaml"
        self.check_socket = root / "run" / "eclctl.sock"
        self.admin_socket = root / "run" / "admin.sock"
        self.port = free_port()

    def lay_out(self) -> None:
        for name in ("policies.d", "keys.d", "run", "library"):
            (self.root / name).mkdir()
        for image in sorted((HERE / "library").glob("*.sif")):
            shutil.copyfile(image, self.library / image.name)
        (self.root / "rings.d").mkdir()
        shutil.copyfile(HERE / "keys" / "site.asc", self.root / "rings.d" / "site.asc")
        for key in sorted((HERE / "keys").glob("*.pub")):
            shutil.copyfile(key, self.root / "keys.d" / key.name)
        self.release.write(self.root / "certs")
        self.write_policy((HERE / "policies" / "10-production.yaml").read_text())
        self.config.write_text(CONFIG.format(uid=os.getuid(), port=self.port))

    def write_policy(self, text: str) -> None:
        self.policy.write_text(text.replace("@LIBRARY@", str(self.library)))


@contextmanager
def site() -> Iterator[Site]:
    os.umask(0o022)
    root = Path(tempfile.mkdtemp(prefix="eclctl-demo-")).resolve()
    root.chmod(0o755)
    try:
        with authority(HERE / "keys" / "release.pub", FRESH) as release:
            made = Site(root, release)
            made.lay_out()
            yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def daemon(made: Site) -> Iterator[subprocess.Popen[bytes]]:
    with (made.root / "daemon.log").open("wb") as log:
        process = subprocess.Popen([ECLCTL, "daemon", "--config", made.config], stderr=log, stdout=log)
        try:
            if (
                not wait_for(lambda: made.check_socket.exists() or process.poll() is not None)
                or process.poll() is not None
            ):
                raise SystemExit("the daemon did not start:\n" + (made.root / "daemon.log").read_text())
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)


def wait_for(condition: Callable[[], object]) -> bool:
    """Wait until a condition holds; return whether it came to hold in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def show(made: Site, command: str, *, expect: int | None = 0) -> str:
    """Print a command as a reader would type it, run it, print what it says; fail on another exit status."""
    print(f"$ {command}", flush=True)
    words = [str(ECLCTL) if word == "eclctl" else word for word in shlex.split(command)]
    if words[1] in {"check", "explain"}:
        words += ["--socket", str(made.check_socket)]
    if words[1] in {"status", "reload"}:
        words += ["--socket", str(made.admin_socket)]
    done = subprocess.run(
        words, cwd=made.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    sys.stdout.write(done.stdout)
    print(f"[exit {done.returncode}]", flush=True)
    if expect is not None and done.returncode != expect:
        raise SystemExit(f"expected exit status {expect}")
    return done.stdout


def images_known(made: Site) -> int:
    """Ask the daemon how many images it has verified and remembers."""
    words = [ECLCTL, "status", "--json", "--socket", made.admin_socket]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout)["cache"]["entries"])


def tour(made: Site) -> None:
    say("The policy")
    print(made.policy.read_text().rstrip())
    say("Built, and approved by two of the security team: it may run.")
    show(made, "eclctl check library/approved.sif")
    say("Built, with one of two approvals: it may not, and the answer says who is missing.")
    show(made, "eclctl check library/half-approved.sif", expect=1)
    say("Not signed at all.")
    show(made, "eclctl check library/unsigned.sif", expect=1)
    say("Approved once, then one bit of its root file system was changed.")
    show(made, "eclctl check library/tampered.sif", expect=1)
    say("A stranger's signature that carries the builder's fingerprint in its descriptor.")
    show(made, "eclctl check library/forged.sif", expect=1)
    say("Why can't I run this, and who can help?")
    show(made, "eclctl explain library/half-approved.sif", expect=None)
    say("What Singularity's own verify would say of the signatures.")
    show(made, "eclctl verify --keyring rings.d/site.asc library/approved.sif")
    other_signatures(made)
    drop_image(made)
    change_policy(made)
    show_records(made)


def other_signatures(made: Site) -> None:
    say("Other kinds of signatures count the same: built under a PEM key; approved under a certificate.")
    show(made, "eclctl check library/robot.sif")
    show(made, "eclctl check library/released.sif")
    say("A chain of three: cosign by CI, OpenPGP by the builder, and the release team's certificate.")
    show(made, "eclctl check library/app.oci.sif")
    show(made, "eclctl explain library/app-unreleased.oci.sif", expect=None)
    show(made, "eclctl verify --cosign --key keys.d/ci.pub library/app.oci.sif")
    say("The release team's key is lost. The authority revokes the certificate, and the next answer is another.")
    made.release.revoke()
    if not wait_for(lambda: not allowed(made, "library/app.oci.sif")):
        raise SystemExit("the revocation did not come through")
    show(made, "eclctl check library/app.oci.sif", expect=1)
    show(made, "eclctl check library/released.sif", expect=1)


def allowed(made: Site, image: str) -> bool:
    words = [ECLCTL, "check", "--quiet", "--socket", made.check_socket, image]
    return subprocess.run(words, cwd=made.root, capture_output=True, check=False).returncode == 0


def drop_image(made: Site) -> None:
    say("A new image is dropped into the watched directory; the daemon verifies it ahead of the first launch.")
    wait_for(lambda: images_known(made) == len(list(made.library.iterdir())))
    before = images_known(made)
    print("$ cp library/approved.sif new.part && mv new.part library/new.sif")
    shutil.copyfile(made.library / "approved.sif", made.root / "new.part")
    (made.root / "new.part").rename(made.library / "new.sif")
    if not wait_for(lambda: images_known(made) > before):
        raise SystemExit("the watcher did not pick the image up")
    answer = json.loads(show(made, "eclctl check --json library/new.sif"))
    print(f"-> cached: {answer['cached']} (the very first question about it)")
    if not answer["cached"]:
        raise SystemExit("the image was not verified ahead of time")


def change_policy(made: Site) -> None:
    say("The policy is relaxed to one approval, and reloaded: the half approved image may run now.")
    text = made.policy.read_text()
    made.policy.write_text(text.replace("count: 2", "count: 1"))
    show(made, "eclctl reload")
    show(made, "eclctl check library/half-approved.sif")
    say("A broken policy is refused, and the last good one stays.")
    made.policy.write_text(text.replace("of: security", "of: securty"))
    show(made, "eclctl reload", expect=1)
    show(made, "eclctl check library/half-approved.sif")
    made.policy.write_text(text)
    show(made, "eclctl reload")
    show(made, "eclctl check library/half-approved.sif", expect=1)


def show_records(made: Site) -> None:
    say("Status")
    show(made, "eclctl status")
    say("One audit record for each decision; the last one:")
    print((made.root / "audit.jsonl").read_text().splitlines()[-1])
    say("Metrics")
    for line in metrics(made):
        print(line)


def metrics(made: Site) -> list[str]:
    wanted = (
        "eclctl_decisions_total",
        "eclctl_reloads_total",
        "eclctl_policy_generation",
        "eclctl_cache_entries",
        "eclctl_watch_prefetched",
        "eclctl_ocsp",
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{made.port}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return [line for line in lines if line.startswith(wanted) and not line.endswith(" 0.0")]


def serve(made: Site) -> None:
    process = subprocess.Popen([ECLCTL, "daemon", "--config", made.config])
    try:
        if wait_for(lambda: made.check_socket.exists() or process.poll() is not None) and process.poll() is None:
            print(f"\nThe daemon answers. In another terminal:\n\n  export ECLCTL={ECLCTL} SOCKET={made.check_socket}")
            print(f"  $ECLCTL check --socket $SOCKET {made.library}/approved.sif")
            print(f"  $ECLCTL explain --socket $SOCKET {made.library}/half-approved.sif")
            print(
                f"  $ECLCTL status --socket {made.admin_socket}\n\nIts files are in {made.root}. Ctrl-C stops it.\n",
                flush=True,
            )
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(PATIENCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="leave the daemon in the foreground until Ctrl-C")
    arguments = parser.parse_args()
    with site() as made:
        if arguments.serve:
            serve(made)
            return
        with daemon(made) as process:
            tour(made)
            say("SIGTERM ends it.")
            process.terminate()
            print(f"[exit {process.wait(PATIENCE)}]")


if __name__ == "__main__":
    main()
