"""A site for each test, as for deciding."""

from tests.unit.decide.conftest import site

__all__ = ["site"]
