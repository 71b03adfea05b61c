"""Lines are found however their bytes come in, and none is longer than the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclctl.daemon.sockets.lines import LINE_LIMIT, LineBuffer, LineTooLongError


@given(st.lists(st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"")), max_size=8), st.integers(1, 7))
def test_lines_come_out_as_they_were_sent_in_pieces_of_any_size(lines, size):
    sent, buffer, found = b"".join(line + b"\n" for line in lines), LineBuffer(), []
    for start in range(0, len(sent), size):
        buffer.add(sent[start : start + size])
        while buffer.has_line():
            found.append(buffer.next_line())
        assert buffer.next_line() is None
    assert found == lines
    assert not buffer.has_partial_line()


def test_a_line_may_have_64_kib_with_its_newline_and_no_byte_more():
    buffer = LineBuffer()
    buffer.add(b"x" * (LINE_LIMIT - 1))
    assert buffer.next_line() is None
    buffer.add(b"\n")
    assert buffer.next_line() == b"x" * (LINE_LIMIT - 1)
    buffer.add(b"x" * LINE_LIMIT)
    with pytest.raises(LineTooLongError):
        buffer.next_line()


def test_what_is_dropped_does_not_come_back():
    buffer = LineBuffer()
    buffer.add(b"one\ntwo\nthr")
    assert buffer.next_line() == b"one"
    buffer.clear()
    assert not buffer.has_line()
    assert not buffer.has_partial_line()
    buffer.add(b"four\n")
    assert buffer.next_line() == b"four"
