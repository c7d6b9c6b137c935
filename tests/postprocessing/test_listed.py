"""The section `post_processing`: what it lists is made, and each mistake is one line that helps."""

import pytest

from xpool.postprocessing.listed import PostProcessingParams, file_of, listed
from xpool.postprocessing.nnn import NNN
from xpool.project import plugins
from xpool.project.errors import InputError

BANK = {"captions": 100, "seed": 0}
ALL = plugins.members("xpool.postprocessing", "POSTPROCESSING")


def params(members, bank=None):
    return PostProcessingParams.model_validate({"members": members, "bank": bank})


def test_nothing_is_listed():
    assert listed(params({})) == {}


def test_all_members_are_made_with_their_defaults():
    found = listed(params({name: {} for name in ALL}, BANK))
    assert sorted(found) == list(ALL)
    assert len({member.title for member in found.values()}) == len(ALL)
    assert {type(m).__module__ for m in found.values()} == set(map(file_of, ALL))


def test_arguments_reach_the_constructor():
    member = listed(params({"nnn": {"k": 16, "alpha": 1}}, BANK))["nnn"]
    assert isinstance(member, NNN)
    assert (member.k, member.alpha) == (16, 1)


@pytest.mark.parametrize(
    ("members", "bank", "said"),
    [
        (
            {"dual": {}},
            None,
            "members.dual: no file xpool/postprocessing/dual.py for 'dual'; there are: dual_dis, ",
        ),
        (
            {"base": {}},
            None,
            "members.base: xpool/postprocessing/base.py: the file must end in 'POSTPROCESSING = ",
        ),
        (
            {"dual_softmax": {"temprature": 1.0}},
            None,
            "members.dual_softmax.temprature: xpool.postprocessing.dual_softmax takes no such "
            "argument; known: temperature",
        ),
        (
            {"nnn": {"k": 1.5}},
            BANK,
            "members.nnn.k: Input should be a valid integer; got 1.5",
        ),
        ({"nnn": {"k": 0}}, BANK, "members.nnn: k must be above 0; got 0"),
        (
            {"dual_softmax": {}, "nnn": {}},
            None,
            "bank: nnn needs one; write {captions: 1000, seed: 0}, or take it off members",
        ),
        ({"sinkhorn": {}}, None, "bank: sinkhorn needs one; "),
        ({"sinkhorn": {"bank": False}}, BANK, "bank: no listed member needs one, and it takes "),
        ({}, BANK, "bank: no listed member needs one"),
    ],
)
def test_a_mistake_is_one_line(members, bank, said):
    with pytest.raises(InputError) as caught:
        listed(params(members, bank))
    assert str(caught.value).startswith(f"params.yaml: post_processing.{said}")
    assert "\n" not in str(caught.value)
