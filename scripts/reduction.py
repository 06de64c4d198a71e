"""Reduces a run to fewer modes, and fine-tunes it with half of its modes, for docs/reduction.md.

    python scripts/reduction.py --workdir=runs/listops --config=configs/lra_listops.py:quick \
        --data_dir=data --out=results/reduction/listops-seed0

The script writes two files. `OUT.json` has the sweep of `lru.reduce`, evaluated on --split, and the
test accuracies of four reductions to half of the modes, before and after fine-tuning. `OUT.png` is
the figure of the sweep. Other arguments, such as `--config.optimizer.learning_rate=0.001`, change
the config of fine-tuning.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lru.command_line import Parser, path, run
from lru.training.record import environment
from lru.training.reduction_sweep import WAYS, draw_sweep


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="python scripts/reduction.py", description=__doc__)
    parser.add_argument("--workdir", required=True, type=path, help="a finished run")
    parser.add_argument("--config", required=True, help="the config of the run")
    parser.add_argument(
        "--out", required=True, type=path, help="the path of the files, without a suffix"
    )
    parser.add_argument("--data_dir", required=True, type=path)
    parser.add_argument("--manual_dir", type=path)
    parser.add_argument("--split", default="test", help="the split on which the sweep is evaluated")
    parser.add_argument("--steps", type=int, default=300, help="the number of steps of fine-tuning")
    known, overrides = parser.parse_known_args(argv)
    known.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        found = _sweep(known, Path(scratch))
        found["half"] = {
            way: _half(known, Path(scratch, method + inputs), method, inputs, overrides, found)
            for way, (method, inputs) in WAYS.items()
        }
    found["fine_tuning"] = {"steps": known.steps, "overrides": overrides}
    found |= environment()
    known.out.with_suffix(".json").write_text(json.dumps(found) + "\n")
    draw_sweep(found).savefig(known.out.with_suffix(".png"), dpi=80)


def _sweep(known: Any, scratch: Path) -> dict[str, Any]:
    more = ["--sweep", f"--split={known.split}", f"--out={scratch / 'sweep'}"]
    _run("lru.reduce", known, [f"--workdir={known.workdir}", *more])
    return json.loads((scratch / "sweep" / "sweep.json").read_text())


def _half(
    known: Any, scratch: Path, method: str, inputs: str, overrides: list[str], found: Any
) -> dict[str, Any]:
    """Reduces the run's model to half its modes, and fine-tunes it.

    Returns:
      The number of modes, and the test accuracies of the whole model, of the reduced model and of
      the fine-tuned model.
    """
    modes, export, tuned = found["d_state"] // 2, scratch / "export", scratch / "tuned"
    more = [f"--method={method}", f"--inputs={inputs}", f"--modes={modes}", f"--out={export}"]
    _run("lru.reduce", known, [f"--workdir={known.workdir}", *more])
    steps = [f"--config.train.{name}={known.steps}" for name in ("steps", "eval_every")]
    more = [f"--init_from={export}", f"--config.model.mixer.d_state={modes}", *steps]
    _run("lru.train", known, [f"--config={known.config}", f"--workdir={tuned}", *more, *overrides])
    reduced = json.loads((export / "config.json").read_text())["reduced"]
    record = json.loads((tuned / "record.json").read_text())
    return {
        "modes": modes,
        "whole": reduced["before"]["accuracy"],
        "reduced": reduced["after"]["accuracy"],
        "fine_tuned": record["test"]["accuracy"],
    }


def _run(module: str, known: Any, arguments: list[str]) -> None:
    data = [f"--data_dir={known.data_dir}"]
    data += [f"--manual_dir={known.manual_dir}"] if known.manual_dir else []
    subprocess.run([sys.executable, "-m", module, *data, *arguments], check=True)


if __name__ == "__main__":
    sys.exit(run(main))
