"""Writers of metrics: lines of JSON, TensorBoard, Weights & Biases, and a progress line."""

from __future__ import annotations

import functools
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from lru.errors import UserError
from lru.io.files import Fields, parse_object, write_atomically
from lru.io.terminal import printable


class Writer(Protocol):
    """Writes rows of metrics, each with a `step` and a `split`."""

    def rewind(self, step: int) -> None:
        """Prepares for the rows after a step; must be called before `write`.

        If possible, drops existing rows of later steps, which a resumed run repeats.
        """

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes a row `{"step", "split", name: number, ...}`."""

    def close(self) -> None:
        """Writes pending rows and closes the writer."""


class JsonLines:
    """A file with one JSON object per line, each with a `step`.

    Args:
      path: the file to append to.
      fields: the fields that every line must have, by default `step`; see
        `lru.io.files.parse_object`.

    Attributes:
      rows: the lines of the last `rewrite` or `rewind`, and the lines written since then.
    """

    def __init__(self, path: Path, fields: Fields | None = None):
        self._path, self._fields = path, fields or {"step": int}
        self.rows: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """Returns the rows in the file; none if the file is missing.

        An incomplete last line, which a killed process may leave, is ignored.

        Raises:
          UserError: a line is not a JSON object, or a field is missing or of the wrong type.
        """
        if not self._path.exists():
            return []
        text = self._path.read_text(errors="replace")
        lines = text[: text.rfind("\n") + 1].splitlines()
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(parse_object(line, self._fields))
            except ValueError as error:
                raise UserError(
                    f"{self._path}, line {number} is damaged ({error}); delete that line"
                ) from error
        return rows

    def rewrite(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Replaces all lines atomically and returns the new lines."""
        write_atomically(self._path, _text(rows))
        self.rows = [dict(row) for row in rows]
        return self.rows

    def rewind(self, step: int) -> None:
        """Drops the lines of later steps, and reads the others into `rows`."""
        self.rewrite([row for row in self.read() if row["step"] <= step])

    def starts_with(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Returns whether the file starts with the lines of `rows`, byte for byte."""
        text = self._path.read_bytes() if self._path.exists() else b""
        return text.startswith(_text(rows).encode())

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a row to the file and to `rows`."""
        with self._path.open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self.rows.append(dict(row))

    def close(self) -> None:
        """Does nothing: `write` writes every line immediately."""


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class TensorBoard:
    """Writes metrics for TensorBoard, with tensorboardX.

    Args:
      directory: the directory of the event files.

    Raises:
      UserError: tensorboardX is not installed.
    """

    def __init__(self, directory: Path):
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise UserError(
                "config.train.tensorboard is true, but tensorboardX is not installed; run pip "
                "install tensorboardX, or set the option to false"
            ) from error
        self._open = functools.partial(SummaryWriter, str(directory))
        self._writer: Any = None

    def rewind(self, step: int) -> None:
        """Opens an event file that makes TensorBoard discard older events of steps after `step`."""
        self._writer = self._open(purge_step=step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes `{"step", "split", name: number, ...}` as the scalars `split/name`."""
        for name, value in row.items():
            if name not in ("step", "split"):
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def close(self) -> None:
        """Flushes and closes the event file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """Logs metrics to Weights & Biases, in the project `$WANDB_PROJECT` or else "lru".

    A resumed run continues under the same identifier. The rows that it repeats are logged a second
    time. For other settings, see the environment variables `WANDB_...` of wandb.

    Args:
      directory: the work directory, whose file `wandb_id` holds the identifier.
      config: the config of the run.

    Raises:
      UserError: wandb is not installed.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any]):
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise UserError(
                "config.train.wandb is true, but wandb is not installed; run pip install wandb, "
                "or set the option to false"
            ) from error
        self._wandb, self._directory, self._config = wandb, directory, config
        self._run: Any = None

    def rewind(self, step: int) -> None:
        """Starts or continues the run at Weights & Biases.

        Raises:
          UserError: wandb cannot start it, for example without a login.
        """
        file = self._directory / "wandb_id"
        if not file.exists():
            write_atomically(file, secrets.token_hex(4))
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", "lru"), id=file.read_text(), resume="allow",
                name=self._directory.resolve().name, dir=str(self._directory), config=self._config,
            )  # fmt: skip
        except self._wandb.Error as error:
            raise UserError(
                f"wandb cannot start the run: {error}; set WANDB_MODE=offline to log into the "
                "work directory"
            ) from error
        self._run.define_metric("*", step_metric="step")  # wandb's own steps cannot be repeated

    def write(self, row: Mapping[str, Any]) -> None:
        """Logs `{"step", "split", name: number, ...}` as `split/name`, by step."""
        found = {k: v for k, v in row.items() if k not in ("step", "split")}
        named = {f"{row['split']}/{name}": value for name, value in found.items()}
        self._run.log({"step": row["step"]} | named)

    def close(self) -> None:
        """Sends pending rows and ends the run at Weights & Biases."""
        if self._run is not None:
            self._run.finish()


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number < 100_000 else tqdm.format_sizeof(number)


class Progress:
    """Shows the progress of training: a live line on a terminal, elsewhere a line for each `show`.

    Args:
      steps: the number of training steps.
      start: the number of steps already done.
      items: the name and number of the items that a step reads, such as `("examples", 32)`.
    """

    def __init__(self, steps: int, start: int, items: tuple[str, int]):
        self._items, self._steps = items, steps
        self._bar = tqdm(
            total=steps,
            initial=start,
            unit="step",
            disable=None,  # off without a terminal
            file=sys.stdout,
            dynamic_ncols=True,
            bar_format="{n_fmt}/{total_fmt}  ETA {remaining}  {desc}",  # for 80 columns
        )

    def advance(self, steps: int) -> None:
        """Advances the bar by a number of steps."""
        self._bar.update(steps)

    def show(
        self,
        step: int,
        metrics: Mapping[str, float],
        speed: float | None,
        waited: float | None = None,
    ) -> None:
        """Shows the latest training metrics.

        Args:
          step: the number of steps done.
          metrics: the metrics, with `loss`, and `accuracy` or `rmse`.
          speed: the number of steps per second; None if it is not known.
          waited: the share of time in which the devices waited for input; None if it is not known.
            A terminal shows it in place of the speed if it is above 10 %; elsewhere, it is shown
            beside the speed if it is above 1 %.
        """
        text = f"loss {metrics['loss']:.4f}  "
        if "rmse" in metrics:
            text += f"RMSE {metrics['rmse']:.4g}"
        else:
            text += f"accuracy {100 * metrics['accuracy']:.1f} %"
        rate = f"  {_rate(speed * self._items[1])} {self._items[0]}/s" if speed else ""
        wait = f"  {100 * waited:.0f} % waiting" if waited and waited > 0.01 else ""
        self._bar.set_description_str(text + (wait if waited and waited > 0.1 else rate))
        if self._bar.disable:
            text += rate + (f"{wait} for input" if wait else "")
            left = tqdm.format_interval(round((self._steps - step) / speed)) if speed else "?"
            self.log(f"step {step:,}/{self._steps:,}  {text}  ETA {left}")

    def log(self, text: str) -> None:
        """Prints a line above the progress bar."""
        tqdm.write(printable(text), file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        """Closes the bar and leaves its last line on the terminal."""
        self._bar.close()
