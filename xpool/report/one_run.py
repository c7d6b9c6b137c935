"""One scored run by itself: its metrics in both directions, with intervals over its videos."""

from xpool.metrics import REPORTED
from xpool.project import paths
from xpool.project.records import read_record
from xpool.report.protocol import DIRECTIONS, SYNTHETIC, method_name
from xpool.statistics.results import intervals_of


def described(setting: str, method: str, benchmark: str, seed: int) -> str:
    """Return the metrics of a run as text; the tables show the same, if it is a method's only run.

    Args:
        setting: the setting in force.
        method: short name.
        benchmark: short name.
        seed: of the run.

    Raises:
        InputError: the run has not been scored.
    """
    run = paths.training(setting, method, benchmark, seed)
    imported = read_record(run).get("imported")
    origin = f", imported from {imported['file']}" if imported else ""
    lines = [f"{method_name(method)} on {benchmark}, seed {seed}{origin} ({run})"]
    if setting == "mini":
        lines.append(f"{SYNTHETIC}; no evidence about the benchmark")
    table = intervals_of(benchmark, method, paths.similarity(setting, method, benchmark, seed))
    for direction, title in DIRECTIONS.items():
        lines += ["", f"{title:<15}{'':>8}  95 % interval over the test videos"]
        of_direction = table[table["direction"] == direction].set_index("metric")
        for metric in REPORTED:
            row = of_direction.loc[metric]
            interval = f"[{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
            lines.append(f"{metric:<15}{row['mean']:>8.2f}  {interval}")
    return "\n".join(lines)
