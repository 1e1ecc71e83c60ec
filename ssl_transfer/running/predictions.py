"""predictions.parquet: path, split, prediction and scores of every image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ssl_transfer.downstream import Downstream
from ssl_transfer.files import whole_file
from ssl_transfer.running.folder import RunFolder


def write_predictions(run: RunFolder, module: Any, data: Any, outputs: list[Any]) -> Path:
    """Write the outputs of `Trainer.predict`, in the order of the source.

    A downstream module says what it gives (see its `columns`); a pretraining objective gives `features`.
    """
    index = torch.cat([output["index"] for output in outputs]).cpu()
    order = index.argsort()
    rows = index[order].tolist()
    columns: dict[str, Any] = {
        "path": [data.table.paths[row] for row in rows],
        "split": [str(data.table.splits[row]) for row in rows],
    }
    made, notes = _columns(module, outputs)
    for name, values in made.items():
        if isinstance(values, torch.Tensor) and values.ndim == 2:
            flat = pa.array(values[order].flatten().numpy())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            columns[name] = [values[place] for place in order.tolist()]
    table = pa.table(columns)
    if notes:
        table = table.replace_schema_metadata(notes)
    with whole_file(run.predictions) as temporary:
        pq.write_table(table, temporary)
    return run.predictions


def _columns(module: Any, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    if isinstance(module, Downstream):
        return module.columns(outputs)
    return {"features": torch.cat([output["features"] for output in outputs]).float().cpu()}, {}
