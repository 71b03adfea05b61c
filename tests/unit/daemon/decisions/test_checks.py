"""Calls are decided together, in time, and on the record."""

import asyncio
import json
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from time import perf_counter, time_ns

import pytest

from eclctl.config import settings
from eclctl.config.accounts import NAMES
from eclctl.daemon.background.workers import Workers
from eclctl.daemon.decisions.calls import CheckCalls
from eclctl.daemon.decisions.checks import Checks
from eclctl.daemon.observing.audit_log import AuditLog
from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.sockets.call import Call
from eclctl.daemon.sockets.closing import Closer
from eclctl.daemon.sockets.connection import Connection
from eclctl.daemon.sockets.peers import Peer
from eclctl.daemon.sockets.protocol import ImageRef, Method, Request
from eclctl.decide.cache import FactCache
from eclctl.decide.engine import Engine
from eclctl.decide.questions import Question
from eclctl.decide.snapshot import Snapshot, build
from eclctl.errors import AuditError
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from eclctl.model import Caller, Identity
from eclctl.trust.revocation import Known, Status
from eclctl.verify.hashing import HashPool
from tests.helpers.site import APPROVED, Site
from tests.helpers.support import CORPUS, own_copy

PATIENCE = 20.0
RELEASED = """version: 1
signers:
  release:
    certificate: {{file: ../certs/leaf.pem, intermediates: ../certs/intermediate.pem, roots: ../certs/root.pem}}
rules:
  - name: released
    match: {{paths: ["{root}/images/**"]}}
    assurance: none
    require: [{{any_of: [release]}}]
"""


def clock():
    return datetime.now(UTC)


class HeldEngine(Engine):
    """The engine, with a door before each examination (but those for `unheld`) that the test opens."""

    def prepare(self):
        self.examinations, self.inside, self.door = 0, threading.Event(), threading.Event()
        self.entered, self.unheld = threading.Semaphore(0), None

    def look_up(self, pending):
        self.examinations += 1
        self.inside.set()
        self.entered.release()
        assert pending.question.caller.uid == self.unheld or self.door.wait(PATIENCE)
        return super().look_up(pending)


class Desk:
    """Checks with an engine that is held, and a loop that flushes when it is woken."""

    def __init__(self, site, timeout, **limits):
        loaded = settings.load_settings(str(site.config), resolve_user=NAMES.user).settings
        self.mounts, self.pool = MountTable(), HashPool(1)
        self.engine = HeldEngine(
            Locator(self.mounts, loaded.trusted_owners),
            self.pool,
            FactCache(10),
            Snapshot.empty(),
            file_time=time_ns,
        )
        self.engine.prepare()
        self.engine.install(build(loaded, NAMES, generation=1, now=clock()).snapshot)
        self.audit = AuditLog(str(site.root / "audit.jsonl"))
        self.answers, self.answered, self.metrics = [], asyncio.Event(), Metrics()
        self.closing = Workers("close", 1)
        self.asked, self.heard = [], asyncio.Event()
        closer = Closer(self.mounts, self.closing)
        self.checks = Checks(
            self.engine,
            limits=settings.Limits(request_timeout=timeout, **limits),
            audit=self.audit,
            metrics=self.metrics,
            closer=closer,
            mounts=self.mounts,
            wake=lambda: asyncio.get_running_loop().call_soon(self.checks.flush),
            clock=clock,
            ask_status=self._ask_status,
        )
        self.resolve = lambda _: None
        self.calls = CheckCalls(self.checks, closer, self._resolve, timeout)
        ours, self.client = socket.socketpair()
        peer = Peer(Caller(os.getuid(), os.getgid()), os.getpid())
        self.connection = Connection(ours, peer, admin=False, descriptors_limit=1, release=os.close, now=0.0)

    def _resolve(self, uid):
        return self.resolve(uid)

    def load_again(self, site):
        loaded = settings.load_settings(str(site.config), resolve_user=NAMES.user).settings
        self.engine.install(build(loaded, NAMES, generation=2, now=clock()).snapshot)

    def _ask_status(self, links, told):
        self.asked.append((links, told))
        self.heard.set()

    def ask(self, path, descriptor=None, uid=None, subject=None, *, person=None):
        image = ImageRef(str(path), fd=descriptor is not None)
        request = Request("1", Method.CHECK, (image,), subject)
        descriptors = () if descriptor is None else (descriptor,)
        call = Call(self._finish, self.connection, request, descriptors)
        if uid is not None:
            behind = None if person is None else Identity(person, frozenset(), person=person)
            call.peer = Peer(Caller(uid, uid, frozenset(), behind), os.getpid())
        self.calls.handle(call)

    def _finish(self, _connection, line, _cost):
        message = json.loads(line)
        self.answers.append(message.get("result") or message["error"])
        self.answered.set()

    async def asked_for(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.asked) < count:
                self.heard.clear()
                await self.heard.wait()

    async def wait_for(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.answers) < count:
                self.answered.clear()
                await self.answered.wait()

    def close(self):
        self.engine.door.set()
        self.checks.stop()
        self.closing.stop()
        self.pool.close()
        self.connection.close()
        self.client.close()
        self.audit.close()
        self.mounts.close()


def run(scenario, timeout=PATIENCE, **limits):
    async def main():
        site = Site()
        desk = Desk(site, timeout, **limits)
        try:
            return await scenario(site, desk)
        finally:
            desk.close()
            site.close()

    return asyncio.run(main())


def fail(*_arguments, **_more):
    raise RuntimeError("a bug")


def is_open(descriptor):
    return os.path.exists(f"/proc/self/fd/{descriptor}")


def test_one_examination_serves_everybody_who_waits_for_the_image():
    async def scenario(site, desk):
        for _ in range(50):
            desk.ask(site.image(APPROVED))
        desk.engine.door.set()
        await desk.wait_for(50)
        assert {answer["decision"] for answer in desk.answers} == {"allow"}
        assert desk.engine.examinations == 1
        assert len({answer["decision_id"] for answer in desk.answers}) == 50

    run(scenario)


def test_questions_are_decided_without_a_call_and_on_the_record_before_they_are_answered():
    async def scenario(site, desk):
        caller = Peer(Caller(1001, 1001), 77)
        names, recorded = (str(site.image(APPROVED)), "/none.sif"), []
        done = asyncio.get_running_loop().create_future()

        def answer(decisions):
            recorded.extend(desk.checks.recent(2))
            done.set_result(decisions)

        desk.engine.door.set()
        questions = [Question(name, caller.caller) for name in names]
        desk.checks.submit(questions, caller, answer, method="guard", started=perf_counter())
        async with asyncio.timeout(PATIENCE):
            decisions = await done
        assert [decision.code.value for decision in decisions] == ["requirements-met", "unreadable"]
        assert [(record["image"], record["method"], record["pid"]) for record in reversed(recorded)] == [
            (name, "guard", 77) for name in names
        ]

    run(scenario)


def test_an_examination_that_takes_too_long_is_deny_and_the_descriptor_lives_until_it_ends():
    async def scenario(site, desk):
        descriptor = os.open(site.image(APPROVED), os.O_RDONLY)
        desk.ask(site.image(APPROVED), descriptor)
        await desk.wait_for(1)
        assert (desk.answers[0]["decision"], desk.answers[0]["code"]) == ("deny", "timeout")
        assert desk.engine.inside.wait(PATIENCE)
        assert is_open(descriptor)
        desk.ask(site.image(APPROVED))
        desk.engine.door.set()
        await desk.wait_for(2)
        assert not is_open(descriptor)

    run(scenario, timeout=2.0)


def test_who_waits_longer_gets_the_answer_though_the_first_has_given_up():
    async def scenario(site, desk):
        desk.ask(site.image(APPROVED))
        await desk.wait_for(1)
        desk.ask(site.image(APPROVED))
        desk.engine.door.set()
        await desk.wait_for(2)
        assert [answer["code"] for answer in desk.answers] == ["timeout", "requirements-met"]
        assert desk.engine.examinations == 1

    run(scenario, timeout=2.0)


@pytest.mark.parametrize("passed", [True, False])
def test_a_descriptor_is_closed_once_its_image_is_decided(passed):
    async def scenario(site, desk):
        descriptor = os.open(site.image(APPROVED), os.O_RDONLY)
        path = site.image(APPROVED) if passed else "/dev/null"
        desk.engine.door.set()
        desk.ask(path, descriptor)
        await desk.wait_for(1)
        assert not is_open(descriptor)

    run(scenario)


def test_a_decision_that_cannot_be_recorded_is_deny():
    async def scenario(site, desk):
        desk.audit.close()
        (site.root / "audit.jsonl").unlink()
        (site.root / "audit.jsonl").mkdir()
        desk.engine.door.set()
        desk.ask(site.image(APPROVED))
        await desk.wait_for(1)
        assert (desk.answers[0]["decision"], desk.answers[0]["code"]) == ("deny", "internal-error")

    run(scenario)


def test_when_records_cannot_even_be_rendered_everybody_is_denied_all_the_same():
    async def scenario(site, desk):
        desk.checks._decision_records.encode = fail
        desk.engine.door.set()
        for _ in range(3):
            desk.ask(site.image(APPROVED))
        await desk.wait_for(3)
        assert {(answer["decision"], answer["code"]) for answer in desk.answers} == {("deny", "internal-error")}

    run(scenario)


@pytest.mark.parametrize("step", ["begin", "look_up", "conclude"])
def test_an_engine_that_raises_costs_a_deny_and_is_reported(step, monkeypatch):
    async def scenario(site, desk):
        bugs = []
        desk.engine.on_bug = bugs.append
        desk.engine.door.set()
        monkeypatch.setattr(HeldEngine, step, fail)
        descriptor = os.open(site.image(APPROVED), os.O_RDONLY)
        desk.ask(site.image(APPROVED), descriptor)
        await desk.wait_for(1)
        assert (desk.answers[0]["decision"], desk.answers[0]["code"]) == ("deny", "internal-error")
        assert [str(bug) for bug in bugs] == ["a bug"]
        assert bugs[0].__traceback__ is not None
        assert not is_open(descriptor)

    run(scenario)


def test_a_bug_in_an_answer_is_reported(monkeypatch):
    async def scenario(site, desk):
        bugs = []
        desk.engine.on_bug = bugs.append
        desk.engine.door.set()
        monkeypatch.setattr(desk.calls._answer_texts, "of", fail)
        desk.ask(site.image(APPROVED))
        await desk.wait_for(1)
        assert desk.answers[0]["code"] == "internal-error"
        assert [str(bug) for bug in bugs] == ["a bug"]

    run(scenario)


def test_what_keeps_records_from_being_rendered_is_reported_and_a_full_disk_is_not():
    async def scenario(site, desk):
        bugs = []
        desk.engine.on_bug = bugs.append
        desk.engine.door.set()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(desk.checks._decision_records, "encode", fail)
            desk.ask(site.image(APPROVED))
            await desk.wait_for(1)
        assert [str(bug) for bug in bugs] == ["a bug"]
        desk.audit.close()
        (site.root / "audit.jsonl").unlink()
        (site.root / "audit.jsonl").mkdir()
        desk.ask(site.image(APPROVED))
        await desk.wait_for(2)
        assert desk.answers[1]["code"] == "internal-error"
        assert len(bugs) == 1

    run(scenario)


@pytest.mark.parametrize("threads", [1, 3])
def test_one_users_cold_images_leave_a_thread_to_the_others(threads):
    async def scenario(site, desk):
        desk.engine.unheld = 1002
        for number in range(threads + 1):
            desk.ask(site.add(f"cold{number}.sif", site.root / "images" / APPROVED), uid=1001)
        for _ in range(max(1, threads - 1)):
            assert desk.engine.entered.acquire(timeout=PATIENCE)
        desk.ask(site.image(APPROVED), uid=1002)
        await desk.wait_for(1)
        assert desk.answers[0]["code"] == "requirements-met"
        desk.engine.door.set()
        await desk.wait_for(threads + 2)

    run(scenario, verify_threads=threads)


def test_cold_images_of_a_persons_subordinate_uids_leave_a_thread_to_the_others():
    async def scenario(site, desk):
        desk.engine.unheld = 1002
        for number in range(4):
            cold = site.add(f"cold{number}.sif", site.root / "images" / APPROVED)
            desk.ask(cold, uid=100000 + number, person=1001)
        for _ in range(2):
            assert desk.engine.entered.acquire(timeout=PATIENCE)
        desk.ask(site.image(APPROVED), uid=1002)
        await desk.wait_for(1)
        assert desk.answers[0]["code"] == "requirements-met"
        desk.engine.door.set()
        await desk.wait_for(5)

    run(scenario, verify_threads=3)


def test_the_record_has_the_kernels_uid_and_whose_it_counts_as():
    async def scenario(site, desk):
        desk.engine.door.set()
        desk.ask(site.image(APPROVED), uid=100001, person=1001)
        await desk.wait_for(1)
        (record,) = desk.checks.recent(1)
        assert (record["uid"], record["person"]) == (100001, 1001)

    run(scenario)


def test_a_name_service_that_hangs_leaves_opening_threads_to_the_others():
    async def scenario(site, desk):
        name_service = threading.Event()
        desk.resolve = lambda _: name_service.wait(PATIENCE)
        for uid in range(8):
            desk.ask(site.image(APPROVED), subject=uid)
        opened = threading.Event()
        desk.checks.opening.submit("device", opened.set)
        assert opened.wait(PATIENCE / 2)
        name_service.set()

    run(scenario, open_threads=4)


def test_what_was_answered_while_a_user_was_looked_up_serves_no_other_decision():
    async def scenario(site, desk):
        turns, begin = [], desk.engine.begin

        def watched(*arguments, turn=None, **more):
            turns.append(dict(turn.answers))
            result = begin(*arguments, turn=turn, **more)
            turns.append(turn)
            return result

        desk.engine.begin = watched
        desk.checks._turn.answers["stale"] = None
        desk.engine.door.set()
        desk.resolve = lambda uid: Caller(uid, uid)
        desk.ask(site.image(APPROVED), subject=0)
        await desk.wait_for(1)
        assert desk.answers[0]["code"] == "requirements-met"
        assert turns[0] == {}
        assert desk.checks._turn is not turns[1]

    run(scenario)


def test_a_log_that_cannot_be_written_is_complained_of_once_and_its_recovery_told(caplog):
    def fail(_records):
        raise AuditError("no space")

    async def scenario(site, desk):
        write = desk.audit.write
        desk.engine.door.set()
        desk.audit.write = fail
        for number in range(3):
            desk.ask(site.image(APPROVED))
            await desk.wait_for(number + 1)
        assert [record.getMessage() for record in caplog.records] == ["no space"]
        desk.audit.write = write
        for number in (3, 4):
            desk.ask(site.image(APPROVED))
            await desk.wait_for(number + 1)
        assert len(caplog.records) == 2
        assert "3 batches" in caplog.records[1].getMessage()

    run(scenario)


def test_every_examination_is_counted_with_its_bytes_and_not_its_askers():
    async def scenario(site, desk):
        value = desk.metrics.registry.get_sample_value
        broken = site.add("broken.sif", site.root / "images" / APPROVED)
        broken.write_bytes(broken.read_bytes()[:100])
        desk.engine.door.set()
        for path in (site.image(APPROVED), site.image(APPROVED), broken):
            desk.ask(path)
        await desk.wait_for(3)
        assert value("eclctl_verifications_total", {"result": "ok"}) == 1
        assert value("eclctl_verifications_total", {"result": "failed"}) == 1
        assert value("eclctl_verified_bytes_total") == os.stat(site.image(APPROVED)).st_size + 100
        assert value("eclctl_verification_seconds_count") == 2
        assert value("eclctl_verification_seconds_sum") > 0

    run(scenario)


class Told:
    """What responders said, all of it the same."""

    def __init__(self, status):
        self.version, self.status = 0, status

    def known(self, link, now):
        return self.status and Known(self.status, now + timedelta(hours=1), "so it was said")


def released(site, desk):
    (site.root / "certs").mkdir()
    for name in ("leaf", "intermediate", "root"):
        own_copy(CORPUS / "keys" / "x509" / f"{name}.pem", site.root / "certs")
    site.policy(RELEASED)
    desk.load_again(site)
    desk.engine.statuses = Told(None)
    desk.engine.door.set()
    return site.add("one-dsse-p256.sif")


def test_a_question_waits_for_a_responder_and_is_then_answered():
    async def scenario(site, desk):
        image = released(site, desk)
        descriptor = os.open(image, os.O_RDONLY)
        desk.ask(image, descriptor)
        await desk.asked_for(1)
        assert desk.answers == []
        assert is_open(descriptor)
        assert len(desk.asked[0][0]) == 2
        desk.engine.statuses.status = Status.GOOD
        desk.engine.statuses.version += 1
        desk.asked[0][1]()
        await desk.wait_for(1)
        assert (desk.answers[0]["code"], desk.answers[0]["signers"]) == ("requirements-met", ["release"])
        assert not is_open(descriptor)

    run(scenario)


def test_a_responder_that_says_nothing_is_asked_once_and_the_answer_is_deny():
    async def scenario(site, desk):
        desk.ask(released(site, desk))
        await desk.asked_for(1)
        desk.asked[0][1]()
        await desk.wait_for(1)
        assert desk.answers[0]["code"] == "requirements-not-met"
        assert len(desk.asked) == 1

    run(scenario)


def test_a_check_that_waited_for_a_responder_waits_for_none_again_on_a_file_system_that_may_stall(monkeypatch):
    async def scenario(site, desk):
        image = released(site, desk)
        desk.ask(image)
        await desk.asked_for(1)
        monkeypatch.setattr("eclctl.files.mounts.LOCAL", frozenset())
        desk.mounts._read()
        desk.asked[0][1]()
        await desk.wait_for(1)
        assert desk.answers[0]["code"] == "requirements-not-met"
        assert len(desk.asked) == 1

    run(scenario, timeout=5.0)


def test_a_responder_that_takes_too_long_is_deny_in_time():
    async def scenario(site, desk):
        desk.ask(released(site, desk))
        await desk.wait_for(1)
        assert desk.answers[0]["code"] == "timeout"
        desk.asked[0][1]()  # what comes after that harms nothing
        assert len(desk.answers) == 1

    run(scenario, timeout=0.5)
