"""The reader of params.yaml: what it refuses, and that it says where, what and what instead."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, Section, load, read, setting


class Inner(Section):
    rate: float = Field(ge=0)
    steps: int
    rule: Literal["a", "b"]
    exact: bool = True


class Outer(Section):
    counts: list[int]
    inner: Inner
    named: dict[str, Inner]
    listed: list[Inner]
    perhaps: Inner | None = None


GOOD = {
    "counts": "[1, 2]",
    "inner": "{rate: 0.5, steps: 3, rule: a}",
    "named": "{x: {rate: 0.5, steps: 3, rule: a}}",
    "listed": "[{rate: 0.5, steps: 3, rule: a}]",
}


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "params.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def outer(written):
    """A file with one good section, but for the lines given."""

    def write(**changes):
        lines = {**GOOD, **changes}
        return written("outer:\n" + "".join(f"  {k}: {v}\n" for k, v in lines.items() if v))

    return write


def error_of(path, key="outer", kind=Outer):
    with pytest.raises(InputError) as caught:
        read(key, kind, path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_a_good_section_is_read(outer):
    section = read("outer", Outer, outer())
    assert section.counts == [1, 2]
    assert section.named["x"].rate == 0.5
    assert read("outer.inner.steps", int, outer()) == 3


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("inner", "{rate: 1.0, steps: 3, rule: a, stpes: 3}", "outer.inner.stpes"),
        ("named", "{x: {rate: 1.0, steps: 3, rule: a, dropuot: 1}}", "outer.named.x.dropuot"),
        ("listed", "[{rate: 1.0, steps: 3, rule: a, k: 1}]", "outer.listed.0.k"),
        ("perhaps", "{rate: 1.0, steps: 3, rule: a, k: 1}", "outer.perhaps.k"),
    ],
)
def test_unknown_key_at_any_depth_lists_the_known_ones(outer, key, value, where):
    expected = f"{where}: unknown key; known: exact, rate, rule, steps"
    assert error_of(outer(**{key: value})) == expected


def test_unknown_key_at_the_top_of_a_section_lists_the_known_ones(outer):
    known = "counts, inner, listed, named, perhaps"
    assert error_of(outer(kounts="[1]")) == f"outer.kounts: unknown key; known: {known}"


def test_missing_key_is_named(outer):
    assert error_of(outer(counts=None)) == "outer.counts is missing"
    assert error_of(outer(inner="{rate: 1.0, rule: a}")) == "outer.inner.steps is missing"


def test_missing_section_lists_those_that_are_there(written):
    path = written("one: 1\ntwo: {three: 3}\n")
    assert error_of(path, "four") == "four is missing; known there: one, two"
    assert error_of(path, "two.five") == "two.five is missing; known there: three"
    assert error_of(path, "one.six") == "one.six is missing"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{rate: fast, steps: 3, rule: a}", "outer.inner.rate: Input should be a valid number"),
        ("{rate: true, steps: 3, rule: a}", "outer.inner.rate: Input should be a valid number"),
        ("{rate: .nan, steps: 3, rule: a}", "outer.inner.rate: Input should be a finite number"),
        ("{rate: .inf, steps: 3, rule: a}", "outer.inner.rate: Input should be a finite number"),
        ("{rate: -1.0, steps: 3, rule: a}", "outer.inner.rate: Input should be greater than"),
        ("{rate: 1.0, steps: yes, rule: a}", "outer.inner.steps: Input should be a valid integer"),
        ("{rate: 1.0, steps: 3.0, rule: a}", "outer.inner.steps: Input should be a valid integer"),
        ("{rate: 1.0, steps: '3', rule: a}", "outer.inner.steps: Input should be a valid integer"),
        ("{rate: 1.0, steps: 3, rule: c}", "outer.inner.rule: Input should be 'a' or 'b'; got 'c'"),
        ("{rate: 1.0, steps: 3, rule: a, exact: 1}", "outer.inner.exact: Input should be a valid"),
        ("[1, 2]", "outer.inner: Input should be a valid dictionary"),
        ("", "outer.inner is missing"),
    ],
)
def test_wrong_type_or_value_is_refused_without_conversion(outer, line, said):
    assert error_of(outer(inner=line)).startswith(said)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("{rate: 1e-6, steps: 3, rule: a}", "got '1e-6', which YAML reads as text; write 1.0e-06"),
        ("{rate: 1.5e3, steps: 3, rule: a}", "got '1.5e3', which YAML reads as text; write 1500.0"),
        ("{rate: 2.5e-7, steps: 3, rule: a}", None),
        ("{rate: 1.0, steps: 1.5e3, rule: a}", "'1.5e3', which YAML reads as text; write 1500"),
    ],
)
def test_a_number_that_yaml_takes_for_text_comes_with_its_right_spelling(outer, line, hint):
    if hint is None:
        assert read("outer", Outer, outer(inner=line)).inner.rate == 2.5e-7
    else:
        assert error_of(outer(inner=line)).endswith(hint)


def test_the_spelling_that_the_hint_gives_is_read(outer):
    for spelling, value in (("1.0e-06", 1e-6), ("1500.0", 1500.0), ("1.0e+22", 1e22)):
        path = outer(inner=f"{{rate: {spelling}, steps: 3, rule: a}}")
        assert read("outer", Outer, path).inner.rate == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [("v: '3'", int), ("v: 3", str), ("v: [1, '2']", list[int]), ("v: 3", list[int])],
)
def test_plain_types_are_not_converted_either(written, text, kind):
    assert "v" in error_of(written(text), "v", kind)


def test_a_constraint_beside_a_type_is_kept(written):
    kind = Annotated[list[int], Field(min_length=1)]
    assert error_of(written("v: []"), "v", kind).startswith("v: List should have at least 1 item")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", 3),
        ("a:\n  b: 1\n  c: {d: 1,\n      d: 2}\n", 4),
        ("a:\n  - {b: 1}\n  - b: 1\n    b: 2\n", 4),
    ],
)
def test_key_given_twice_is_refused_with_its_line(written, text, line):
    message = error_of(written(text), "a", int)
    assert message.startswith(f"line {line}: the key ")
    assert message.endswith(" is given twice")


def test_a_merge_key_may_override(written):
    path = written("base: &b {x: 1, y: 2}\nhere:\n  <<: *b\n  x: 3\n")
    assert load(path)["here"] == {"x": 3, "y": 2}


@pytest.mark.parametrize("text", ["a: [1, 2\n", "a: b: c\n", "\ta: 1\n", "? [1]\n: 2\n", "a: *x\n"])
def test_what_is_not_yaml_is_one_line(written, text):
    assert error_of(written(text), "a", int).startswith("not valid YAML: ")


def test_what_is_not_text_is_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    assert error_of(path, "a", int).startswith("not valid YAML: ")


@pytest.mark.parametrize("text", ["", "just words\n", "- 1\n- 2\n"])
def test_a_file_that_is_no_mapping_is_refused(written, text):
    assert error_of(written(text), "a", int).startswith("expected a mapping")


def test_yaml_tags_do_not_run_code(written, tmp_path):
    mark = tmp_path / "ran"
    text = f"a: !!python/object/apply:pathlib.Path.touch [!!python/object:pathlib.Path ['{mark}']]"
    assert error_of(written(text), "a", int).startswith("not valid YAML: ")
    assert not mark.exists()


def test_missing_file_says_where_to_stand(tmp_path):
    path = tmp_path / "params.yaml"
    assert error_of(path, "a", int) == "not found; run this from the project's top folder"


def test_an_edited_file_is_read_again(written):
    assert read("a", int, written("a: 1\n")) == 1
    assert read("a", int, written("a: 22\n")) == 22


def test_a_section_cannot_be_changed(outer):
    section = read("outer", Outer, outer())
    with pytest.raises(ValueError, match="frozen"):
        section.counts = []


def test_setting_is_read_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PARAMS_FILE.write_text("setting: paper\n")
    assert setting() == "paper"
