"""Editing in place: wherever it ends, and with any part of it on the disk, there is one of the two images."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError, SigningError
from eclctl.sif import edit_journal, reader
from eclctl.sif.edit_journal import Stage
from eclctl.sif.layout import DESCRIPTOR_SIZE, HEADER
from eclctl.sign.edit import inplace
from eclctl.sign.edit.assembly import Edit, NewObject, plan_edit
from eclctl.sign.edit.inplace import carry_out, recover
from tests.helpers.edits import CASES, NOW, SIGNED, Case, changed, content
from tests.helpers.sifbuilder import GENERIC, SIGNATURE, sample
from tests.helpers.signing import note

SECTOR = 512
"""What a disk writes whole or not at all."""

SAMPLES = 60
"""How many states of the disk are looked at between two flushes."""


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def image(case: Case, tmp_path: Path) -> Path:
    path = tmp_path / "image.sif"
    path.write_bytes(case.image)
    return path


@dataclass
class Recorder:
    """Stands in for the system calls that change a file: does them, and remembers; `fail` can refuse one."""

    fail: Callable[[int], bool] = lambda _: False
    done: list[tuple[str, int, bytes]] = field(default_factory=list)
    calls: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("pwrite", "fsync", "ftruncate"):
            monkeypatch.setattr(inplace.os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(fd: int, *arguments: object) -> object:
            self.calls += 1
            if self.fail(self.calls):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if name == "pwrite":
                self.done.append((name, arguments[1], bytes(arguments[0])))
            else:
                self.done.append((name, arguments[0] if arguments else 0, b""))
            return real(fd, *arguments)

        return call


def edited(path: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch, recorder: Recorder | None = None) -> Recorder:
    """Carry an edit out; return what was done."""
    recorder = recorder or Recorder()
    fd = os.open(path, os.O_RDWR)
    try:
        change = changed(fd, edit)
        with monkeypatch.context() as patches:
            recorder.install(patches)
            carry_out(fd, change)
    finally:
        os.close(fd)
    return recorder


def recovered(path: Path) -> Stage | None:
    fd = os.open(path, os.O_RDWR)
    try:
        return recover(fd)
    finally:
        os.close(fd)


def expected(case: Case) -> bytes:
    """Return the file after an edit as a plan alone has it."""
    fd = os.memfd_create("before")
    os.write(fd, case.image)
    image = reader.read(fd)
    steps = plan_edit(image, reader.pread(fd, image.header.table_size, image.header.table_offset), case.edit, NOW)
    os.close(fd)
    data = bytearray(case.image.ljust(steps.size, b"\0"))
    for offset, size in steps.zero:
        data[offset : offset + size] = bytes(size)
    del data[steps.size :]
    for offset, part in (*steps.data, steps.table, (0, steps.header)):
        data[offset : offset + len(part)] = part
    return bytes(data)


def test_an_edit_makes_the_file_that_was_planned_and_nothing_else(
    case: Case, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(image, case.edit, monkeypatch)
    assert image.read_bytes() == expected(case)
    assert recovered(image) is None


class Disk:
    """A file as a disk has it that loses its power: everything before the last flush, and some of what came later."""

    def __init__(self, before: bytes, done: list[tuple[str, int, bytes]]) -> None:
        self._epochs: list[list[tuple[str, int, bytes]]] = [[]]
        for step in done:
            if step[0] == "fsync":
                self._epochs.append([])
            else:
                self._epochs[-1].append(step)
        self._before = before

    def states(self, chance: random.Random, samples: int = SAMPLES) -> Iterator[bytes]:
        flushed = bytearray(self._before)
        for epoch in self._epochs:
            for count in range(len(epoch) + 1):  # as a process leaves it that is killed
                yield self._after(flushed, epoch[:count])
            for _ in range(samples):
                yield self._some(flushed, epoch, chance)
            flushed = bytearray(self._after(flushed, epoch))

    @staticmethod
    def _after(data: bytes, steps: list[tuple[str, int, bytes]]) -> bytes:
        made = bytearray(data)
        for kind, at, what in steps:
            if kind == "ftruncate":
                made = made[:at].ljust(at, b"\0")
            else:
                made = made.ljust(at, b"\0")
                made[at : at + len(what)] = what
        return bytes(made)

    @classmethod
    def _some(cls, flushed: bytes, epoch: list[tuple[str, int, bytes]], chance: random.Random) -> bytes:
        """Of each write some sectors, and the size after any of the steps."""
        sizes = [len(cls._after(flushed, epoch[:count])) for count in range(len(epoch) + 1)]
        share = chance.choice((0.1, 0.5, 0.9))
        steps = []
        for kind, at, what in epoch:
            end = at + len(what)
            edges = [at, *range(at - at % SECTOR + SECTOR, end, SECTOR), end]
            if kind == "pwrite":
                steps += [(kind, a, what[a - at : b - at]) for a, b in pairwise(edges)]
        kept = cls._after(flushed, [step for step in steps if chance.random() < share])
        return kept.ljust(max(sizes), b"\0")[: chance.choice(sizes)]


def test_a_crash_at_any_point_leaves_one_of_the_two_images_and_the_next_edit_cleans_up(
    case: Case, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inplace, "_GAP", 8192)  # there are thousands of files to make
    old = content(image)
    done = edited(image, case.edit, monkeypatch).done
    new, wanted = content(image), image.read_bytes()
    seen = {"old": 0, "new": 0, "undone": 0, "finished": 0}
    for state in Disk(case.image, done).states(random.Random(1)):
        image.write_bytes(state)
        there = content(image)
        assert there in {old, new}
        seen["old" if there == old else "new"] += 1
        stage = recovered(image)
        assert content(image) == there
        left = image.read_bytes()
        if stage is not None:
            assert left == (case.image if there == old else wanted)
            seen["undone" if there == old else "finished"] += 1
        else:  # the disk has not even half of a record
            assert there == new or left.startswith(case.image)
        assert recovered(image) is None
    assert min(seen.values()) > 0


def flushes(done: list[tuple[str, int, bytes]]) -> list[int]:
    return [number for number, step in enumerate(done) if step[0] == "fsync"]


def test_a_crash_while_the_edit_of_a_killed_process_is_made_up_for_leaves_one_of_the_two_images(
    case: Case, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process wrote last is in the kernel's memory then, and not on the disk yet."""
    monkeypatch.setattr(inplace, "_GAP", 8192)
    old = content(image)
    done = edited(image, case.edit, monkeypatch).done
    new = content(image)
    for killed in range(len(done) + 1):
        there = Disk._after(case.image, [step for step in done[:killed] if step[0] != "fsync"])
        image.write_bytes(there)
        recorder = Recorder()
        with monkeypatch.context() as patches:
            recorder.install(patches)
            recovered(image)
        for state in Disk(case.image, done[:killed] + recorder.done).states(random.Random(killed), samples=5):
            image.write_bytes(state)
            assert content(image) in {old, new}
            recovered(image)
            assert content(image) in {old, new}


def test_a_crash_while_what_failed_is_undone_leaves_one_of_the_two_images(
    case: Case, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that failed did some of its work, and will never do the rest: the kernel holds it for done."""
    monkeypatch.setattr(inplace, "_GAP", 8192)
    old = content(image)
    calls = edited(image, case.edit, monkeypatch).calls
    new = content(image)
    for at in range(1, calls):
        image.write_bytes(case.image)
        recorder = Recorder(fail=lambda call, at=at: call == at)
        with suppress(SigningError):
            edited(image, case.edit, monkeypatch, recorder)
        before, after = recorder.done[: at - 1], recorder.done[at - 1 :]
        start = max([0, *(number + 1 for number in flushes(before))])
        flushed = Disk._after(case.image, [step for step in before[:start] if step[0] != "fsync"])
        chance = random.Random(at)
        for count in range(len(after) + 1):  # killed
            image.write_bytes(Disk._after(flushed, [s for s in before[start:] + after[:count] if s[0] != "fsync"]))
            assert content(image) in {old, new}
            recovered(image)
            assert content(image) in {old, new}
        for _ in range(5):
            lost = Disk._some(flushed, before[start:], chance)
            for state in Disk(lost, after).states(chance, samples=5):
                image.write_bytes(state)
                assert content(image) in {old, new}
                recovered(image)
                assert content(image) in {old, new}


OUTCOMES = ("as it was", "the old image", "changed all the same")


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_write_that_fails_at_any_point_leaves_the_image_as_it_was(
    case: Case, image: Path, lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = edited(image, case.edit, monkeypatch).calls
    new = content(image)
    image.write_bytes(case.image)
    old = content(image)
    outcomes = set()
    for at in range(1, calls + 1):
        image.write_bytes(case.image)
        recorder = Recorder(fail=lambda call, at=at: call == at or (lasting and call > at))
        try:
            edited(image, case.edit, monkeypatch, recorder)
        except SigningError as error:
            said = next(words for words in OUTCOMES if re.search(f"No space left on device.*{words}", str(error)))
        else:
            said = "done"
        outcomes.add(said)
        assert content(image) == (new if said in {"done", "changed all the same"} else old)
        if not lasting and "done" not in outcomes:
            assert image.read_bytes() == case.image
        recovered(image)
        assert image.read_bytes() == (case.image if content(image) == old else expected(case))
    assert outcomes == {"as it was", "done"} | ({"the old image", "changed all the same"} if lasting else set())


def between(path: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave an image as a crash does in the middle of an edit, when the table is half written."""
    before = path.read_bytes()
    done = edited(path, edit, monkeypatch).done
    flushes = [number for number, step in enumerate(done) if step[0] == "fsync"]
    path.write_bytes(Disk._after(before, [step for step in done[: flushes[2]] if step[0] != "fsync"]))


def test_what_the_reference_adds_to_an_image_that_a_crash_left_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its library writes behind the last object and into the table that the header names."""
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    between(path, note(), monkeypatch)
    with path.open("r+b") as file:
        found = reader.read(file.fileno())
        assert found.header.table_offset > found.size / 2
        end = max(each.offset + each.size for each in found.descriptors)
        table = reader.pread(file.fileno(), found.header.table_size, found.header.table_offset)
        steps = plan_edit(found, table, Edit(add=(NewObject(SIGNATURE, b"theirs" * 1000, link=1),)), NOW)
        slot = bytearray(steps.table[1])
        at = 4 * DESCRIPTOR_SIZE + 17
        slot[at : at + 8] = end.to_bytes(8, "little")
        for offset, data in ((end, b"theirs" * 1000), (found.header.table_offset, bytes(slot)), (0, steps.header)):
            os.pwrite(file.fileno(), data, offset)
    there = content(path)
    assert len(there[2]) == 5
    assert recovered(path) is None
    assert content(path) == there


def test_a_file_that_grows_while_it_is_edited_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    real = inplace._write_all

    def theirs(fd: int, what: inplace.PreparedEdit) -> None:
        real(fd, what)
        with path.open("ab") as file:
            file.write(b"theirs")

    monkeypatch.setattr(inplace, "_write_all", theirs)
    with pytest.raises(BusyImageError, match="another program wrote into the image"):
        edited(path, note(), monkeypatch)
    assert path.read_bytes().endswith(b"theirs")


def test_an_edit_that_would_have_to_keep_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    monkeypatch.setattr(inplace, "MAX_RECORD", 40_000)
    with pytest.raises(SigningError, match="overwrites 28080 bytes of the image; at most 20000"):
        edited(path, note(), monkeypatch)
    assert path.read_bytes() == SIGNED


FORGED = {
    "another digest": lambda trailer: trailer[:-1] + bytes([trailer[-1] ^ 1]),
    "another magic": lambda trailer: b"X" + trailer[1:],
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_is_no_whole_seal_is_left_alone(
    forge: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    between(path, note(), monkeypatch)
    data = path.read_bytes()
    path.write_bytes(data[:-SECTOR] + forge(data[-SECTOR:]))
    state = path.read_bytes()
    assert recovered(path) is None
    assert path.read_bytes() == state


IMPOSSIBLE = {
    "cuts into the image": {"size_before": HEADER.size - 1},
    "begins in the image": {"size_before": 1 << 40},
    "is not inside": {"body_size": 1},
    "has a negative table": {"table_size": -1 << 60},
    "has more regions than bytes": {"regions": 1 << 30},
    "is huge": {"body_size": 1 << 62},
}


@pytest.mark.parametrize("wrong", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_record_that_cannot_be_is_left_alone(
    wrong: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker wrote it by hand: signing the image writes nothing outside of it, and cuts nothing off it."""
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    between(path, note(), monkeypatch)
    data = path.read_bytes()
    fd = os.open(path, os.O_RDWR)
    found = edit_journal.find_interrupted(fd, len(data))
    assert found is not None
    forged = found[0]._replace(**wrong)
    path.write_bytes(data[:-SECTOR] + forged.pack())
    state = path.read_bytes()
    assert recover(fd) is None
    os.close(fd)
    assert path.read_bytes() == state


def test_a_record_whose_regions_lie_outside_of_the_image_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    fd = os.open(path, os.O_RDWR)
    monkeypatch.setattr(inplace, "_saved", lambda *_: ((-1, b"x"),))
    what = changed(fd, note())
    inplace._record(fd, what)
    inplace._write_header(fd, what.trailer.between)
    state = path.read_bytes()
    assert recover(fd) is None
    os.close(fd)
    assert path.read_bytes() == state


def test_a_record_of_more_regions_than_an_edit_has_costs_nothing(tmp_path: Path) -> None:
    """Sixty MiB of holes can say four million times that nothing is to be written."""
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    body, size, other = bytes(48 << 20), len(SIGNED), bytes(HEADER.size)
    digest = hashlib.sha256(body).digest()
    trailer = edit_journal.Trailer(3 << 20, size, 0, len(body), size, size, other, SIGNED[: HEADER.size], other, digest)
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), trailer.pack(), trailer.at)
        assert recover(file.fileno()) is None


@pytest.mark.parametrize("stage", Stage)
def test_what_an_object_holds_is_no_record(stage: Stage, tmp_path: Path) -> None:
    """An attacker may give data to a builder of images whose headers are known; that writes nothing else of them."""
    builder = sample()
    size = len(builder.build()) + SECTOR
    last = builder.add(bytes(SECTOR + -size % SECTOR), GENERIC)
    header = builder.build()[: HEADER.size]
    headers = {each.value: header if each is stage else bytes(HEADER.size) for each in Stage}
    start = size + -size % SECTOR - SECTOR
    empty = hashlib.sha256().digest()
    trailer = edit_journal.Trailer(0, start, 0, 0, HEADER.size, HEADER.size, **headers, digest=empty)
    last.data = last.data[:-SECTOR] + trailer.pack()
    path = tmp_path / "image.sif"
    path.write_bytes(builder.build())
    assert path.read_bytes()[-SECTOR:] == trailer.pack()
    assert path.stat().st_size == trailer.end
    assert recovered(path) is None
    assert path.read_bytes() == builder.build()
