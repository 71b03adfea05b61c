"""Names of files that are being fetched."""

from __future__ import annotations

import pytest

from eclctl.files.temporary_names import continued_name, is_continued, is_temporary

OURS = continued_name("image.sif", "sha256:0")


def test_a_name_is_found_again_and_is_no_others() -> None:
    assert continued_name("image.sif", "sha256:0") == OURS
    assert is_temporary(OURS)
    assert is_continued(OURS, "image.sif")
    assert not is_continued(OURS, "other.sif")
    assert continued_name("image.sif", "sha256:1") != OURS


@pytest.mark.parametrize("name", ["image.sif", ".eclctl-pull-1.part", f"x{OURS}", f"{OURS}\n"])
def test_other_names_are_not_ours(name: str) -> None:
    assert not is_temporary(name)
