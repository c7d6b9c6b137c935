"""Reading a run's record, and what differs between two of them."""

import pytest

from xpool.project.errors import InputError
from xpool.project.records import RECORD, differences, read_record


def test_a_record_is_read(tmp_path):
    (tmp_path / RECORD).write_text('{"run": {"seed": 0}}')
    assert read_record(tmp_path) == {"run": {"seed": 0}}


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "not found"), ("{", "not JSON"), ("[1]", "expected an object")],
)
def test_what_is_no_record_is_one_line_that_names_the_file(tmp_path, text, said):
    if text:
        (tmp_path / RECORD).write_text(text)
    with pytest.raises(InputError) as caught:
        read_record(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / RECORD}: {said}")
    assert "dvc repro" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_differences_are_named_by_dotted_key_in_order():
    one = {"b": {"x": 1, "y": [1, 2]}, "a": 0, "same": {}, "only": None}
    other = {"b": {"x": 1, "y": [2, 1]}, "a": 1, "same": {}, "new": {"z": 3}}
    assert list(differences(one, other)) == [
        ("a", 0, 1),
        ("b.y", [1, 2], [2, 1]),
        ("new.z", "nothing", 3),
        ("only", None, "nothing"),
    ]
    assert not list(differences(one, one))
