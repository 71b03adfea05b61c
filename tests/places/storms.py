"""Storms of questions while files, directories, mounts and policies change, with an oracle for each answer.

    python -m tests.places.storms places --questions 100000
    python -m tests.places.storms threads --questions 100000 --files 200000

Each prints what was counted, and ends with 1 when an answer was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

from eclctl.client import Client, ClientRequest, NoAnswerError
from tests.helpers.site import APPROVED, HALF, POLICY, UNSIGNED, Site
from tests.helpers.support import CORPUS
from tests.places import linux
from tests.places.arena import ALICE, BOB, Arena, User
from tests.places.fuse_server import Entry
from tests.places.policies import PRODUCTION

IMAGES = CORPUS / "images"
ASKERS, THREADS = 3, 8


class Truth(NamedTuple):
    """What is always so of a name, in every state that the storm brings it into.

    `trusted`: True when each state has a trusted path, False when none has, None when it depends. `approved` is the
    size of the only content that may be allowed: the askers compare it with what they have open.
    """

    name: str
    trusted: bool | None


class Seen(NamedTuple):
    """An answer as it is counted: the name's truth, what was answered, and what an oracle holds against it."""

    truth: str
    decision: str
    code: str
    assurance: str
    wrong: str = ""


# What users ask


def ask_places(daemon: str, truths: tuple[Truth, ...], approved: int, count: int, seed: int) -> Counter[Seen]:
    """Ask about names in random order, half of them with the descriptor of another file; judge each answer."""
    chance = random.Random(seed)
    counted: Counter[Seen] = Counter()
    with Client(daemon) as client:
        while sum(counted.values()) < count:
            truth = chance.choice(truths)
            other = chance.choice(truths) if chance.random() < 0.25 else truth
            try:
                descriptor = os.open(truth.name, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue  # between two states
            try:
                counted[_judged(client, descriptor, truth, other, approved)] += 1
            finally:
                os.close(descriptor)
    return counted


def _judged(client: Client, descriptor: int, truth: Truth, other: Truth, approved: int) -> Seen:
    """Ask about what is open, by the name that it was opened by or another; `truth` is of the file that is open."""
    try:
        size = os.fstat(descriptor).st_size
    except OSError:
        size = -1  # its FUSE server has gone
    try:
        answer = client.ask(ClientRequest("check", {"image": other.name, "fd": True}, [descriptor]))
    except NoAnswerError as error:
        return Seen(_label(truth, other), "error", error.code, "", "no answer")
    decision, code, assurance = answer["decision"], answer["code"], str(answer["assurance"])
    wrong = ""
    if code == "internal-error":
        wrong = "internal error"
    elif decision == "allow" and size != approved:
        wrong = "content that is not approved is allowed"
    elif truth.trusted is False and (assurance == "trusted-path" or decision == "allow"):
        wrong = "no state of it is trusted"
    elif truth.trusted and other == truth and (decision, assurance) != ("allow", "trusted-path") and code != "busy":
        wrong = "every state of it is trusted"
    return Seen(_label(truth, other), decision, code, assurance, wrong)


def _label(truth: Truth, other: Truth) -> str:
    label = {True: "always trusted", False: "never trusted", None: "either"}[truth.trusted]
    return label if other == truth else f"{label}, by another's name"


# What changes meanwhile


def change_as_user(own: str, link: str, rewritten: str, seed: int) -> None:
    """Exchange a directory with a link, rename and rewrite files in it, until killed."""
    chance = random.Random(seed)
    approved, half = (IMAGES_READ[name] for name in (APPROVED, HALF))
    while True:
        linux.exchange(own, link)
        linux.exchange(own, link)
        content = chance.choice((approved, half))
        with open(f"{rewritten}.new", "wb") as file:
            file.write(content)
        os.rename(f"{rewritten}.new", rewritten)
        with open(rewritten, "r+b") as file:
            file.write(content[: chance.randrange(len(content))])


def change_as_root(names: dict[str, str]) -> None:
    """Exchange, replace, mount and unmount what is root's, until killed."""
    while True:
        linux.exchange(names["first"], names["second"])
        for source in (APPROVED, UNSIGNED):
            with open(names["replaced"] + ".new", "wb") as file:
                file.write(IMAGES_READ[source])
            os.rename(names["replaced"] + ".new", names["replaced"])
        linux.bind(names["library"], names["bound"])
        linux.umount(names["bound"], lazy=True)
        linux.mount("tmpfs", names["memory"], "tmpfs", data="mode=755")
        with open(names["memory"] + "/a.sif", "wb") as file:
            file.write(IMAGES_READ[APPROVED])
        time.sleep(0.002)  # for askers to find it; nothing is expected of when they do
        linux.umount(names["memory"], lazy=True)


IMAGES_READ = {name: (IMAGES / name).read_bytes() for name in (APPROVED, HALF, UNSIGNED)}


def storm_of_places(arena: Arena, questions: int) -> Counter[Seen]:
    """Ask that many questions while places change; return the judged answers."""
    site = arena.site
    shared, media, memory = arena.folder("images/shared", 0o1777), arena.folder("images/media"), "images/memory"
    own = arena.folder("images/shared/own", owner=ALICE)
    arena.folder("images/system")
    (shared / "link").symlink_to("../system")
    os.chown(shared / "link", ALICE.uid, ALICE.gid, follow_symlinks=False)
    arena.folder("images/alice", owner=ALICE)
    arena.folder("images/open", 0o777)
    for name in ("shared/own/a.sif", "alice/a.sif", "open/a.sif", "first.sif", "second.sif", "replaced.sif"):
        shutil.copyfile(IMAGES / APPROVED, site.image(name))
    os.chown(site.image("alice/a.sif"), ALICE.uid, ALICE.gid)
    os.link(site.image(APPROVED), site.image("linked.sif"))
    arena.folder(memory)
    arena.folder("bound")
    tree = {"a.sif": Entry(IMAGES_READ[APPROVED])}
    served = arena.fuse(media, tree, uid=ALICE.uid, gid=ALICE.gid, allow_other=True)
    truths = [Truth(site.image(name), trusted=False) for name in ("shared/own/a.sif", "alice/a.sif", "open/a.sif")]
    truths += [Truth(f"{media}/a.sif", trusted=False), Truth(f"{arena.root}/{memory}/a.sif", trusted=False)]
    truths += [Truth(site.image(APPROVED), trusted=True), Truth(site.image("linked.sif"), trusted=True)]
    truths += [Truth(site.image(name), trusted=None) for name in ("first.sif", "second.sif", "replaced.sif")]
    truths += [Truth(f"{arena.root}/bound/{APPROVED}", trusted=None)]
    names = {name: site.image(f"{name}.sif") for name in ("first", "second", "replaced")}
    names |= {"library": str(arena.root / "images"), "bound": str(arena.root / "bound")}
    names["memory"] = str(arena.root / memory)
    arena.start_daemon(PRODUCTION, limits="{cache_entries: 100}")
    changing = [
        arena.start(change_as_user, str(own), str(shared / "link"), site.image("alice/a.sif"), 1, who=ALICE),
        arena.start(change_as_root, names),
    ]
    share = -(-questions // ASKERS)
    asking = [
        arena.start(ask_places, site.check_socket, tuple(truths), len(IMAGES_READ[APPROVED]), share, seed, who=who)
        for seed, who in enumerate((BOB, ALICE, User(65534, 65534)))
    ]
    counted: Counter[Seen] = Counter()
    for job in asking:
        changes = 0
        while not job.ready(0.01):  # content of the user's file system changes too
            changes += 1
            served.put("a.sif", Entry(IMAGES_READ[HALF if changes % 2 else APPROVED], changed=changes))
        counted += job.result()
    for job in changing:
        job.kill()
    return counted


# Threads, reloads, and a directory that fills


def ask_warm(channel: Connection, daemon: str, image: str, count: int) -> Counter[tuple[str, str]]:
    """Ask from eight threads, each over a connection of its own, with a descriptor; count decisions and codes.

    Says when that many were asked, and goes on until it is told to stop.
    """
    counted: Counter[tuple[str, str]] = Counter()
    lock, stop, asked = threading.Lock(), threading.Event(), threading.Semaphore(0)

    def ask(share: int) -> None:
        own: Counter[tuple[str, str]] = Counter()
        descriptor = os.open(image, os.O_RDONLY)
        with Client(daemon) as client:
            while own["error", "no-answer"] == 0 and not (stop.is_set() and own.total() >= share):
                try:
                    answer = client.ask(ClientRequest("check", {"image": image, "fd": True}, [descriptor]))
                    own[answer["decision"], answer["code"]] += 1
                except NoAnswerError as error:
                    own["error", error.code] += 1
                if own.total() == share:
                    asked.release()
        os.close(descriptor)
        with lock:
            counted.update(own)

    threads = [threading.Thread(target=ask, args=(-(-count // THREADS),)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for _ in threads:
        asked.acquire()
    channel.send("asked")
    channel.recv()
    stop.set()
    for thread in threads:
        thread.join()
    return +counted


def fill(folder: str, count: int) -> None:
    """Make that many files, each with something in it: the daemon looks at no empty one."""
    for number in range(count):
        descriptor = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(descriptor, b"no image")
        os.close(descriptor)


def storm_of_threads(arena: Arena, questions: int, files: int) -> tuple[Counter[tuple[str, str]], int]:
    """Ask from eight threads while the policy is loaded again and again and a watched directory fills.

    Returns decisions and codes as counted, and the number of reloads.
    """
    site = arena.site
    filled = arena.folder("images/filled")
    watch = f"watch: [{{path: {str(arena.root / 'images')!r}, recursive: true, rescan: 15m}}]\n"
    arena.start_daemon(POLICY, watch)
    filling = arena.start(fill, str(filled), files)
    asking = arena.start(ask_warm, site.check_socket, site.image(APPROVED), questions, who=BOB, channel=True)
    reloads, deadline = 0, time.monotonic() + 120 + (questions + files) / 50
    while not (asking.ready(0.05) and filling.ready(0.05) and _queued(site) == 0):
        assert time.monotonic() < deadline
        assert site.order("reload")["ok"]
        reloads += 1
    filling.result()
    assert asking.receive() == "asked"
    asking.send("stop")
    return asking.result(), reloads


def _queued(site: Site) -> int:
    """How many files the daemon has still to look at."""
    return sum(tree["queued"] for tree in site.order("status")["watch"]["trees"])


# For the command line


def lines(counted: Counter) -> Iterator[str]:
    for key, count in sorted(counted.items(), key=lambda item: (-item[1], str(item[0]))):
        yield f"{count:>8}  {'  '.join(word for word in key if word)}"


def wrong_places(counted: Counter[Seen]) -> Counter[Seen]:
    return Counter({seen: count for seen, count in counted.items() if seen.wrong})


def wrong_threads(counted: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    good = {("allow", "requirements-met"), ("deny", "busy")}
    return Counter({key: count for key, count in counted.items() if key not in good})


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Storms of questions, counted.")
    parser.add_argument("storm", choices=["places", "threads"])
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=200_000)
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    wrong: Counter
    judge: Callable
    with Arena() as arena:
        if chosen.storm == "places":
            counted: Counter = storm_of_places(arena, chosen.questions)
            judge = wrong_places
        else:
            counted, reloads = storm_of_threads(arena, chosen.questions, chosen.files)
            judge = wrong_threads
            print(f"{reloads} reloads, {chosen.files} files")
        wrong = judge(counted)
    print(f"{sum(counted.values())} questions in {time.monotonic() - began:.0f} s, {sum(wrong.values())} wrong answers")
    print("\n".join(lines(counted)))
    return 1 if wrong else 0


if __name__ == "__main__":
    from tests.places import storms  # noqa: PLW0406 - under its own name, by which the arena's processes find it

    sys.exit(storms.main(sys.argv[1:]))
