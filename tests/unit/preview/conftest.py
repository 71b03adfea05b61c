"""A site for each test."""

from tests.unit.decide.conftest import site

__all__ = ["site"]
