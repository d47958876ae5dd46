"""Numbers for MLflow: many in few calls, under names that it accepts."""

import math
import re
import time
from collections.abc import Iterable
from typing import Any

_BATCH = 1000  # metrics MLflow takes in one call
_LONG_LIST = 32  # for example the hashes of all training images: those are in card.json


def log_points(client: Any, run_id: str, points: Iterable[tuple[str, float, int]]) -> None:
    """Log (name, value, step) triples; what MLflow refuses in a name becomes `_`; only finite values."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(re.sub(r"[^\w.\- ]", "_", name), float(value), now, int(step))
        for name, value, step in points
        if math.isfinite(value)
    ]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def log_params(client: Any, run_id: str, values: dict[str, Any]) -> None:
    """Log a nested mapping with dotted keys; short lists as text, long values cut at MLflow's limit."""
    from mlflow.entities import Param

    flat = [Param(re.sub(r"[^\w.\- /]", "_", key), _text(value)[:6000]) for key, value in flatten(values)]
    for start in range(0, len(flat), 100):
        client.log_batch(run_id, params=flat[start : start + 100])


def flatten(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """`{"a": {"b": 1}}` to `[("a.b", 1)]`, in the order given; an empty mapping stays as a value."""
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        flat += flatten(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return flat


def _text(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value)) if len(value) <= _LONG_LIST else f"{len(value)} entries"
