"""Logging in to a registry, as it asks for it: `Basic`, or a token (distribution's token specification).

A registry names its own authorization server, mostly on another host (`auth.docker.io`). Which server gets a secret:

1. The registry that the user named gets name and password where it asks for `Basic`, and tokens.
2. The server that it names gets name and password, or a refresh token, if the registry was reached by TLS and the
   server is reached by TLS; or if it is the registry itself, same scheme, host and port. A name that came over http
   may be an attacker's: that server is asked only for an anonymous token.
3. It is asked for the rights that the command needs in the repository that the user named. What the registry says that
   it wants is ignored: else a registry could have us fetch a token for another user's repository, and keep it.
4. Its redirects are not followed. Its token goes to the registry alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlencode
from urllib.request import parse_http_list, parse_keqv_list

from eclctl.errors import RemoteError
from eclctl.remote.http.client import escaped, parse_url
from eclctl.remote.http.limits import MAX_TOKEN, MAX_TOKEN_ANSWER
from eclctl.remote.registry.answers import json_object
from eclctl.remote.registry.credentials import RegistryCredentials

_OK: Final = 200
_MAX_SERVICE: Final = 256


Ask: TypeAlias = Callable[[str, str, Mapping[str, str], bytes | None, int], tuple[int, bytes]]
"""Asks an authorization server once: by method, URL, headers, body and limit; returns status and body."""


class Login:
    """What is sent to one registry to say who we are.

    Args:
        name: the reference, for messages.
        origin: scheme, host and port of the registry.
        scope: the rights that are needed.
        credentials: what there is to log in with.
        ask: how a server is asked.
    """

    def __init__(
        self, name: str, origin: tuple[str, str, int], scope: str, credentials: RegistryCredentials, ask: Ask
    ) -> None:
        self._name = name
        self._origin = origin
        self._scope = scope
        self._credentials = credentials
        self._ask = ask
        self.headers = {"Authorization": f"Bearer {credentials.bearer}"} if credentials.bearer else {}
        """What says who we are, once the registry has asked."""

    @property
    def who(self) -> str:
        """Who that is, for messages."""
        if not self._credentials:
            return (
                "requests without a login; log in (`docker login`, `singularity registry login`), or set "
                "SINGULARITY_DOCKER_USERNAME and SINGULARITY_DOCKER_PASSWORD"
            )
        name = escaped(self._credentials.username) or "a token"
        return f"{name}, whose credentials are from {escaped(self._credentials.source)}"

    def respond(self, challenges: Sequence[str]) -> None:
        """Find out what to send from now on, from the registry's `WWW-Authenticate` headers.

        Raises:
            RemoteError: it asks for something that there is not, or that must not be sent where it is to go.
        """
        asked: dict[str, str] = {}
        for challenge in challenges:
            scheme, _, rest = challenge.strip().partition(" ")
            asked.setdefault(scheme.lower(), rest)
        if "bearer" in asked:
            self.headers = {"Authorization": f"Bearer {self._token(_parameters(asked['bearer']))}"}
        elif "basic" in asked:
            basic = self._credentials.basic
            if basic is None:
                raise RemoteError(f"{self._name}: the registry refuses {self.who}")
            self.headers = {"Authorization": f"Basic {basic}"}
        else:
            raise RemoteError(f"{self._name}: the registry wants a login of a kind that is not supported")

    def _token(self, asked: Mapping[str, str]) -> str:
        realm, service = asked.get("realm", ""), asked.get("service", "")
        self._check_realm(realm)
        if len(service) > _MAX_SERVICE or not service.isprintable():
            raise RemoteError(f"{self._name}: the registry names no proper service to log in to")
        wanted = {"service": service, "scope": self._scope} if service else {"scope": self._scope}
        if self._credentials.identity:
            form = wanted | {
                "grant_type": "refresh_token",
                "client_id": "eclctl",
                "refresh_token": self._credentials.identity,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._ask("POST", realm, headers, urlencode(form).encode("ascii"), MAX_TOKEN_ANSWER)
        else:
            basic = self._credentials.basic
            headers = {"Authorization": f"Basic {basic}"} if basic is not None else {}
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(wanted)}"
            answer = self._ask("GET", url, headers, None, MAX_TOKEN_ANSWER)
        return self._read(realm, *answer)

    def _check_realm(self, realm: str) -> None:
        """Refuse an authorization server that must not get what would be sent to it."""
        try:
            origin = parse_url(realm).origin
        except RemoteError:
            origin = None
        if origin is None or set("#'") & set(realm):
            raise RemoteError(f"{self._name}: the registry says to log in at {escaped(realm)}, which is no URL to ask")
        if origin == self._origin:
            return
        if self._origin[0] == "https" and origin[0] != "https":
            raise RemoteError(f"{self._name}: the registry says to log in at {escaped(realm)}, which has no TLS")
        if self._origin[0] != "https" and self._credentials:
            raise RemoteError(
                f"{self._name}: the registry, which was reached without TLS, says to log in at {escaped(realm)}; that "
                "may be an attacker's answer, so no credentials are sent there"
            )

    def _read(self, realm: str, status: int, body: bytes) -> str:
        if status != _OK:
            raise RemoteError(f"{escaped(realm)} answered with status {status}: it refuses {self.who}")
        members = json_object(body) or {}
        token = members.get("token") or members.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise RemoteError(f"{escaped(realm)} gave no token")
        if len(token) > MAX_TOKEN:
            raise RemoteError(f"{escaped(realm)} gave a token of {len(token)} characters, which no registry would take")
        return token


def _parameters(challenge: str) -> Mapping[str, str]:
    """Return the parameters of a challenge (RFC 9110 section 11.2); none where they cannot be read."""
    try:
        return {name.lower(): value for name, value in parse_keqv_list(parse_http_list(challenge)).items()}
    except (ValueError, IndexError):
        return {}
