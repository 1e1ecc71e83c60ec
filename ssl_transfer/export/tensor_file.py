"""A safetensors file read without its package: source text for examples that need torch alone."""

from __future__ import annotations

READ_TENSORS = '''

def read_tensors(path):
    """The tensors of a safetensors file by name."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    types |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}
    tensors = {}
    for name, told in json.loads(bytes(data[8:start])).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in told["data_offsets"])
            value = torch.frombuffer(data[begin:end], dtype=types[told["dtype"]]) if end > begin else torch.empty(0)
            tensors[name] = value.reshape(told["shape"])
    return tensors

'''
