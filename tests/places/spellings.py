"""All the ways to write the name of a file: slashes, dots, links, magic links of /proc, and bind mounts."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.helpers.site import APPROVED, HALF
from tests.helpers.support import CORPUS
from tests.places.arena import ALICE, Arena

LINE_ENDS = {
    "U+2028": "\u2028",
    "U+2029": "\u2029",
    "U+0085": "\x85",
    "carriage return": "\r",
    "vertical tab": "\x0b",
    "form feed": "\x0c",
    "file separator": "\x1c",
    "group separator": "\x1d",
    "record separator": "\x1e",
    "newline": "\n",
    "space and backslash": " \\040",
    "no text": "\udcff\udc80",
}
"""What looks like the end of a line, and other odd parts of names, for mount points."""

OWN = (APPROVED, HALF, "secret/a.sif")
_MAGIC = (
    "/proc/self/root",
    "/proc/thread-self/root",
    "/proc/@PID@/root",
    "/proc/@PID@/task/@PID@/root",
    "/proc/1/root",
    "/proc/@DAEMON@/root",
    "/proc/self/cwd/..",
)
_DESCRIPTORS = ("/proc/self/fd/@FD@", "/proc/@PID@/fd/@FD@", "/proc/thread-self/fd/@FD@", "/dev/fd/@FD@")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of a test lie: the site's directory, and other ways to parts of it."""

    root: str
    ways: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]

    def path(self, name: str) -> str:
        return f"{self.root}/images/{name}"


def prepare(arena: Arena) -> Places:
    """Make the files, links and bind mounts of a test, before its daemon starts."""
    root, site = arena.root, arena.site
    arena.folder("images/secret")
    site.add("secret/a.sif", CORPUS / "images" / APPROVED)
    elsewhere, desk = arena.folder("elsewhere"), arena.folder("desk", owner=ALICE)
    for source, name in ((root / "images", "tree"), ("/", "all"), (root / "images" / "secret", "part"), (root, "site")):
        arena.bind(source, elsewhere / name)
    files = []
    for number, name in enumerate(OWN):
        arena.bind(site.image(name), elsewhere / f"file{number}")
        (desk / f"link{number}").symlink_to(site.image(name))
        (desk / f"chain{number}").symlink_to(f"link{number}")
        (desk / f"loopback{number}").symlink_to(elsewhere / f"file{number}")
        files += [(name, f"{elsewhere}/file{number}")]
        files += [(name, f"{desk}/{link}{number}") for link in ("link", "chain", "loopback")]
    (desk / "images").symlink_to(root / "images")
    (desk / "dots").symlink_to("../keys.d/../images/./")
    (desk / "up").symlink_to("..")
    (desk / "tree").symlink_to(elsewhere / "tree")
    (desk / "slash").symlink_to("/")
    images = f"{root}/images"
    ways = [
        (images, f"{elsewhere}/tree"),
        (images, f"{desk}/images"),
        (images, f"{desk}/dots"),
        (images, f"{desk}/tree"),
        (f"{images}/secret", f"{elsewhere}/part"),
        (str(root), f"{elsewhere}/site"),
        (str(root), f"{desk}/up"),
        ("", f"{elsewhere}/all"),
        ("", f"{desk}/slash"),
    ]
    return Places(str(root), tuple(ways), tuple(files))


def spelled(places: Places) -> st.SearchStrategy[tuple[str, str]]:
    """A file's name in the library, and another way to write where it lies."""
    return st.sampled_from(OWN).flatmap(lambda name: _spellings(places, name).map(lambda spelt: (name, spelt)))


def _spellings(places: Places, name: str) -> st.SearchStrategy[str]:
    path = places.path(name)
    direct = [path, *(spelt for of, spelt in places.files if of == name), *_DESCRIPTORS]
    start = st.sampled_from(direct) | st.just(path)
    return st.builds(_apply, st.just(places), start, st.lists(_STEPS, max_size=5))


_STEPS = st.tuples(st.sampled_from(["slashes", "dot", "back", "magic", "way", "above", "end"]), st.integers(0, 99))


def _apply(places: Places, spelt: str, steps: list[tuple[str, int]]) -> str:
    """Write a name in another way, step by step; each step leads to the same file, or nowhere."""
    for kind, number in steps:
        spelt = _step(places, spelt, kind, number)
    return spelt[:3000]


def _step(places: Places, spelt: str, kind: str, number: int) -> str:
    slashes = [place for place, letter in enumerate(spelt) if letter == "/"]
    place = slashes[number % len(slashes)]
    match kind:
        case "slashes":
            return spelt[:place] + "/" * (1 + number % 3) + spelt[place:]
        case "dot":
            return spelt[:place] + "/." + spelt[place:]
        case "back":  # by way of a directory that is there, of one that is not, or of a link
            here = os.path.dirname(spelt[: place + 1]) if place else ""
            through = ("keys.d", "missing", "images", "desk", "elsewhere")[number % 5]
            return f"{here}/{through}/.." + spelt[place:]
        case "magic":
            return _MAGIC[number % len(_MAGIC)] + spelt
        case "way":
            fitting = [way for way in places.ways if spelt.startswith(f"{way[0]}/")]
            if not fitting:
                return spelt
            plain, other = fitting[number % len(fitting)]
            if "/elsewhere/" in spelt[len(plain) :]:
                return spelt  # binds are not recursive: behind them lies what is mounted over, which is another file
            return other + spelt[len(plain) :]
        case "above":
            return "/.." * (1 + number % 4) + spelt
    return spelt + ("", "/", "/.", "//")[number % 4]
