"""The client takes nothing for a decision that is none."""

import os
import socket
import threading

import pytest

from eclctl.client import Client, ClientRequest, NoAnswerError, ask_in_order, open_image, wire_path


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve one connection with fixed answer bytes, once so many request lines have come.

    Its path is relative and short, for pytest's directories have long names.
    """
    monkeypatch.chdir(tmp_path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("s")
    listener.listen()
    threads = []

    def serve(answer, *, hang_up=True, lines=1):
        def work():
            with listener.accept()[0] as connection:
                came = 0
                while came < lines:
                    came += connection.recv(65536).count(b"\n")
                connection.sendall(answer)
                if not hang_up:
                    connection.recv(65536)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return "s"

    yield serve
    for thread in threads:
        thread.join()
    listener.close()


def test_an_answer_is_the_result(served):
    with Client(served(b'{"v":1,"id":"1","result":{"decision":"allow"}}\n')) as client:
        assert client.ask(ClientRequest("check")) == {"decision": "allow"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "no-answer"),
        (b'{"v":1,"id":"1","result":{"decision":"allow"}}', "no-answer"),
        (b"nonsense\n", "protocol"),
        (b"[]\n", "protocol"),
        (b'{"v":1,"id":"1"}\n', "protocol"),
        (b'{"v":1,"id":"1","result":"allow"}\n', "protocol"),
        (b'{"v":1,"id":"2","result":{"decision":"allow"}}\n', "protocol"),
        (b'{"v":1,"id":"1","error":{"code":"bad-request","message":"no"}}\n', "bad-request"),
        (b'{"v":1,"id":null,"error":{"code":"too-many-connections","message":"no"}}\n', "too-many-connections"),
    ],
)
def test_whatever_is_no_result_is_no_decision(served, answer, code):
    with Client(served(answer)) as client, pytest.raises(NoAnswerError) as caught:
        client.ask(ClientRequest("check"))
    assert caught.value.code == code


def test_an_answer_that_does_not_come_is_no_decision(served):
    with Client(served(b'{"v":1', hang_up=False), timeout=0.2) as client, pytest.raises(NoAnswerError) as caught:
        client.ask(ClientRequest("check"))
    assert caught.value.code == "no-answer"


def test_answers_in_another_order_come_in_the_order_of_the_questions(served):
    answers = b"".join(b'{"v":1,"id":"%d","result":{"n":%d}}\n' % (n, n) for n in (3, 1, 2))
    questions = [ClientRequest("check"), None, ClientRequest("check"), ClientRequest("check")]
    assert list(ask_in_order(served(answers, lines=3), iter(questions), 10)) == [{"n": 1}, None, {"n": 2}, {"n": 3}]


def test_when_the_daemon_hangs_up_what_was_not_answered_is_no_decision(served):
    path = served(b'{"v":1,"id":"1","result":{"n":1}}\n')
    first, second = ask_in_order(path, iter([ClientRequest("check"), ClientRequest("check")]), 10)
    assert first == {"n": 1}
    assert isinstance(second, NoAnswerError)


def test_opening_a_fifo_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.close(open_image(str(tmp_path / "fifo")))


def test_a_name_keeps_its_dots_for_the_file_system_to_resolve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wire_path("a/../b.sif") == f"{tmp_path}/a/../b.sif"
    assert wire_path(os.fsdecode(b"/\xff")) == "/\udcff"
