"""A copy of the project in a temporary folder, with small params, driven as a user drives it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

TOP = Path(__file__).resolve().parent.parent
COPIED = (
    "xpool",
    "baselines",
    "studies",
    "notebooks",
    "settings",
    "attributes",
    "external",
    ".dvc",
    ".dvcignore",
    "dvc.yaml",
)


class Project:
    """A throw-away checkout.

    Attributes:
        folder: its top.
        commands: a folder of programs before all others; see :mod:`stage_server`.
        packages: folders to import from beside the copy.
    """

    commands: Path | None = None
    packages: tuple[str, ...] = ()

    def __init__(self, folder: Path, commands: Path | None = None, **changes):
        """Copy the project.

        Args:
            folder: where to.
            commands: see the class.
            changes: dotted keys of params.yaml with ``__`` for the dot.
        """
        self.folder, self.commands = folder, commands
        folder.mkdir(parents=True)
        ignore = shutil.ignore_patterns("cache", "tmp", ".ipynb_checkpoints")
        for name in COPIED:
            source = TOP / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignore)
            else:
                shutil.copy(source, folder / name)
        made = ["__pycache__/", "/data/", "/results/", "/reports/", "/.work/", "/.optuna/"]
        (folder / ".gitignore").write_text("\n".join(made))
        (folder / "params.yaml").write_text((TOP / "params.yaml").read_text())
        self.change(**SMALL | changes)
        for command in (
            ["git", "init", "--quiet"],
            ["git", "add", "--all"],
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "t"],
        ):
            subprocess.run(command, cwd=folder, check=True)

    def change(self, **changes):
        """Set dotted keys of params.yaml."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *parents, last = key.split("__")
            place = params
            for parent in parents:
                place = place[parent]
            place[last] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    @property
    def environment(self):
        """As `make repro` sets it, with the copy's code before the installed one."""
        return self._environment([str(self.commands)] if self.commands else [])

    def _environment(self, own):
        bin_folder = str(Path(sys.executable).parent)
        # bytecode is written, as on a user's machine
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return inherited | {
            "PATH": os.pathsep.join([*own, bin_folder, os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(self.folder), *self.packages]),
            "DVC_NO_ANALYTICS": "1",
            "SHELL": "/bin/sh",  # does not replace itself with its only command, as bash does
        }

    def run(self, *command, fails=False, timeout=1200):
        """Run a command in the copy; return its output."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout[-6000:]
        return done.stdout

    def repro(self, *flags, **options):
        """Run the pipeline."""
        return self.run("dvc", "repro", *flags, **options)

    def repro_killed_when(self, seen, *flags, timeout=300):
        """Start the pipeline and SIGKILL `dvc` alone when ``seen()``; its stage must end too.

        Its stages are processes of their own.
        """
        log = self.folder / "killed.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["dvc", "repro", *flags], cwd=self.folder, env=self._environment([]),
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            deadline = time.monotonic() + timeout
            try:
                while not seen():
                    assert process.poll() is None, f"ended too early:\n{log.read_text()[-3000:]}"
                    assert time.monotonic() < deadline, log.read_text()[-3000:]
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
                process.wait()
                while self._orphans():
                    assert time.monotonic() < deadline, "the stage went on without dvc"
                    time.sleep(0.05)
            finally:
                process.kill()

    def _orphans(self):
        """Processes that still run a step in this copy."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                here = (entry / "cwd").resolve() == self.folder.resolve()
                words = (entry / "cmdline").read_bytes()
            except OSError:  # it ended while we looked
                continue
            if here and b"xpool" in words:
                found.append(int(entry.name))
        return found


def _videos(train, val, test):
    return {"train": train, "val": val, "test": test}


SMALL = {
    "seeds": [0],
    "benchmarks": ["msrvtt", "msvd"],
    "baselines": ["mean_pool"],
    "generate__benchmarks": ["msrvtt", "msvd"],
    "generate__msrvtt__videos": _videos(40, 0, 20),
    "generate__msvd__videos": _videos(24, 8, 12),
    "manifest__msrvtt__val_videos": 10,
    "frames__counts": [2, 12],
    "encoder__pretraining__images": 1024,
    "encoder__pretraining__steps": 4,
    "train__epochs": 1,
    "optuna__workers": 1,
    "ablations__temperature": {
        "benchmarks": ["msrvtt"],
        "seeds": [0, 1],
        "epochs": 1,
        "attention_temperature": {"xpool": [0.1, 1.0], "attention": [0.01]},
        "contrastive_temperature": [0.05, 0.01],
        "learnt": [True],
    },
    "ablations__frame_count": {
        "benchmarks": ["msrvtt", "msvd"],
        "seeds": [0],
        "epochs": 1,
        "methods": ["mean_pool", "xpool"],
        "frames": [2, 12],
        "sampling": ["uniform", "rand"],
        "surface": {"attention_temperature": [1.0], "frames": [2, 12]},
    },
    "ablations__scene_diversity": {
        "benchmarks": ["msrvtt"],
        "seeds": [0, 1],
        "epochs": 1,
        "lr_encoder": 1e-3,
        "methods": ["mean_pool", "xpool"],
        "scenes": [1, 2],
        "world": {
            "seed": 0,
            "videos": {"train": 20, "val": 10},
            "captions": {"train": 4, "val": 2},
            "duration_s": [3, 4],
            "rate_fps": 8,
            "size": [80, 60],
        },
        "distractors": [0, 2],
        "draws": 2,
        "bins": 2,
    },
    "ablations__search": {
        "benchmarks": ["msrvtt"],
        "seeds": [0],
        "epochs": 1,
        "trials": 3,
        "startup_trials": 2,
        "pruner": "median",
        "spaces": {
            "mean_pool": {"lr_encoder": {"low": 1.0e-4, "high": 1.0e-2, "log": True}},
            "xpool": {
                "lr_encoder": {"low": 1.0e-4, "high": 1.0e-2, "log": True},
                "pooling.heads": {"choices": [1, 2]},
            },
        },
    },
    "ablations__variance": {
        "benchmarks": ["msrvtt"],
        "seeds": [0],
        "epochs": 1,
        "methods": ["xpool"],
        "levels": {
            "seed": [0, 1],
            "init": [],
            "order": [0, 1],
            "dropout": [0, 1],
            "frame_sampling": ["uniform", "rand"],
            "decoder": ["pyav", "decord"],
            "batch_size": [16, 32],
            "threads": [1, 2],
        },
    },
}
"""Changes that make the whole pipeline take a minute or two."""
