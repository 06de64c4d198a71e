"""The speed settings that a run used: values in its config, and choices made for its platform.

Speed settings affect time and memory, and results only by rounding. A run may therefore be
continued with different speed settings, for example on another machine. The first line of
`timing.jsonl` contains the settings, and so does the first line after each change. The record lists
them by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from lru.ops.platform import product_precision, rematerialises
from lru.ops.recurrence import resolve_method

BY_PLATFORM = (
    "model.mixer.method",
    "model.mixer.order",
    "model.mixer.chunk_size",
    "model.remat",
    "model.chunk_size",
    "train.matmul_precision",
)


def speed_settings(config: ConfigDict) -> dict[str, Any]:
    """Returns the settings of a config that are listed in `BY_PLATFORM`.

    The method, the use of rematerialization and the precision are resolved for this platform. The
    precision is included even if the config lacks it.

    Example:
      >>> config = ConfigDict({"model": {"remat": True, "mixer": {"method": "auto"}}, "train": {}})
      >>> speed_settings(config)["model.mixer.method"]
      'sequential'
    """
    found = {}
    for key in BY_PLATFORM:
        *sections, name = key.split(".")
        node: Any = config
        for section in sections:
            node = node.get(section) or {}
        if name in node:
            found[key] = node[name]
    key, precision = "train.matmul_precision", config.train.get("matmul_precision", "auto")
    found[key] = product_precision(precision)
    if (key := "model.remat") in found:
        found[key] = rematerialises(found[key])
    if (key := "model.mixer.method") in found:
        found[key] = resolve_method(found[key], (2,))  # for a sequence, not for one step
    return found


def latest_settings(timing: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the latest settings in the lines of `timing.jsonl`; `{}` if no line has any."""
    found = [row["settings"] for row in timing if "settings" in row]
    return found[-1] if found else {}


def format_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describes the changed settings; returns "" if none changed, or if `before` is empty.

    Example:
      >>> format_change({"model.remat": True}, {"model.remat": False})
      'config.model.remat is False now, and was True before'
    """
    return "; ".join(
        f"config.{key} is {now.get(key)!r} now, and was {before.get(key)!r} before"
        for key in sorted(before.keys() | now.keys())
        if before and before.get(key) != now.get(key)
    )
