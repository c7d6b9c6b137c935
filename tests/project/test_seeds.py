"""Seeds by purpose (property and golden)."""

from xpool.project.seeds import seed_for


def test_seeds_differ_by_purpose_and_kind_and_stay_what_they_are():
    """The golden value is this project's own, so that no version of it draws differently."""
    seeds = [
        seed_for("a", 0), seed_for("a", 1), seed_for("b", 0), seed_for("a", "0"),
        seed_for("a0"), seed_for("a"), seed_for(0, "a"), seed_for("ab", "c"), seed_for("a", "bc"),
    ]  # fmt: skip
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for("train", "msvd", 0) == SEED_OF_TRAIN_MSVD_0


SEED_OF_TRAIN_MSVD_0 = 7163643485089383735
