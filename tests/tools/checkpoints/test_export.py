"""What a run exports is loaded by other code, compares as the run does, and becomes a run again."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from made_checkpoints import (
    SMALL,
    embeddings,
    frame_data,
    openai_clip,
    run_of,
    transformers_clip,
    write_project,
    write_xpool,
    xpool_scores,
)
from safetensors.torch import load_file
from transformers import CLIPModel

from xpool import compare
from xpool.encoders.base import open_encoder
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.stages import evaluate
from xpool.tools.checkpoints import export, import_checkpoint
from xpool.tools.checkpoints.exported import encoder_of
from xpool.training.model import RetrievalModel
from xpool.training.towers import FrozenTowers

OUT = Path("exported")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def exported(library):
    """Export a run of X-Pool with random weights; return the folder of its scores."""
    write_project(library)
    write_xpool(Path("model_best.pth"), transformers_clip(SMALL))
    import_checkpoint.main(file=Path("model_best.pth"), out=run_of("xpool"))
    evaluate.main(run_of("xpool"))
    export.main(run_of("xpool"), OUT)
    return paths.similarity("mini", "xpool", "msvd", 0)


def loaded(library):
    """Load the CLIP by its library's own means."""
    if library == "huggingface":
        return CLIPModel.from_pretrained(OUT).eval()
    return open_clip.create_model(f"local-dir:{OUT}").eval()


LIBRARIES = pytest.mark.parametrize("library", ["openclip", "huggingface"])


@LIBRARIES
def test_other_code_gets_the_same_embeddings_and_scores(library):
    scored = exported(library)
    text, frames, mask = embeddings(loaded(library), frame_data("xpool"))
    np.testing.assert_allclose(np.load(OUT / "text.npy"), text, atol=1e-5)
    np.testing.assert_allclose(np.load(OUT / "frames.npy"), frames, atol=1e-5)
    assert (np.load(OUT / "mask.npy") == mask.numpy()).all()
    own = load_file(OUT / "pooling.safetensors")
    own = {name.removeprefix("pool_frames."): value for name, value in own.items()}
    stored = np.load(OUT / "similarity.npy")
    np.testing.assert_allclose(stored, xpool_scores(text, frames, mask, own), atol=1e-5)
    assert (stored == np.load(scored / "similarity.npy")).all()


@LIBRARIES
def test_an_export_becomes_a_run_again_with_the_same_scores(library):
    scored = exported(library)
    import_checkpoint.main(file=OUT, out=run_of("xpool", 1))
    evaluate.main(run_of("xpool", 1))
    again = paths.similarity("mini", "xpool", "msvd", 1) / "similarity.npy"
    assert again.read_bytes() == (scored / "similarity.npy").read_bytes()
    record = json.loads((run_of("xpool", 1) / "provenance.json").read_text())
    assert record["imported"]["file"] == "exported"


def compared(capsys, *words, **options):
    compare.main([str(word) for word in words], print_json=True, **options)
    return json.loads(capsys.readouterr().out)


def test_each_exported_file_compares_as_the_run_does(capsys):
    scored = exported("openclip")
    capsys.readouterr()
    folder = compared(capsys, scored, OUT)
    table = compared(capsys, scored, OUT / "ranks.parquet")
    matrix = compared(capsys, scored / "similarity.npy", OUT / "similarity.npy")
    trec = compared(
        capsys, OUT / "t2v.run.txt", OUT / "t2v.run.txt", qrels=OUT / "t2v.qrels.txt", depth=1000
    )
    for found in (folder, table, matrix):
        for direction in ("t2v", "v2t"):
            for one in found[direction].values():
                assert one["first"] == one["second"]
                assert one["won"] == one["lost"] == 0
    assert set(trec) == {"t2v"}
    assert {"R@1", "R@5", "R@10"} <= set(trec["t2v"])
    for metric, one in trec["t2v"].items():
        assert one["first"] == folder["t2v"][metric]["first"]


def test_a_trec_run_has_the_ranks_of_the_matrix_to_the_last_digit():
    exported("openclip")
    matrix = np.load(OUT / "similarity.npy")
    texts, videos = (pd.read_parquet(OUT / f"{n}.parquet") for n in ("texts", "videos"))
    lines = [line.split() for line in (OUT / "t2v.run.txt").read_text().splitlines()]
    assert len(lines) == matrix.size
    rows = {name: row for row, name in enumerate(texts["caption_id"])}
    columns = {name: column for column, name in enumerate(videos["video_id"])}
    for query, zero, video, place, score, tag in lines:
        own = matrix[rows[query], columns[video]]
        assert np.float32(score) == own
        above = (matrix[rows[query]] > own).sum()
        assert above < int(place) <= above + (matrix[rows[query]] == own).sum()
        assert (zero, tag) == ("Q0", "xpool")


def test_the_page_has_figures_protocol_and_provenance():
    exported("huggingface")
    page = (OUT / "README.md").read_text()
    assert page.startswith("---\nlicense: other\n")
    assert "SYNTHETIC" in page
    assert "IMPORTED from model_best.pth" in page
    recall = 100 * np.mean(
        [row.argmax() == k for k, row in enumerate(np.load(OUT / "similarity.npy"))]
    )
    [line] = [line for line in page.splitlines() if line.startswith("| Text → video")]
    assert line.split(" | ")[1].split()[0] == f"{recall:.2f}"
    for name in OUT.iterdir():
        listed = f"| `{name.name}` |" in page
        assert listed or name.suffix in (".md", ".json", ".txt", ".jinja"), name
    assert json.loads((OUT / "provenance.json").read_text())["commit"] in page
    assert (OUT / "tokenizer_config.json").is_file()
    assert (OUT / "preprocessor_config.json").is_file()


@LIBRARIES
def test_maps_behind_frozen_towers_are_multiplied_into_the_encoder(library):
    write_project(library)
    source = paths.encoder("mini")
    encoder = open_encoder(source)
    towers = FrozenTowers(encoder.dim, 3.0)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (towers.text_projection, towers.frame_projection):
            value.add_(0.3 * torch.randn(value.shape, generator=rng))
        found = encoder_of(RetrievalModel(towers, None, None), source)
        tokens = encoder.tokenize(["one thing", "the ring"])
        pixels = torch.randn(3, 3, 16, 16, generator=rng)
        text, image = encoder.encode_text(tokens), encoder.encode_image(pixels)
        torch.testing.assert_close(
            found.encode_text(tokens), text @ towers.text_projection, rtol=0, atol=1e-5
        )
        torch.testing.assert_close(
            found.encode_image(pixels), image @ towers.frame_projection, rtol=0, atol=1e-5
        )
        assert float(found.logit_scale) == 3.0


def test_a_folder_that_holds_something_and_a_run_without_scores_are_refused():
    exported("openclip")
    with pytest.raises(InputError, match="holds something already"):
        export.main(run_of("xpool"), OUT)
    with pytest.raises(InputError, match="similarity"):
        export.main(run_of("mean_pool"), Path("other"))
    assert not Path("other").exists()


def test_two_files_of_a_folder_with_one_name_are_refused():
    exported("openclip")
    copy = OUT / "copy.safetensors"
    copy.write_bytes((OUT / "open_clip_model.safetensors").read_bytes())
    with pytest.raises(InputError, match="is in another file of that folder too"):
        import_checkpoint.main(file=OUT, out=run_of("xpool", 1))


def test_a_method_without_weights_exports_its_clip_alone():
    write_project("openclip")
    clip = openai_clip(SMALL)
    torch.save({f"clip.{n}": v for n, v in clip.state_dict().items()}, "pytorch_model.bin.4")
    import_checkpoint.main(file=Path("pytorch_model.bin.4"), out=run_of("mean_pool"))
    evaluate.main(run_of("mean_pool"))
    export.main(run_of("mean_pool"), OUT)
    assert not (OUT / "pooling.safetensors").exists()
    import_checkpoint.main(file=OUT, out=run_of("mean_pool", 1))
