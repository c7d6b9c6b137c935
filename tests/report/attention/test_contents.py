"""Contents of the attention page, on made-up runs that went through the real stages."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import worlds
import yaml

from xpool.data.frame_cache import INDEX, FrameCache, FramesParams
from xpool.data.manifest import COLUMNS
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import read
from xpool.project.paths import TOP
from xpool.report import notebook
from xpool.report.attention import contents, examples
from xpool.report.protocol import read_protocols
from xpool.stages import evaluate, report
from xpool.training.cell import new_model, read_cell
from xpool.training.checkpoints.run_state import save_weights
from xpool.training.data import Gallery, open_data
from xpool.xpool import XPool

METHODS = ("xpool.xpool", "baselines.mean_pool", "baselines.self_attention")
H, W = 12, 16


# --- which queries ---


def test_groups_hold_each_text_once():
    rank = {
        "xpool": np.array([1, 1, 2, 3, 1.5]),
        "mean_pool": np.array([1, 4, 1, 9, 1]),
        "top_k": np.ones(5),
    }
    found = {name: rows.tolist() for (name, _), rows in examples.groups(rank).items()}
    assert found == {
        "gain": [False, True, False, False, False],
        "both": [True, False, False, False, False],
        "miss": [False, False, True, True, True],
    }


def test_groups_without_another_method_are_right_and_wrong():
    found = examples.groups({"xpool": np.array([1, 2])})
    assert [rows.tolist() for rows in found.values()] == [[True, False], [False, True]]


def test_margins_match_a_slow_loop():
    rng = np.random.default_rng(0)
    scores, video_of_text = rng.normal(size=(7, 4)), rng.integers(4, size=7)
    slow = [row[v] - max(np.delete(row, v)) for row, v in zip(scores, video_of_text, strict=True)]
    np.testing.assert_allclose(examples.margins(scores, video_of_text), slow, rtol=0, atol=0)


def test_examples_take_the_middle_of_each_group_and_name_its_size():
    rank = {"xpool": np.array([1, 1, 1, 2, 2, 1]), "mean_pool": np.array([2, 2, 2, 1, 1, 1])}
    margin = np.array([0.3, 0.1, 0.2, -0.2, -0.1, 0.5])
    chosen = examples.examples(rank, margin, np.random.default_rng(0), drawn=0)
    assert [(one.name, one.text) for one in chosen] == [("gain", 2), ("both", 5), ("miss", 3)]
    assert "typical one of 3 texts" in chosen[0].reason


def test_examples_leave_an_empty_group_out_and_draw_others_without_repeats():
    rank = {"xpool": np.ones(9), "mean_pool": np.ones(9)}

    def draw(seed, drawn):
        return examples.examples(rank, np.arange(9.0), np.random.default_rng(seed), drawn)

    assert [example.name for example in draw(0, 2)] == ["both", "random-1", "random-2"]
    assert sorted(example.text for example in draw(0, 20)) == list(range(9))
    assert draw(3, 4) == draw(3, 4)
    assert {tuple(p.text for p in draw(seed, 3)) for seed in range(9)} != {(4, 0, 1, 2)}


# --- which frames a caption describes ---


def truth(rng, videos=8, captions=3):
    """Scenes and captions as the generator writes them, one text a caption, and sampled frames."""
    scenes, said, texts, sampled = [], [], [], {}
    for number in range(videos):
        video_id, length = f"v#{number}", int(rng.integers(6, 30))
        cuts = [0, *sorted(rng.choice(np.arange(1, length), 2, replace=False).tolist()), length]
        scenes += [(video_id, k, cuts[k], cuts[k + 1]) for k in range(3)]
        for k in range(captions):
            said.append((video_id, k, int(rng.integers(3))))
            texts.append((f"{video_id}#{k}", video_id))
        index = np.sort(rng.choice(length, 6, replace=False))
        sampled[video_id] = (index, np.arange(6) < rng.integers(1, 7))
    return (
        pd.DataFrame(texts, columns=["caption_id", "video_id"]),
        pd.DataFrame(said, columns=["video_id", "caption_index", "scene"]),
        pd.DataFrame(scenes, columns=["video_id", "scene", "start_frame", "end_frame"]),
        sampled,
    )


def test_described_frames_match_a_slow_loop():
    texts, captions, scenes, sampled = truth(np.random.default_rng(1))
    found = examples.described(texts, captions, scenes, sampled)
    for row, (caption_id, video_id) in enumerate(texts.itertuples(index=False)):
        k = int(caption_id.split("#")[-1])
        of_video = captions[captions["video_id"] == video_id].set_index("caption_index")
        scene = of_video.loc[k, "scene"]
        spans = scenes[scenes["video_id"] == video_id].set_index("scene")
        for frame, (index, real) in enumerate(zip(*sampled[video_id], strict=True)):
            inside = index in range(spans.loc[scene, "start_frame"], spans.loc[scene, "end_frame"])
            assert found[row, frame] == (inside and real)


def test_described_reads_a_test_sentence_as_the_first_caption():
    _, captions, scenes, sampled = truth(np.random.default_rng(2))
    video_ids = list(sampled)[::-1]
    named = pd.DataFrame({"caption_id": [f"ret{n}" for n in range(8)], "video_id": video_ids})
    first = pd.DataFrame({"caption_id": [f"{v}#0" for v in video_ids], "video_id": video_ids})
    one, other = (examples.described(t, captions, scenes, sampled) for t in (named, first))
    np.testing.assert_array_equal(one, other)


def test_described_names_a_text_that_the_generator_does_not_know():
    texts, captions, scenes, sampled = truth(np.random.default_rng(3))
    with pytest.raises(InputError, match=r"caption v#0#0 .*captions.parquet.*dvc repro"):
        examples.described(texts, captions[1:], scenes, sampled)


# --- the weights ---


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_matches_a_slow_loop(heads):
    """Oracle: softmax of scaled products, written out in float64; heads averaged."""
    torch.manual_seed(0)
    pooling = XPool(8, heads=heads, temperature=0.5)
    for parameter in pooling.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    text, frames = torch.randn(3, 8), torch.randn(4, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False], [True] * 5])
    found = contents.Attention(pooling, Gallery(text, frames, mask, pd.DataFrame(), []))
    video_of_text = np.array([2, 1, 2])
    own = found.own(video_of_text)
    pooling = copy.deepcopy(pooling).double()
    with torch.no_grad():
        q = pooling.cross_attn.q_proj(pooling.layer_norm1(text.double()))
        k = pooling.cross_attn.k_proj(pooling.layer_norm1(frames.double()))
    width = 8 // heads
    for t in range(3):
        for v in range(4):
            slow = np.zeros(5)
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                n = int(mask[v].sum())
                logits = [float(q[t, part] @ k[v, f, part]) / width**0.5 / 0.5 for f in range(n)]
                e = np.exp(np.array(logits) - max(logits))
                slow[:n] += e / e.sum() / heads
            if v == video_of_text[t]:
                np.testing.assert_allclose(own[t], slow, atol=1e-5)
    again = found.weights([0, 2], [1, 3])
    assert again.shape == (2, 2, 5)
    np.testing.assert_allclose(again.sum(axis=-1), 1, atol=1e-6)
    assert not again[:, 0, 2:].any()


# --- a project with real runs ---


def write_frames(folder, lengths):
    """Write what the stage ``frames`` writes; a pixel tells its video's row and frame's number."""
    folder.mkdir(parents=True)
    rows, parts, offset = [], [], 0
    for row, (video_id, length) in enumerate(lengths.items()):
        pixels = np.zeros((length, H, W, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = row, np.arange(length)[:, None, None]
        rows.append((video_id, 0, offset, H, W, length, list(range(length)), 0))
        parts.append(pixels)
        offset += pixels.size
    np.concatenate(parts).tofile(folder / "frames-000.bin")
    columns = dict(zip(INDEX.names, zip(*rows, strict=True), strict=True))
    table = pa.table({name: list(values) for name, values in columns.items()}, schema=INDEX)
    pq.write_table(table, folder / "index.parquet")


def write_truth(folder, lengths, texts):
    folder.mkdir(parents=True)
    scenes = []
    for video_id, length in lengths.items():
        half = (length + 1) // 2
        scenes += [(video_id, 0, 0, half), (video_id, 1, half, length)]
    columns = ["video_id", "scene", "start_frame", "end_frame"]
    pd.DataFrame(scenes, columns=columns).to_parquet(folder / "scenes.parquet")
    index = texts["caption_id"].str.rpartition("#")[2].astype(int)
    said = texts[["video_id"]].assign(caption_index=index, scene=index % 2)
    said.to_parquet(folder / "captions.parquet")


def frames_of(video_id):
    """Frames of a test video: every fifth is short."""
    return worlds.FRAMES if int(video_id.removeprefix("test")) % 5 else worlds.FRAMES - 2


def made_params(setting):
    params = yaml.safe_load((TOP / "settings" / "paper.yaml").read_text())
    params |= {"setting": setting, "benchmarks": ["msvd"], "seeds": [0]}
    params["train"] |= {"frames": worlds.FRAMES, "reads": "embeddings"}
    short = "mask" if setting == "mini" else "repeat_last"
    params["frames"] |= {"counts": [worlds.FRAMES], "short_videos": short}
    small = {"heads": 2, "layers": 2, "positions": 8}
    params["recipes"]["self_attention"]["msvd"] |= {"pooling": small}
    return params


def write_project(setting):
    """Write all that the demo reads under the current folder; the runs are real, if untrained."""
    Path("params.yaml").write_text(yaml.safe_dump(made_params(setting)))
    folder = paths.embeddings(setting, "msvd")
    worlds.write_embeddings(folder)
    texts = pd.read_parquet(folder / "texts.parquet").assign(path="x.avi")
    videos = pd.read_parquet(folder / "videos.parquet")
    lengths = dict(zip(videos["video_id"], videos["video_frames"].tolist(), strict=True))
    manifest = paths.manifest(setting, "msvd")
    manifest.parent.mkdir(parents=True)
    texts[list(COLUMNS)].to_parquet(manifest)
    write_frames(paths.frames(setting, "msvd"), lengths)
    if setting == "mini":
        write_truth(paths.truth(setting, "msvd"), lengths, texts)
    for method in METHODS:
        cell = read_cell(method, "msvd", 0)
        data = open_data(setting, "msvd", cell.train, read("frames", FramesParams))
        trained = paths.training(setting, method.rpartition(".")[2], "msvd", 0)
        save_weights(new_model(cell, data), trained / "checkpoint.safetensors")
        evaluate.main(method=method)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folders = {}
    for setting in ("mini", "paper"):
        folders[setting] = tmp_path_factory.mktemp(setting)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folders[setting])
            write_project(setting)
    return folders


@pytest.fixture(params=["mini", "paper"])
def demo(request, made, monkeypatch):
    monkeypatch.chdir(made[request.param])
    return contents.open_demo(read_protocols()[0])


def test_demo_agrees_with_the_runs(demo):
    assert list(demo.similarity) == ["xpool", "mean_pool", "self_attention"]
    assert len(demo.texts) == 60
    assert len(demo.video_ids) == 20
    assert ("SYNTHETIC" in demo.title) == demo.protocol.synthetic
    assert demo.counts().startswith("60 texts. X-Pool right, Mean pooling wrong: ")
    for method, scores in demo.similarity.items():
        right = scores[np.arange(60), demo.video_of_text]
        slow = 1 + (scores > right[:, None]).sum(axis=1)
        np.testing.assert_array_equal(demo.rank[method], slow)


def test_query_shows_the_text_with_its_own_video_and_frames(demo):
    for example in demo.examples():
        query = demo.query(example)
        video_id = demo.texts["video_id"].iloc[example.text]
        number = FrameCache(paths.frames(demo.protocol.setting, "msvd")).video_ids.index(video_id)
        assert query.caption == demo.texts["caption"].iloc[example.text]
        assert (query.strip.frames[..., 0] == number).all(), "frames of the text's own video"
        real = frames_of(video_id)
        shown = [*range(real), *[real - 1] * (worlds.FRAMES - real)]
        assert query.strip.frames[:, 0, 0, 1].tolist() == shown, "in order of time"
        assert query.strip.weights.sum() == pytest.approx(1, abs=1e-5)
        assert bool(query.strip.weights[real:].any()) == (
            real < worlds.FRAMES and demo.protocol.setting == "paper"  # the last frame repeated
        )


def test_rows_hold_the_first_five_and_mark_the_right_one(demo):
    for example in demo.examples():
        for row in demo.query(example).rows:
            scores = demo.similarity[row.method][example.text]
            assert [found.rank for found in row.retrieved] == [1, 2, 3, 4, 5]
            best = sorted(scores.tolist(), reverse=True)[:5]
            assert [found.score for found in row.retrieved] == best
            right = [found.rank for found in row.retrieved if found.right]
            assert right == ([row.rank] if row.rank <= 5 else [])


def test_a_video_is_shown_by_its_most_attended_or_middle_frame(demo):
    example = demo.examples()[0]
    for row in demo.query(example).rows:
        for found in row.retrieved:
            video = demo.video_ids.index(found.video_id)
            weights = demo.attention.weights([example.text], [video])[0, 0]
            real = frames_of(found.video_id)
            counted = real if demo.protocol.setting == "mini" else worlds.FRAMES
            index = weights.argmax() if row.method == "xpool" else (counted - 1) // 2
            assert found.picture[0, 0, 1] == min(index, real - 1)


def test_examples_are_the_same_each_time(demo):
    assert demo.examples() == contents.open_demo(demo.protocol).examples()


def test_mass_matches_a_slow_loop(demo):
    mass = demo.mass()
    if not demo.protocol.synthetic:
        assert mass.empty
        assert contents.mass_summary(mass).empty
        assert demo.query(demo.examples()[0]).strip.described is None
        return
    own = demo.attention.own(demo.video_of_text)
    for text, row in enumerate(mass.itertuples()):
        k = int(row.caption_id.split("#")[1])
        real = frames_of(demo.texts["video_id"].iloc[text])
        half = real // 2
        frames = range(half) if k % 2 == 0 else range(half, real)
        assert row.share == len(frames) / real
        assert row.mass == pytest.approx(sum(float(own[text, f]) for f in frames), abs=1e-6)
    summary = contents.mass_summary(mass)
    assert summary["texts"].tolist()[0] == "all"
    assert summary["share"].iloc[0] == pytest.approx(50)
    assert summary["mass"].iloc[0] == pytest.approx(100 * mass["mass"].mean())
    assert summary["n_texts"].iloc[2:].sum() == summary["n_texts"].iloc[1] == 60


def test_mass_summary_sets_apart_what_had_no_choice():
    values = [("a", "x", 1.0, 1.0, 1.0), ("a", "y", 0.25, 0.75, 1.0), ("a", "z", 0.0, 0.0, 3.0)]
    mass = pd.DataFrame(values, columns=["benchmark", "caption_id", "share", "mass", "rank"])
    summary = contents.mass_summary(mass)
    assert summary[["n_texts", "share", "mass"]].to_numpy().tolist() == [
        [3, pytest.approx(125 / 3), pytest.approx(175 / 3)],
        [1, 25, 75],
        [1, 25, 75],
    ]


# --- what is missing or does not fit ---


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    shutil.copytree(made["mini"], tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return read_protocols()[0]


@pytest.mark.parametrize(
    "missing",
    [
        paths.training("mini", "xpool", "msvd", 0) / "checkpoint.safetensors",
        paths.similarity("mini", "mean_pool", "msvd", 0) / "similarity.npy",
        paths.truth("mini", "msvd") / "scenes.parquet",
    ],
    ids=lambda path: path.name,
)
def test_missing_run_names_the_file_and_the_way_to_make_it(project, missing):
    missing.unlink()
    with pytest.raises(InputError, match=rf"^{missing}: not found; run 'dvc repro'"):
        contents.open_demo(project).mass()


def test_runs_on_other_texts_are_refused(project):
    folder = paths.similarity("mini", "self_attention", "msvd", 0)
    texts = pd.read_parquet(folder / "texts.parquet")
    texts.iloc[::-1].reset_index(drop=True).to_parquet(folder / "texts.parquet")
    with pytest.raises(InputError, match=rf"^{folder}: its texts or videos are not those of .*xp"):
        contents.open_demo(project)


def test_captions_of_another_manifest_are_refused(project):
    path = paths.manifest("mini", "msvd")
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    with pytest.raises(InputError, match=r"are not those of .*manifest"):
        contents.open_demo(project)


def test_module_is_imported_without_torch():
    code = "import sys, xpool.report.attention.filmstrips; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=TOP, check=False).returncode == 0


# --- the notebook ---


@pytest.mark.slow
@pytest.mark.usefixtures("quick_kernels")
@pytest.mark.parametrize("setting", ["mini", "paper"])
def test_notebook_writes_pictures_and_page_and_the_same_ones_again(setting, made, monkeypatch):
    monkeypatch.chdir(made[setting])
    Path("notebooks").mkdir()
    shutil.copy(TOP / "notebooks" / "attention.ipynb", "notebooks")

    def run():
        report.main("attention")
        files = [*paths.attention(setting).iterdir(), paths.report(setting, "attention")]
        return {path.name: path.read_bytes() for path in files}

    first = run()
    assert setting == "paper" or run() == first
    assert {"msvd-random-1.png", "msvd-miss.png", "mass.csv", "attention.html"} <= set(first)
    assert ("mass.png" in first) == (setting == "mini")
    page = first["attention.html"].decode()
    assert ("MSVD, SYNTHETIC" in page) == (setting == "mini")
    assert 'mime-type="application/vnd.jupyter.stderr"' not in page
    assert str(Path.cwd()) not in page
    stored = json.loads(Path("notebooks/attention.ipynb").read_text())
    assert not any(cell.get("outputs") for cell in stored["cells"])


@pytest.mark.slow
def test_progress_of_the_encoder_is_not_in_the_page(tmp_path, monkeypatch):
    """In the fine-tuned regime the test split is embedded anew, with a progress bar."""
    monkeypatch.chdir(tmp_path)
    stored = json.loads((TOP / "notebooks" / "attention.ipynb").read_text())
    stored["cells"] = stored["cells"][1:2]
    stored["cells"][0]["source"] = "from tqdm import tqdm\nlist(tqdm(range(3)))"
    Path("bar.ipynb").write_text(json.dumps(stored))
    executed = notebook.execute(Path("bar.ipynb"))
    assert [output["output_type"] for output in executed.cells[0].outputs] == ["execute_result"]
