"""`eclctl.dataclass` against the decorator of the standard library: each case is made with both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from eclctl import dataclass as own

_DECORATORS = (own._dataclass, dataclasses.dataclass)
_Make = Callable[..., Any]


def _values(decorate: _Make) -> type:
    @decorate(frozen=True, slots=True)
    class Value:
        name: str
        size: int = 0
        tags: list[str] = dataclasses.field(default_factory=list)
        origin: str = dataclasses.field(default="here", compare=False, repr=False)
        quiet: bool = dataclasses.field(default=False, kw_only=True)
        total: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.size * 2)

    return Value


@pytest.mark.parametrize("decorate", _DECORATORS)
class TestValues:
    """What both decorators do."""

    def test_takes_arguments_in_order_defaults_and_keywords(self, decorate: _Make) -> None:
        value = _values(decorate)("a", 3, quiet=True)
        assert (value.name, value.size, value.tags, value.origin, value.quiet, value.total) == (
            "a",
            3,
            [],
            "here",
            True,
            6,
        )

    def test_makes_a_new_value_by_the_factory_each_time(self, decorate: _Make) -> None:
        make = _values(decorate)
        assert make("a").tags is not make("a").tags

    @pytest.mark.parametrize("arguments", [(), ("a", 1, [], "x", True), ("a", 1, [], "x", 1, 2)])
    def test_refuses_missing_and_surplus_arguments(self, decorate: _Make, arguments: tuple[object, ...]) -> None:
        with pytest.raises(TypeError):
            _values(decorate)(*arguments)

    def test_refuses_an_unknown_keyword(self, decorate: _Make) -> None:
        with pytest.raises(TypeError):
            _values(decorate)("a", total=1)

    def test_compares_by_the_fields_that_count(self, decorate: _Make) -> None:
        make = _values(decorate)
        assert make("a", origin="x") == make("a", origin="y")
        assert make("a", 1) != make("a", 2)

    def test_a_value_of_another_type_is_never_equal(self, decorate: _Make) -> None:
        first, second = _values(decorate), _values(decorate)
        assert first("a") != second("a")
        assert first("a") != ("a", 0, [], False, 0)

    def test_has_a_hash_by_its_fields(self, decorate: _Make) -> None:
        @decorate(frozen=True, slots=True)
        class Point:
            x: int
            y: int

        assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2

    def test_is_shown_with_the_fields_that_show(self, decorate: _Make) -> None:
        shown = repr(_values(decorate)("a", 1))
        assert shown.endswith("Value(name='a', size=1, tags=[], quiet=False, total=2)")

    @pytest.mark.parametrize("name", ["name", "total"])
    def test_a_frozen_value_takes_no_assignment_and_no_deletion(self, decorate: _Make, name: str) -> None:
        value = _values(decorate)("a")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, "b")
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(value, name)
        assert value.name == "a"

    def test_a_value_with_slots_has_no_other_attributes(self, decorate: _Make) -> None:
        assert not hasattr(_values(decorate)("a"), "__dict__")

    def test_a_mutable_value_takes_assignments_and_has_no_hash(self, decorate: _Make) -> None:
        @decorate(slots=True)
        class Count:
            seen: int = 0
            names: set[str] = dataclasses.field(default_factory=set, init=False)

        count = Count()
        count.seen += 1
        count.names.add("a")
        assert (count.seen, count.names, Count().names) == (1, {"a"}, set())
        with pytest.raises(TypeError):
            hash(count)

    def test_without_eq_each_value_equals_itself_alone(self, decorate: _Make) -> None:
        @decorate(frozen=True, slots=True, eq=False)
        class Task:
            name: str

        task = Task("a")
        assert task == task  # noqa: PLR0124 - this is what is tested
        assert task != Task("a")
        assert len({task, Task("a")}) == 2

    def test_a_method_that_the_class_writes_itself_stays(self, decorate: _Make) -> None:
        @decorate(frozen=True, slots=True)
        class Secret:
            text: str

            def __repr__(self) -> str:
                return "Secret(…)"

            def __eq__(self, other: object) -> bool:
                return True

            def __hash__(self) -> int:
                return 7

        assert repr(Secret("a")) == "Secret(…)"
        assert Secret("a") == Secret("b")
        assert hash(Secret("a")) == 7

    def test_a_subtype_has_the_fields_of_its_base_first(self, decorate: _Make) -> None:
        @decorate(frozen=True, slots=True)
        class Base:
            a: int

        @decorate(frozen=True, slots=True)
        class Derived(Base):
            b: int = 2

        assert (Derived(1).a, Derived(1).b) == (1, 2)
        assert Derived(1) != Base(1)

    def test_replace_fields_and_asdict_work(self, decorate: _Make) -> None:
        value = _values(decorate)("a", 1, ["x"])
        assert own.replace(value, size=4).total == 8
        assert [each.name for each in own.fields(value)] == ["name", "size", "tags", "origin", "quiet", "total"]
        assert own.asdict(value)["tags"] == ["x"]
        assert own.asdict(value)["tags"] is not value.tags

    def test_a_type_without_fields_can_be_made(self, decorate: _Make) -> None:
        @decorate(frozen=True, slots=True)
        class Nothing:
            """Nothing."""

        assert Nothing() == Nothing()
        assert hash(Nothing()) == hash(Nothing())
