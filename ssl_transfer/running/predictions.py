"""predictions.parquet: path, split, prediction and scores of every image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ssl_transfer.downstream import Classifier
from ssl_transfer.files import whole_file
from ssl_transfer.running.folder import RunFolder


def write_predictions(run: RunFolder, module: Any, data: Any, outputs: list[Any]) -> Path:
    """Write the outputs of `Trainer.predict`, in the order of the source.

    A classifier gives `prediction` (a class name) and `scores` (a probability for each class, in the order of the
    column's metadata `classes`); a pretraining objective gives `features`.
    """
    index = torch.cat([output["index"] for output in outputs]).cpu()
    order = index.argsort()
    rows = index[order].tolist()
    columns: dict[str, Any] = {
        "path": [data.table.paths[row] for row in rows],
        "split": [str(data.table.splits[row]) for row in rows],
    }
    name = "scores" if isinstance(module, Classifier) else "features"
    values = torch.cat([output[name] for output in outputs]).float().cpu()[order]
    if isinstance(module, Classifier):
        columns["prediction"] = [module.classes[i] for i in values.argmax(1).tolist()]
    flat = pa.array(values.flatten().numpy())
    columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pa.table(columns)
    if isinstance(module, Classifier):
        table = table.replace_schema_metadata({"classes": "\n".join(module.classes)})
    with whole_file(run.predictions) as temporary:
        pq.write_table(table, temporary)
    return run.predictions
