"""A running daemon for the tests beside this file."""

import pytest

from tests.site import Site


@pytest.fixture
def site():
    """A site whose daemon runs."""
    made = Site()
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def quiet_site():
    """A site whose daemon does not run yet."""
    made = Site()
    try:
        yield made
    finally:
        made.close()
