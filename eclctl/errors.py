"""Every error that eclctl raises on purpose.

Errors are for broken input and failed I/O. What verifying and deciding find out is *returned*
(`model.Failure`, `terms.Finding`), never raised. Each error carries a short `code` from a closed list, which an
answer, a log record or a metric label can show, and a message for people that says what is wrong, where, and what
to do next. `decide.engine` is the one place that turns an exception into a deny.
"""

from __future__ import annotations

from typing import ClassVar


class EclctlError(Exception):
    """Root of every error that eclctl raises on purpose."""

    code: ClassVar[str] = "internal-error"


class MalformedImageError(EclctlError):
    """The file claims to be a SIF image, and its structure contradicts itself or a bound."""

    code = "malformed"


class UnreadableImageError(EclctlError):
    """The image is missing, cannot be opened or read, or the caller may not know whether it exists."""

    code = "unreadable"


class UnsupportedFileError(EclctlError):
    """What was named or passed is no file that can hold an image: a FIFO, a device, an O_PATH descriptor."""

    code = "unsupported-file"


class BusyImageError(EclctlError):
    """The image changed while it was read, or another process holds a lease on it."""

    code = "busy"


class KeyMaterialError(EclctlError):
    """A key, certificate or keyring file that cannot be read or parsed."""

    code = "key-material"


class ConfigError(EclctlError):
    """The daemon's configuration or a policy does not load."""

    code = "config"


class AuditError(EclctlError):
    """The audit log cannot be opened or written: what it should hold is denied."""

    code = "audit"


class RemoteError(EclctlError):
    """Something outside could not be asked, or did not answer as it must. The message names the URL."""

    code = "remote"


class SigningError(EclctlError):
    """A file cannot be signed or changed as it was asked for; it is as it was."""

    code = "signing"
