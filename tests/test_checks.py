"""What every public function checks its arguments with."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ddjax import checks


@settings(max_examples=200, deadline=None)
@given(
    value=st.one_of(
        *(st.floats(), st.integers(), st.text(max_size=3), st.none(), st.booleans()),
        st.lists(st.integers(0, 9), max_size=3),
    )
)
def test_any_value_is_a_count_or_refused(value):
    refusal = None
    try:
        checks.at_least("count", value, 1)
    except ValueError as error:
        refusal = str(error)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    assert (refusal is None) == is_count
    assert refusal is None or f"expected a whole number >= 1; got {value!r}" in refusal
