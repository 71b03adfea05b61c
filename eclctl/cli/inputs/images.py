"""How a command opens an image that it reads itself."""

from __future__ import annotations

import os
import stat

from eclctl.errors import UnreadableImageError, UnsupportedFileError


def open_regular_file(image: str) -> int:
    """Open a regular file for reading, without waiting for a lease or a writer.

    Returns:
        The descriptor, which the caller closes.

    Raises:
        UnsupportedFileError: It is not a regular file.
        UnreadableImageError: It cannot be opened.
    """
    try:
        if not stat.S_ISREG(os.stat(image).st_mode):
            raise UnsupportedFileError("not a regular file")
        return os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UnreadableImageError(f"cannot open the image: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableImageError("cannot open the image: the name holds a NUL character") from error
