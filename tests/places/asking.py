"""What users in an arena do: they ask the daemon, with a descriptor or by name. Imported before they are users."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from eclctl.client import Client, ClientRequest, NoAnswerError

PATIENCE = 60.0


class Ask(NamedTuple):
    """One question: what to open and how, the name to send, the method, and whether the descriptor goes along.

    In both names, `@PID@` is the asking process; in the one to send, `@FD@` is the descriptor. `otherwise` is opened
    when `image` cannot be.
    """

    image: str
    name: str
    flags: int = os.O_RDONLY
    method: str = "check"
    fd: bool = True
    otherwise: str = ""


def plain(image: object, **more: object) -> Ask:
    """The question that an honest wrapper asks about an image."""
    return Ask(str(image), str(image), **more)  # type: ignore[arg-type]


def opened(question: Ask) -> int:
    """Open the image of a question as its asker."""
    flags = question.flags | os.O_CLOEXEC
    try:
        return os.open(question.image.replace("@PID@", str(os.getpid())), flags)
    except OSError:
        if not question.otherwise:
            raise
        return os.open(question.otherwise, flags)


def ask_with(client: Client, question: Ask) -> dict:
    """Ask one question; an error of the daemon is returned as `{"error": code, "message": text}`."""
    name = question.name.replace("@PID@", str(os.getpid()))
    parameters: dict[str, object] = {}
    descriptors = []
    if question.fd:
        parameters["fd"] = True
        descriptors = [opened(question)]
        name = name.replace("@FD@", str(descriptors[0]))
    parameters["image"] = os.fsencode(name).decode("utf-8", "surrogateescape")
    try:
        return client.ask(ClientRequest(question.method, parameters, descriptors))
    except NoAnswerError as error:
        return {"error": error.code, "message": str(error)}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class Asker:
    """A connection that is made anew where the daemon ended it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._client = Client(path, PATIENCE)

    def ask(self, question: Ask) -> dict:
        answer = ask_with(self._client, question)
        if answer.get("error") in {"no-answer", "bad-request"}:
            self._client.close()
            self._client = Client(self._path, PATIENCE)
        return answer

    def close(self) -> None:
        self._client.close()


def ask(path: str, questions: Sequence[Ask]) -> list[dict]:
    """Ask in order."""
    asker = Asker(path)
    try:
        return [asker.ask(question) for question in questions]
    finally:
        asker.close()


def ask_as_told(channel: Connection, path: str) -> None:
    """Ask what the test sends, one question at a time, until it is done."""
    asker = Asker(path)
    try:
        while True:
            channel.send(asker.ask(channel.recv()))
    except EOFError:
        asker.close()
