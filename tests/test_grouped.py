"""Many lines of a kind are summed up, and none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybridq.cli.grouped import FEW, MANY, and_more, groups, summed
from hybridq.errors import Problem

WORDS = ["{} stays float32: give nodes=[{}]", "{} is rounded to uint8 for {}, {}", "{}: its noise changes by {} dB"]
problems = st.builds(
    lambda kind, numbers, severity: Problem(
        WORDS[kind].format(*(f"'layer/{n}'" if kind < 2 else n for n in numbers)),
        path=f"cfg:{numbers[0]}",
        severity=severity,
        hint=f"Raise 'layer/{numbers[1]}' too.",
    ),
    st.integers(0, 2),
    st.lists(st.integers(0, 99), min_size=3, max_size=3),
    st.sampled_from(["warning", "note", "error"]),
)


@given(st.lists(problems, max_size=60))
def test_there_are_few_lines_of_a_kind_and_their_number_is_told(found: list[Problem]) -> None:
    told = summed(found)
    errors = [p for p in told if p.severity == "error"]
    assert len(errors) <= len(WORDS) * MANY
    assert len(told) - len(errors) <= 2 * len(WORDS) * FEW
    hidden = sum(int(p.hint.rsplit("and ", 1)[1].split()[0]) for p in told if "more of this kind" in p.hint)
    assert len(told) + hidden == len(found)


def test_errors_of_a_kind_are_all_told_unless_one_remedy_is_for_all() -> None:
    some = [Problem(f"no 'mmse' is recorded for '{n}'", "cfg", line=n, hint="Run step1 again.") for n in range(1, 90)]
    assert summed(some[:MANY]) == some[:MANY]
    (told,) = summed(some)
    assert told.hint == "Run step1 again.\nand 88 more of this kind, in lines 2 to 89 (--verbose has all)"


def test_how_many_tensors_a_sentence_names_makes_no_other_kind() -> None:
    one = Problem("'a' is rounded for 'b'", severity="note")
    more = [Problem(f"'{n}' is rounded for 'x', 'y' and '{n}'", severity="note") for n in "cdef"]
    (told,) = summed([one, *more])
    assert told.message == one.message
    assert "and 4 more of this kind" in told.hint


def test_groups_come_in_the_order_of_their_first() -> None:
    assert groups([3, 1, 4, 1, 5, 9, 2, 6], lambda n: n % 2) == [[3, 1, 1, 5, 9], [4, 2, 6]]
    assert (and_more("a", 1), and_more("a", 3)) == ("a", "a and 2 more")
