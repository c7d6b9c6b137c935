"""Tables and figures of made-up results: values by hand, formats, refusals, published figures."""

import contextlib
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made_results import PARAMS, write_results

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.report import style, typesetting
from xpool.report.protocol import METRICS, read_protocols
from xpool.report.results import figures, inputs, tables
from xpool.report.results.inputs import read_statistics
from xpool.report.results.published import read_published
from xpool.tools import summary as command

PICTURES = ("recall", "differences", "wins", "training")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    with contextlib.chdir(folder):
        write_results()
    return folder


@pytest.fixture
def project(results, tmp_path, monkeypatch):
    """Work in a copy of the results."""
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def use(**changes):
    """Change params.yaml, and the results with it."""
    if changes:
        write_results({**PARAMS, **changes})
    protocols = read_protocols()
    return protocols, inputs.read_metrics(protocols)


def made(name, protocols, metrics):
    protocol = next(p for p in protocols if p.benchmark == name)
    found = [read_statistics(which, protocols) for which in ("cells", "comparisons", "selection")]
    external = read_statistics("external", protocols)
    return tables.benchmark_table(protocol, metrics, *found, read_published(), external)


def summary(protocols, metrics):
    found = [read_statistics(which, protocols) for which in ("cells", "comparisons")]
    return tables.summary_table(protocols, metrics, *found)


def printed(table):
    """Rows of a Markdown table as lists of cells."""
    lines = [line for line in typesetting.to_markdown(table).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# --- values ---


@pytest.mark.usefixtures("project")
def test_captions_name_runs_that_differ_in_more_than_what_is_compared():
    file = paths.metrics_table("mini")
    table = pd.read_csv(file)
    table["mixed"] = table["mixed"].astype(object)
    odd = (table["method"] == "xpool") & (table["benchmark"] == "msvd") & (table["seed"] == 1)
    table.loc[odd, "mixed"] = "a and b differ: params.train.epochs is 3 in the one and 5 in b"
    table.to_csv(file, index=False)
    protocols = read_protocols()
    metrics = inputs.read_metrics(protocols)
    said = " MIXED RUNS: a and b differ: params.train.epochs is 3 in the one and 5 in b."
    for made_one in (made("msvd", protocols, metrics), summary(protocols, metrics)):
        assert made_one.caption.endswith(said)
    assert "MIXED" not in made("msrvtt", protocols, metrics).caption


@pytest.mark.usefixtures("project")
def test_cells_are_the_mean_over_seeds_with_its_interval():
    """Oracle: the standard library over the raw CSV."""
    protocols, metrics = use()
    raw = pd.read_csv(paths.metrics_table("mini"))
    cells = {row[0]: row[1:] for row in printed(made("msvd", protocols, metrics))}
    heads = [
        f"{d} {m}" for d in ("t2v", "v2t") for m in ("R@1 ↑", "R@5 ↑", "R@10 ↑", "MdR ↓", "MnR ↓")
    ]
    assert cells["Method"] == heads
    for method, label in (("mean_pool", "Mean pooling"), ("xpool", "X-Pool")):
        for head, cell in zip(heads, cells[label], strict=True):
            direction, metric, _ = head.split()
            values = [
                row.value
                for row in raw.itertuples()
                if (row.benchmark, row.method) == ("msvd", method)
                and (row.direction, row.metric) == (direction, metric)
            ]
            assert len(values) == 3
            mean = statistics.mean(values)
            ends = f"[{mean - 3:.1f}, {mean + 3:.1f}]".replace("-", "−")
            assert re.sub("[*†‡]", "", cell) == f"{mean:.1f} {ends}"


@pytest.mark.usefixtures("project")
def test_csv_holds_full_precision_and_every_recall():
    protocols, metrics = use()
    table = made("msrvtt", protocols, metrics)
    typesetting.write(table, paths.tables("mini"))
    stored = pd.read_csv(paths.tables("mini") / "msrvtt.csv", float_precision="round_trip")
    raw = pd.read_csv(paths.metrics_table("mini"), float_precision="round_trip")
    chosen = raw.query("benchmark == 'msrvtt' and method == 'xpool' and direction == 'v2t'")
    of_r50 = stored.query("kind == 'measured' and method == 'xpool' and direction == 'v2t'")
    value = of_r50.query("metric == 'R@50'")["mean"].item()
    expected = chosen.query("metric == 'R@50'")["value"].mean()
    assert math.isclose(value, expected, rel_tol=1e-15)
    assert set(stored["setting"]) == {"mini"}
    assert stored.query("kind != 'measured'")["source"].notna().all()


@pytest.mark.usefixtures("project")
def test_rows_text_agnostic_first_xpool_last_new_methods_between():
    protocols, metrics = use(baselines=["top_k", "midrange_pool", "self_attention", "mean_pool"])
    rows = made("lsmdc", protocols, metrics).groups[0].rows
    assert [row.label for row in rows] == [
        "Mean pooling", "Self-attention", "Top-k", "Midrange pool", "X-Pool",
    ]  # fmt: skip


@pytest.mark.usefixtures("project")
def test_published_figures_are_never_bold():
    protocols, metrics = use()
    table = made("msrvtt", protocols, metrics)
    assert not any(any(row.bold) for group in table.groups[1:] for row in group.rows)


@pytest.mark.usefixtures("project")
def test_one_seed_has_no_spread():
    protocols, metrics = use(seeds=[3])
    table = made("msrvtt", protocols, metrics)
    assert "one run, seed 3, and its 95 % interval over the test videos" in table.caption
    assert table.figures.query("kind == 'measured'")["std"].isna().all()


@pytest.mark.usefixtures("project")
def test_summary_difference_is_paired_by_seed():
    """Oracle: by hand from the raw CSV."""
    protocols, metrics = use()
    raw = pd.read_csv(paths.metrics_table("mini")).query("direction == 't2v' and metric == 'R@1'")
    rows = {row[0]: row[1:] for row in printed(summary(protocols, metrics))}
    assert rows["Method"] == ["Mini MSR-VTT", "Mini MSVD", "Mini LSMDC"]
    for index, benchmark in enumerate(PARAMS["benchmarks"]):
        value = {(r.method, r.seed): r.value for r in raw.itertuples() if r.benchmark == benchmark}
        pairs = [value["xpool", seed] - value["mean_pool", seed] for seed in (0, 1, 2)]
        mean = statistics.mean(pairs)
        expected = f"+{mean:.1f} [+{mean - 4:.1f}, +{mean + 4:.1f}]"
        assert rows["X-Pool − Mean pooling"][index] == expected
    assert rows["p, Holm over the column"] == ["0.030"] * 3
    assert rows["p, Holm over the table"] == ["0.180"] * 3
    assert rows["Chance"] == ["0.5", "1.0", "0.5"]


@pytest.mark.usefixtures("project")
def test_summary_without_mean_pooling_has_no_difference():
    protocols, metrics = use(baselines=["self_attention"])
    labels = [row[0] for row in printed(summary(protocols, metrics))]
    assert labels[2:] == ["Self-attention", "X-Pool", "*For comparison*", "Chance"]


# --- what captions and headings state ---


@pytest.mark.usefixtures("project")
def test_caption_states_the_protocol():
    protocols, metrics = use()
    caption = made("msrvtt", protocols, metrics).caption
    for words in (
        "MSR-VTT, SYNTHETIC", "200 texts, 200 videos", "9k training list",
        "100 training videos held out", "seeds 0, 1, 2", "selected on the validation split",
        "12 frames a video (uniform sampling", "tiny (mini_world)", "towers frozen",
        "equal chance", "0.5 % of a run's queries tie",
        "† differs from X-Pool (p < 0.05 by made-up", "all 30 comparisons of the table",
    ):  # fmt: skip
        assert words in caption
    assert "allowed to be missing" not in caption
    film = made("lsmdc", protocols, metrics).caption
    assert "999-clip test protocol" in film
    assert "a share of 0.01 of each split's videos allowed to be missing" in film


@pytest.mark.usefixtures("project")
def test_caption_of_the_paper_setting():
    protocols, metrics = use(
        setting="paper",
        selection="test_window",
        train={"reads": "frames", "frames": 12, "epochs": 3},
        encoder={"model": "openai/clip-vit-base-patch32", "pretrained": "hub"},
    )
    table = made("msrvtt", protocols, metrics)
    assert "SYNTHETIC" not in table.caption
    assert "SELECTED ON TEST" in table.caption
    assert "the whole encoder fine-tuned" in table.caption
    assert [g.heading for g in table.groups] == ["", "Published", "Reruns by others"]
    labels = [row.label for row in table.groups[2].rows]
    assert "X-Pool (rerun, lr 3e-5)" in labels
    assert "SYNTHETIC" not in summary(protocols, metrics).caption


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("size_px", "said"), [(40, False), (48, False), (49, True), (336, True)])
def test_captions_say_that_frames_are_stored_too_small(size_px, said):
    protocols, metrics = use()
    description = paths.encoder("mini") / "encoder.json"
    about = json.loads(description.read_text()) | {"size_px": size_px}
    description.write_text(json.dumps(about))
    protocols = read_protocols()
    words = f"masked), STORED AT 48 px AND ENLARGED to the encoder's {size_px}."
    for table in (made("msrvtt", protocols, metrics), summary(protocols, metrics)):
        assert (words in table.caption) == said
        assert ("ENLARGED" in table.caption) == said


@pytest.mark.usefixtures("project")
def test_published_figures_beside_synthetic_ones_are_marked_not_comparable():
    protocols, metrics = use()
    table = made("msvd", protocols, metrics)
    assert [g.heading for g in table.groups] == ["", "Published, other data: not comparable"]
    x = table.groups[1].rows[-1]
    assert (x.label, *x.cells) == (
        "X-Pool (paper)", "47.2", "77.4", "86.0", "–", "9.3", "66.4", "90.0", "94.2", "–", "3.3",
    )  # fmt: skip
    assert any("selected on test" in n and "layer6ai-labs/xpool README" in n for n in table.notes)


@pytest.mark.usefixtures("project")
def test_published_figures_follow_the_training_list():
    options = {**PARAMS["manifest"], "msrvtt": {"training_videos": "7k", "allowed_missing": 0.0}}
    protocols, metrics = use(manifest=options)
    rows = made("msrvtt", protocols, metrics).groups[1].rows
    assert {row.label: row.cells[:5] for row in rows} == {
        "CLIP4Clip seqTransf (paper)": ("42.0", "68.6", "78.7", "2.0", "16.2"),
        "X-Pool (paper)": ("43.9", "72.5", "82.3", "2.0", "14.6"),
    }


# --- formats ---


@pytest.mark.usefixtures("project")
def test_latex_is_balanced_and_escaped():
    protocols, metrics = use()
    for table in (made("lsmdc", protocols, metrics), summary(protocols, metrics)):
        text = typesetting.to_latex(table)
        for name in ("table*", "tabular"):
            assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
        for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{", r"\label{tab:"):
            assert rule in text
        assert text.isascii()
        body = text.split("\n", 1)[1]
        assert re.search(r"(?<!\\)[%#_]", body.replace(r"\begin{table*}", "")) is None
        bare = re.sub(r"\\[{}]", "", text)
        assert bare.count("{") == bare.count("}")
        for line in text.splitlines():
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert line.count("&") == len(table.columns), line


def test_latex_sets_intervals_beneath_their_figures():
    row = typesetting.Row(label="X", cells=("46.9† [44.0, 50.0]", "<0.001"), bold=(True, False))
    table = typesetting.Table(
        name="t", caption="c", columns=(("h", "s"), ("h", "u")), names=("s", "u"), notes=(),
        groups=(typesetting.Group(heading="", rows=(row,)),), figures=pd.DataFrame(),
    )  # fmt: skip
    lines = typesetting.to_latex(table).splitlines()
    index = lines.index(r"X & \textbf{46.9$^\dagger$} & $<$0.001 \\[-2pt]")
    assert lines[index + 1] == r" & {\tiny [44.0,50.0]} &  \\"
    assert '>46.9†<span class="interval">[44.0, 50.0]' in typesetting.to_html(table)


def test_latex_escapes_every_special_character():
    assert typesetting.tex(r"a_b & 50% #1 $x {y} ~ ^ \z") == (
        r"a\_b \& 50\% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z"
    )
    assert typesetting.tex("12.0 ± 0.5") == r"12.0{\tiny\,$\pm$\,0.5}"


def test_markdown_and_html_escape_labels():
    row = typesetting.Row(label="a|b <i>", cells=("1.0",), bold=(False,))
    table = typesetting.Table(
        name="t", caption="c", columns=(("h", "s"),), names=("s",), notes=(),
        groups=(typesetting.Group(heading="", rows=(row,)),), figures=pd.DataFrame(),
    )  # fmt: skip
    assert r"a\|b \<i>" in typesetting.to_markdown(table)
    assert "a|b &lt;i&gt;" in typesetting.to_html(table)


@pytest.mark.usefixtures("project")
def test_html_heads_span_their_columns():
    protocols, metrics = use()
    text = typesetting.to_html(made("msrvtt", protocols, metrics))
    assert re.findall(r'<th [^>]*colspan="(\d)">([^<]*)', text) == [
        ("5", "Text → video"), ("5", "Video → text"),
    ]  # fmt: skip
    assert text.count("<tr") == 2 + 3 + 1 + 3
    assert re.search(r"class=\"best\">[\d.]+<span[^>]*>\[[\d., −]+\]</span>", text)


@pytest.mark.usefixtures("project")
def test_writing_twice_gives_the_same_bytes():
    def written():
        protocols, metrics = use(benchmarks=["msrvtt", "msvd"])
        folder = paths.tables("mini")
        typesetting.write(made("msrvtt", protocols, metrics), folder)
        typesetting.write(summary(protocols, metrics), folder)
        cells, comparisons, wins = (
            read_statistics(name, protocols) for name in ("cells", "comparisons", "wins")
        )
        style.save(figures.recalls(protocols, metrics, cells), folder, "recall")
        style.save(figures.differences(protocols, comparisons), folder, "differences")
        style.save(figures.wins(protocols, wins), folder, "wins")
        style.save(figures.curves(protocols, inputs.read_curves(protocols)), folder, "training")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = written()
    assert set(first) == {
        *(f"{name}.{end}" for name in ("msrvtt", "summary") for end in typesetting.FORMATS),
        *(f"{name}.{end}" for name in PICTURES for end in ("svg", "png")),
    }
    assert written() == first


# --- refusals ---


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[~((t.method == "xpool") & (t.seed == 2))], "no t2v R@1 of xpool on msrvtt.*2"),
        (lambda t: t[t.metric != "tied"], "no t2v tied of mean_pool on msrvtt with seed 0"),
        (lambda t: t.assign(value=t.value.where(t.benchmark != "msvd")), "t2v R@1 .* on msvd"),
        (lambda t: pd.concat([t, t.tail(1)]), "msvd xpool 2 v2t tied is there twice"),
        (lambda t: t.assign(selection="last"), "made with selection 'last'.*'val'"),
        (lambda t: t.drop(columns="n_text"), "no column n_text"),
    ],
)
def test_incomplete_metrics_are_refused_by_name(change, message):
    file = paths.metrics_table("mini")
    change(pd.read_csv(file)).to_csv(file, index=False)
    with pytest.raises(InputError, match=f"{file}: .*{message}"):
        inputs.read_metrics(read_protocols())


@pytest.mark.usefixtures("project")
def test_cells_of_a_dropped_seed_are_not_averaged_in():
    Path("params.yaml").write_text(yaml.safe_dump({**PARAMS, "seeds": [0, 2]}))
    metrics = inputs.read_metrics(read_protocols())
    assert sorted(metrics["seed"].unique()) == [0, 2]


@pytest.mark.usefixtures("project")
def test_runs_on_different_test_sets_are_refused():
    file = paths.metrics_table("mini")
    table = pd.read_csv(file)
    table.loc[(table.method == "xpool") & (table.benchmark == "lsmdc"), "n_video"] = 198
    table.to_csv(file, index=False)
    protocols = read_protocols()
    with pytest.raises(InputError, match="runs on lsmdc have 199 texts with 199 videos and"):
        made("lsmdc", protocols, inputs.read_metrics(protocols))


@pytest.mark.usefixtures("project")
def test_missing_files_are_named():
    protocols = read_protocols()
    curve = paths.training("mini", "xpool", "lsmdc", 1) / "curve.csv"
    curve.unlink()
    with pytest.raises(InputError, match=f"{curve}: not found.*dvc repro"):
        inputs.read_curves(protocols)
    paths.metrics_table("mini").unlink()
    with pytest.raises(InputError, match=r"metrics.csv: not found.*dvc repro"):
        inputs.read_metrics(protocols)
    with pytest.raises(InputError, match=r"results.html: not found.*dvc repro"):
        command.main()


# --- figures ---


def test_colours_are_stable_and_distinct():
    few, all_of_them = ["mean_pool", "xpool"], [*style._COLOURS, "midrange_pool", "wti", "aosm"]
    assert style.colours(few).items() <= style.colours(all_of_them).items()
    assert len(set(style.colours(all_of_them).values())) == len(all_of_them)


@pytest.mark.usefixtures("project")
def test_figures_show_each_seed_and_mark_synthetic_data():
    protocols, metrics = use()
    figure = figures.recalls(protocols, metrics, read_statistics("cells", protocols))
    assert "SYNTHETIC" in figure.get_suptitle()
    assert [panel.get_title() for panel in figure.axes] == [
        "Mini MSR-VTT",
        "Mini MSVD",
        "Mini LSMDC",
    ]
    drawn = {
        round(float(y), 6)
        for marks in figure.axes[0].collections
        for y in marks.get_offsets()[:, 1]
    }
    chosen = metrics.query("benchmark == 'msrvtt' and direction == 't2v'")
    values = chosen[chosen["metric"].isin(["R@1", "R@5", "R@10"])]["value"]
    assert len(values) == 27
    assert {round(value, 6) for value in values} <= drawn
    assert len(drawn) == 27 + 9
    real, _ = use(setting="paper")
    assert "SYNTHETIC" not in figures.curves(real, inputs.read_curves(real)).get_suptitle()


def test_tables_and_figures_do_not_load_torch():
    modules = "xpool.report.results.figures, xpool.report.results.tables"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=TOP, check=False).returncode == 0


# --- published figures ---

PUBLISHED = read_published()
# From memory only, in no source that could be read: they must not appear as published.
UNVERIFIED = [
    ("lsmdc", "", "v2t", "xpool", None),
    ("msrvtt", "7k", "t2v", "mean_pool", None),
]


def test_published_rows_have_known_names_and_a_source():
    known = {
        "method": {"xpool", "mean_pool", "self_attention", "ts2_net", "ucofia", "clip4clip"},
        "benchmark": {path.stem for path in (TOP / "xpool/data/benchmarks").glob("[!_]*.py")},
        "training_videos": {"9k", "7k", ""},
        "direction": {"t2v", "v2t"},
        "metric": set(METRICS),
        "backbone": {"ViT-B/32"},
        "selected_on": {"test", "unknown"},
        "post_processing": {"none", "dual softmax", "Sinkhorn with a bank", "QB-Norm"},
        "kind": {"paper", "reproduction"},
    }
    assert list(PUBLISHED.columns) == [
        "method", "label", "benchmark", "training_videos", "protocol", "direction", "metric",
        "value", "backbone", "selected_on", "post_processing", "kind", "source",
    ]  # fmt: skip
    for column, names in known.items():
        assert set(PUBLISHED[column]) <= names, column
    for column in ("label", "protocol", "source"):
        assert PUBLISHED[column].str.strip().str.len().gt(3).all(), column
    processed = PUBLISHED["post_processing"] != "none"
    assert (processed == PUBLISHED["label"].str.contains(r"\+")).all(), "the label says so"
    assert PUBLISHED["training_videos"].ne("").equals(PUBLISHED["benchmark"] == "msrvtt")
    assert not PUBLISHED["source"].str.contains("MEM|memory").any()


def test_published_values_are_in_range_and_agree_with_each_other():
    keys = ["label", "benchmark", "training_videos", "direction", "metric"]
    assert not PUBLISHED.duplicated(keys).any()
    recalls = PUBLISHED[PUBLISHED["metric"].str.startswith("R@")]
    assert recalls["value"].between(10, 100).all()
    ranks = PUBLISHED[~PUBLISHED["metric"].str.startswith("R@")]
    assert ranks["value"].between(1, 100).all()
    for key, row in PUBLISHED.pivot(index=keys[:4], columns="metric", values="value").iterrows():
        rising = row[["R@1", "R@5", "R@10"]].dropna()
        assert rising.is_monotonic_increasing, key
        if not math.isnan(row["MdR"]) and not math.isnan(row["MnR"]):
            assert row["MdR"] <= row["MnR"], key
        if not math.isnan(row["MdR"]):
            assert (row["R@1"] >= 50) == (row["MdR"] == 1), key


@pytest.mark.parametrize("figure", UNVERIFIED)
def test_unverified_figures_are_not_published(figure):
    benchmark, training_videos, direction, method, value = figure
    found = PUBLISHED[
        (PUBLISHED["benchmark"] == benchmark)
        & (PUBLISHED["training_videos"] == training_videos)
        & (PUBLISHED["direction"] == direction)
        & (PUBLISHED["method"] == method)
        & ((PUBLISHED["value"] == value) | (value is None))
    ]
    assert found.empty


@pytest.mark.parametrize(
    ("label", "benchmark", "value"),
    [
        ("X-Pool (paper)", "msrvtt", 46.9),
        ("X-Pool (paper)", "msvd", 47.2),
        ("X-Pool (paper)", "lsmdc", 25.2),
        ("CLIP4Clip meanP (paper)", "msrvtt", 43.1),
        ("CLIP4Clip seqTransf (paper)", "lsmdc", 22.6),
        ("X-Pool (rerun)", "msrvtt", 45.4),
        ("X-Pool (rerun)", "lsmdc", 24.12),  # 241 of 999
        ("TS2-Net + dual softmax (authors)", "msrvtt", 51.1),
        ("UCoFiA + Sinkhorn of training captions (paper)", "msrvtt", 49.4),
        ("CLIP4Clip + QB-Norm (QB-Norm's rerun)", "lsmdc", 22.3),
    ],
)
def test_published_golden_values(label, benchmark, value):
    """Golden: text-to-video R@1 as the sources named in the file give them."""
    found = PUBLISHED.query(
        "label == @label and benchmark == @benchmark and metric == 'R@1' and direction == 't2v' "
        "and training_videos != '7k'"
    )
    assert found["value"].item() == value
