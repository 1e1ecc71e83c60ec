"""`ssl-transfer export`: an encoder, or a whole downstream run, for projects that do not have this package."""

from __future__ import annotations

from typing import Literal


def export(
    encoder: str,
    to: str = "",
    out: str | None = None,
    input: Literal["uint8", "float"] = "uint8",
    maps: bool = False,
    license: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write a folder that opens without this package, verified in a fresh process before it appears.

    Examples: ssl-transfer export runs/a/encoder --to onnx --out exports/onnx
    ssl-transfer export runs/cats --to torch --out exports/cats
    ssl-transfer export exports/torch --to encoder --out runs/back/encoder

    Args:
        encoder: an encoder folder, the folder of a downstream run or of its model (encoder, head, labels and threshold
            go together), or an export.
        to: torchvision, timm, onnx, torch_export, torch (a Python file and safetensors), huggingface, lightly_train,
            segmentation; or encoder, an encoder folder of this package again.
        out: the folder to write; by default exports/TARGET.
        input: of onnx and torch_export: images as uint8, or as float32 in [0, 1].
        maps: let an encoder's graph give its feature maps too.
        license: for the model card of huggingface, such as apache-2.0.
        overwrite: replace an older export at --out.
    """
    from shlex import quote

    from rich.console import Console
    from rich.markup import escape

    from ssl_transfer.export import write_export

    done = write_export(
        encoder, to, out or f"exports/{to}", input=input, maps=maps, license=license, overwrite=overwrite
    )
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"wrote {escape(str(done.path))}: {done.kind}, {done.bytes / 2**20:.2f} MiB")
    for name in done.files:
        console.print(f"  {escape(name)}")
    if done.target == "encoder":
        console.print(escape(f"ssl_transfer.load_encoder({str(done.path)!r}) opens it"))
        return 0
    told = ", ".join(f"{name} {difference:.2g}" for name, difference in done.differences.items())
    console.print(f"verified in a process without ssl_transfer; largest differences: {told}")
    for note in done.notes:
        console.print(escape(f"note: {note}"))
    console.print(escape(f"try it: python {quote(str(done.path / 'example.py'))} picture.png"))
    return 0
