"""Rows with post-processing on the results page: labels, refusals, and none in a plain table."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made_results import PARAMS, SIZES, copy_notebook, write_results

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.report import notebook, typesetting
from xpool.report.protocol import read_protocols
from xpool.report.results import inputs, post_processing, tables
from xpool.report.results.published import judged, on_benchmark, read_published
from xpool.statistics.post_processing.results import TOGETHER_COLUMNS

MEMBERS = {
    "dual_softmax": ("dual softmax, all queries at once", True, "temperature 100", 5.0),
    "nnn": ("NNN, bank of 1,000 training captions", False, "k 128, alpha 0.75", 2.0),
}
"""Label, whether it needs queries, arguments, and points that it adds."""
LISTED = PARAMS | {
    "post_processing": {
        "members": {name: {} for name in MEMBERS}, "bank": {"captions": 1000, "seed": 0}
    }
}  # fmt: skip


def write_statistics(params):
    """Write the two tables of the stage that fit the plain cells."""
    folder = paths.statistics(params["setting"])
    cells = pd.read_csv(folder / "cells.csv")
    rows = [
        cells.assign(
            post_processing=name, label=label, needs_queries=needs, arguments=arguments,
            mean=cells["mean"] + more, ci_low=cells["ci_low"] + more,
            ci_high=cells["ci_high"] + more,
        )
        for name, (label, needs, arguments, more) in MEMBERS.items()
    ]  # fmt: skip
    pd.concat(rows).to_csv(folder / "post_processing.csv", index=False)
    firsts = cells[(cells["direction"] == "t2v") & (cells["metric"] == "R@1")]
    lines = [
        {
            "benchmark": row.benchmark, "method": row.method, "post_processing": "dual_softmax",
            "label": MEMBERS["dual_softmax"][0], "n_queries": count,
            "n_texts": SIZES[row.benchmark][0], "mean": row.mean + count / 100,
            "n_seeds": row.n_seeds, "ci_low": row.mean - 1, "ci_high": row.mean + 12,
        }
        for row in firsts.itertuples()
        for count in (1, 4, 16, 64, SIZES[row.benchmark][0])
    ]  # fmt: skip
    pd.DataFrame(lines, columns=TOGETHER_COLUMNS).to_csv(folder / "together.csv", index=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_results(LISTED)
        write_statistics(LISTED)
    return folder


@pytest.fixture
def project(results, tmp_path, monkeypatch):
    """Work in a copy of the results."""
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def read():
    protocols = read_protocols()
    statistics = [inputs.read_statistics(n, protocols) for n in ("cells", "comparisons")]
    selection = inputs.read_statistics("selection", protocols)
    return protocols, inputs.read_metrics(protocols), *statistics, selection


def made(number=0):
    protocols, metrics, cells, _, selection = read()
    rows, _ = post_processing.read_post_processing(protocols)
    return post_processing.post_processing_table(
        protocols[number], rows, metrics, cells, selection, read_published()
    )


@pytest.mark.usefixtures("project")
def test_a_row_names_its_method_its_post_processing_and_what_that_needs():
    table = made()
    rows = [[row.label for row in group.rows] for group in table.groups[:3]]
    assert rows[2] == [
        "X-Pool",
        "X-Pool + dual softmax, all queries at once",
        "X-Pool + NNN, bank of 1,000 training captions",
    ]
    assert [group[0] for group in rows] == ["Mean pooling", "Self-attention", "X-Pool"]
    assert "dual softmax, all queries at once: temperature 100." in table.notes
    assert "comparable with no row without it" in table.caption
    assert "SYNTHETIC" in table.caption


@pytest.mark.usefixtures("project")
def test_cells_are_the_stages_means_and_intervals():
    cells = pd.read_csv(paths.statistics("mini") / "cells.csv")
    (cell,) = cells.query(
        "benchmark == 'msvd' and method == 'xpool' and direction == 'v2t' and metric == 'R@5'"
    ).to_dict("records")
    table = made(1)
    rows = {row.label: row.cells for group in table.groups for row in group.rows}
    column = table.names.index("v2t R@5 ↑")
    low, high = cell["ci_low"], cell["ci_high"]
    assert rows["X-Pool"][column] == f"{cell['mean']:.1f} [{low:.1f}, {high:.1f}]"
    after = rows["X-Pool + NNN, bank of 1,000 training captions"][column]
    assert after == f"{cell['mean'] + 2:.1f} [{low + 2:.1f}, {high + 2:.1f}]"
    stored = table.figures.query("label == 'X-Pool' and metric == 'R@5' and direction == 'v2t'")
    assert stored["mean"].tolist() == [cell["mean"]], "unrounded"


@pytest.mark.usefixtures("project")
def test_published_figures_stand_where_their_post_processing_does():
    """In the table of theirs, with a verdict of not comparable, and in no plain one."""
    protocols, metrics, cells, comparisons, selection = read()
    published = read_published()
    external = inputs.read_statistics("external", protocols)
    after = set(published["label"][published["post_processing"] != "none"])
    assert len(after) == 3
    plain, processed, verdicts = set(), set(), []
    for number, protocol in enumerate(protocols):
        table = tables.benchmark_table(
            protocol, metrics, cells, comparisons, selection, published, external
        )
        plain |= {row.label for group in table.groups for row in group.rows}
        table = made(number)
        processed |= {row.label for group in table.groups for row in group.rows}
        theirs = table.figures[table.figures["kind"] == "paper"]
        verdicts += theirs["verdict"][theirs["metric"].str.startswith("R@")].tolist()
    assert len(verdicts) == 5
    assert all(word.startswith("not comparable") for word in verdicts)
    assert "TS2-Net + dual softmax (authors)" in processed
    assert not plain & after
    assert not [label for label in plain if "+" in label]


@pytest.mark.usefixtures("project")
def test_a_figure_of_a_method_of_ours_is_not_comparable_across_post_processing():
    changed = LISTED | {
        "setting": "paper", "selection": "test_window",
        "train": {"reads": "frames", "frames": 12, "epochs": 3},
        "encoder": {"model": "openai/clip-vit-base-patch32", "pretrained": "hub"},
        "manifest": LISTED["manifest"] | {
            "msrvtt": {"training_videos": "9k", "val_videos": 0, "allowed_missing": 0.0}
        },
    }  # fmt: skip
    write_results(changed)
    protocols, metrics, cells, _, selection = read()
    published = read_published()
    one = published.query("label == 'X-Pool (paper)' and metric == 'R@1' and direction == 't2v'")
    words = {}
    for name in ("none", "dual softmax"):
        rows = on_benchmark(protocols[0], one.assign(post_processing=name), name != "none")
        (words[name],) = judged(protocols[0], rows, metrics, cells, selection)["verdict"]
    assert not words["none"].startswith("not comparable")
    assert words["dual softmax"] == (
        "not comparable (other post-processing: dual softmax, ours none)"
    )


@pytest.mark.usefixtures("project")
def test_nothing_is_read_where_nothing_is_listed():
    nothing = PARAMS["post_processing"]
    Path("params.yaml").write_text(yaml.safe_dump(LISTED | {"post_processing": nothing}))
    rows, together = post_processing.read_post_processing(read_protocols())
    assert rows.empty
    assert together.empty


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"members": {"qb_norm": {}}}, "nothing of mean_pool with qb_norm on msrvtt with 3 seeds"),
        ({"seeds": [0, 1]}, "nothing of mean_pool with dual_softmax on msrvtt with 2 seeds"),
    ],
)
def test_tables_made_for_other_params_are_refused(change, said):
    params = LISTED | {k: v for k, v in change.items() if k != "members"}
    if "members" in change:
        params["post_processing"] = LISTED["post_processing"] | change
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(InputError, match=said):
        post_processing.read_post_processing(read_protocols())


@pytest.mark.usefixtures("project")
def test_the_figure_draws_each_curve_and_a_level_line_a_method():
    protocols, _, cells, _, _ = read()
    _, together = post_processing.read_post_processing(protocols)
    figure = post_processing.together_figure(protocols, together, cells)
    for panel, protocol in zip(figure.axes, protocols, strict=True):
        here = together[together["benchmark"] == protocol.benchmark]
        curves = [line for line in panel.lines if len(line.get_xdata()) > 2]
        level = [line for line in panel.lines if len(line.get_xdata()) == 2]
        assert len(curves) == len(level) == 3
        drawn = sorted(tuple(line.get_ydata()) for line in curves)
        expected = sorted(tuple(rows["mean"]) for _, rows in here.groupby("method"))
        assert drawn == expected
        plain = cells.query("direction == 't2v' and metric == 'R@1'")
        plain = plain[plain["benchmark"] == protocol.benchmark]["mean"]
        assert sorted(line.get_ydata()[0] for line in level) == sorted(plain)
        last = panel.get_xticklabels()[-1].get_text()
        assert last == f"all ({SIZES[protocol.benchmark][0]:,})"
    assert "SYNTHETIC" in figure.get_suptitle()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("form", [typesetting.to_markdown, typesetting.to_latex])
def test_the_table_prints_in_each_form(form):
    text = form(made())
    assert "X-Pool + dual softmax, all queries at once" in text


@pytest.mark.slow
@pytest.mark.usefixtures("project", "quick_kernels")
def test_the_notebook_shows_the_section_where_it_is_listed_and_nowhere_else():
    copy_notebook("results")
    shown = {}
    for name, listed in (("listed", LISTED), ("not", PARAMS)):
        Path("params.yaml").write_text(yaml.safe_dump(listed))
        shutil.rmtree(paths.tables("mini"), ignore_errors=True)
        cells = notebook.execute(Path("notebooks/results.ipynb"))["cells"]
        shown[name] = "With post-processing" in str([cell.get("outputs") for cell in cells])
        files = {path.stem for path in paths.tables("mini").iterdir()}
        assert ("msrvtt_post_processing" in files) == ("together" in files) == shown[name]
    assert shown == {"listed": True, "not": False}
