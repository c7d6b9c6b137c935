"""The paper's regime through the real pipeline: frames in, the whole encoder trained."""

import numpy as np
import pandas as pd
import pytest
from projects import Project

pytestmark = pytest.mark.slow


def test_fine_tuning_regime_trains_the_whole_encoder(tmp_path, commands):
    """The paper's regime: frames in, all of the encoder trained, no cached embeddings."""
    from safetensors.numpy import load_file

    tuned = Project(
        tmp_path / "tuned",
        commands,
        benchmarks=["msvd"],
        baselines=["mean_pool"],
        studies={"own_models": [], "trained_models": []},
        generate__benchmarks=["msvd"],
        generate__msvd__videos={"train": 12, "val": 4, "test": 6},
        train__reads="frames",
        train__frames=4,
        frames__counts=[4],
        train__workers=2,
        recipes__xpool={
            "msvd": {
                "lr_encoder": 1.0e-4, "lr_pooling": 1.0e-3,
                "pooling": {"heads": 1, "dropout": 0.3, "temperature": 1.0},
            }
        },
        recipes__mean_pool={"msvd": {"lr_encoder": 1.0e-4, "lr_pooling": 0.0, "pooling": {}}},
    )  # fmt: skip
    tuned.repro("ranks")
    before = load_file(tuned.folder / "data/mini/encoder/open_clip_model.safetensors")
    after = load_file(tuned.folder / "results/mini/train/xpool/msvd/0/checkpoint.safetensors")
    for name, value in before.items():
        moved = np.abs(after[f"towers.encoder.model.{name}"] - value).max()
        assert moved > 0 or name == "token_embedding.weight", name
    table = pd.read_csv(tuned.folder / "results/mini/metrics.csv")
    assert set(table["method"]) == {"xpool", "mean_pool"}
