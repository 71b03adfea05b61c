"""How much a server may send, and how long it may take: one place for all of `eclctl.remote`."""

from __future__ import annotations

from typing import Final

MAX_REDIRECTS: Final = 3
MAX_URL: Final = 2048
"""The longest URL that is asked, in characters."""

MAX_HEADER_LINE: Final = 8190
"""The longest status or header line of an answer, in bytes."""

MAX_LOCATION: Final = 16 * 1024
"""The longest URL of a redirect or an upload that a registry may name: those that a cloud's storage signs are long."""

MAX_MANIFEST: Final = 1024 * 1024
"""The longest OCI manifest or index, in bytes: as much as is read of one in an image (`sif.oci`)."""

MAX_TOKEN_ANSWER: Final = 256 * 1024
MAX_TOKEN: Final = 64 * 1024
MAX_ERROR: Final = 64 * 1024
"""The longest body of an answer that is no success, in bytes."""

EXCHANGE_SECONDS: Final = 60.0
"""How long a small exchange may take in all, and how long a large one may stand still."""

MIN_BYTES_PER_SECOND: Final = 16 * 1024
"""The slowest that the transfer of a whole blob may be; below that, it counts as hanging."""

TRIES: Final = 5
"""How often in a row something is tried that may get through the next time."""

PAUSE_SECONDS: Final = 1.0
"""The pause before the second try; each further one is twice as long."""

MAX_PAUSE_SECONDS: Final = 30.0

CHUNK: Final = 1 << 20
"""How many bytes of a blob are in memory at once."""
