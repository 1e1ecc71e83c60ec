"""The weights of a `.pt2` file read as bytes: no code of the file is run, as opening it with torch may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

CONFIG = "data/weights/model_weights_config.json"
TYPES = {  # by the numbers of torch._export.serde.schema.ScalarType
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
CURE = "copy the export again from its source, or give the encoder folder"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers, by name, of the program that `torch.export.save` wrote.

    Only the table of weights and their raw bytes are read. `torch.export.load` would unpickle the sample inputs, and
    whatever the table calls a pickle: that is running code.

    Raises:
        ValueError: no such file, a damaged one, or one that says that a weight is a pickle.
    """
    try:
        with ZipFile(path) as archive:
            (config,) = [name for name in archive.namelist() if name.endswith(f"/{CONFIG}")]
            folder = config.removesuffix(CONFIG.rpartition("/")[2])
            told = json.loads(archive.read(config))["config"]
            for name, meta in told.items():
                if meta["use_pickle"] is not False:
                    raise _Pickled(
                        f"{path} holds weight {name!r} as a pickle, and opening that is running code: {CURE}"
                    )
            files = {meta["path_name"]: _raw(archive, folder + meta["path_name"]) for meta in told.values()}
        return {name: _tensor(files[meta["path_name"]], meta["tensor_meta"]) for name, meta in told.items()}
    except _Pickled as error:
        raise ValueError(str(error)) from None
    except (BadZipFile, OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} holds no weights that can be read without running code: {CURE}") from error


class _Pickled(Exception):
    """A weight is a pickle."""


def _raw(archive: ZipFile, name: str) -> bytearray:
    if archive.getinfo(name).compress_type != ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return bytearray(archive.read(name))


def _tensor(data: bytearray, meta: dict[str, Any]) -> Tensor:
    sizes, strides = ([side["as_int"] for side in meta[key]] for key in ("sizes", "strides"))
    dtype = TYPES[meta["dtype"]]
    if not data:
        return torch.empty(0, dtype=dtype).reshape(sizes)
    return torch.frombuffer(data, dtype=dtype).as_strided(sizes, strides, meta["storage_offset"]["as_int"])
