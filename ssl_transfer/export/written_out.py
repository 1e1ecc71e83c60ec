"""An exported program as lines of Python: one a step, in torch's public functions wherever it has one."""

from __future__ import annotations

import itertools
import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

LETTERS = "xyzabcdefghijklmopqrstuv"  # names of tensors; n, n1, … are numbers
LAST = 2**63 - 1  # the end of a slice that has none


def written_out(program: ExportedProgram, names: Mapping[str, str]) -> tuple[list[str], dict[str, Tensor]]:
    """The body of a `forward(x, pixels)`, and the constants of the graph, by name, that it reads beside the weights.

    Lines read parameters and buffers from a dict `w`, and `training`. Steps follow the graph one by one; a step ends
    with the shape of its result.

    Args:
        program: of two inputs, which the lines call `x` and `pixels`, with a dict as its output.
        names: from the program's names of parameters and buffers to those in `w`.
    """
    writer = _Writer(program, names)
    return writer.lines(), writer.constants


class _Writer:
    def __init__(self, program: ExportedProgram, names: Mapping[str, str]) -> None:
        self.program = program
        self.constants: dict[str, Tensor] = {}
        self.words: dict[Node, str] = {}
        inputs = iter(("x", "pixels"))
        placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        for spec in program.graph_signature.input_specs:
            node = placeholders[spec.arg.name]  # type: ignore[union-attr]
            if spec.kind == InputKind.USER_INPUT:
                self.words[node] = next(inputs)
            elif spec.kind == InputKind.CONSTANT_TENSOR:
                name = f"constants.{spec.target}".replace(".", "_").replace("constants_", "constants.", 1)
                self.constants[name] = program.constants[spec.target]  # type: ignore[index]
                self.words[node] = f"w[{quoted(name)}]"
            else:
                self.words[node] = f"w[{quoted(names[str(spec.target)])}]"

    def lines(self) -> list[str]:
        """One a step, and what is returned. A name that nobody reads any more is given again."""
        nodes = list(self.program.graph.nodes)
        last_use = {given: node for node in nodes for given in node.all_input_nodes}
        names, taken, found = _Names(), {"x"}, []
        for node in nodes:
            if node.op != "call_function":
                continue
            told = self._call(node)
            taken -= {self.words[given] for given in node.all_input_nodes if last_use[given] is node}
            self.words[node] = names.free(taken, number="sym" in node.name)
            taken.add(self.words[node])
            found.append(f"{self.words[node]} = {told}{_shape(node)}")
        return [*found, self._returned(nodes[-1])]

    def _returned(self, output: Node) -> str:
        values = output.args[0]
        spec = self.program.call_spec.out_spec
        assert spec is not None and spec.type is dict
        pairs = (f"{quoted(key)}: {self._word(value)}" for key, value in zip(spec.context, values, strict=True))  # type: ignore[arg-type]
        return f"return {{{', '.join(pairs)}}}"

    def _call(self, node: Node) -> str:
        if node.target in SYMBOLS:
            left, right = (self._word(arg) for arg in node.args)
            return f"{left} {SYMBOLS[node.target]} {right}"
        if node.target is operator.getitem:
            return f"{self._word(node.args[0])}[{self._word(node.args[1])}]"
        if not isinstance(node.target, torch._ops.OpOverload):
            raise ValueError(f"a step {node.target} cannot be written as a line of Python: take target torch_export")
        args = [self._word(arg) for arg in node.args]
        options = {name: self._word(value) for name, value in node.kwargs.items() if name not in ("pin_memory",)}
        short = node.target._schema.name.removeprefix("aten::")
        if (maker := _MAKERS.get(short)) is not None and (made := maker(args, options)) is not None:
            return made
        args += [f"{name}={value}" for name, value in options.items()]
        if short in METHODS and isinstance(node.args[0], Node):
            return f"{args[0]}.{short}({', '.join(args[1:])})"
        if short in FUNCTIONS:
            return f"{FUNCTIONS[short]}({', '.join(args)})"
        return f"{node.target}({', '.join(args)})".replace("aten.", "torch.ops.aten.", 1)

    def _word(self, value: Any) -> str:
        if isinstance(value, Node):
            return self.words[value]
        if isinstance(value, list | tuple):
            inside = ", ".join(self._word(item) for item in value)
            return f"[{inside}]"
        if isinstance(value, torch.device):
            return "self.mean.device"
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, int | float | bool | None):
            return repr(value)
        return str(value)  # torch.float32, torch.channels_last


def quoted(text: str) -> str:
    """A text as a literal of Python source, whatever it holds.

    >>> print(quoted('a "b" é'), quoted(chr(10)))
    "a \\"b\\" é" "\\n"
    """
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


class _Names:
    """Names that are free: a letter, or one with a number when there are many."""

    def free(self, taken: set[str], number: bool) -> str:
        """The first that is not taken."""
        letters = "n" if number else LETTERS
        endless = (f"{letter}{turn or ''}" for turn in itertools.count() for letter in letters)
        return next(name for name in endless if name not in taken)


SYMBOLS: Mapping[Any, str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.floordiv: "//",
    operator.mod: "%",
}
OF_TENSORS = (
    "abs add_ amax amin argmax argmin chunk clamp clone contiguous div_ double exp expand expand_as fill_ flatten "
    "float gather log masked_fill mean mul_ neg new_ones new_zeros permute pow reciprocal repeat reshape select "
    "softmax split split_with_sizes sqrt square squeeze sub_ sum t topk transpose type_as unbind unflatten unsqueeze "
    "view"
)
IN_TORCH = (
    "addcmul addmm arange atan2 bmm cat cos einsum full full_like index_select matmul max maximum min minimum mm ones "
    "ones_like relu relu_ roll rsqrt sigmoid sin stack tanh where zeros zeros_like"
)
IN_FUNCTIONAL = (
    "adaptive_avg_pool2d adaptive_max_pool2d elu gelu hardsigmoid hardswish hardtanh leaky_relu linear mish pad "
    "pixel_shuffle relu6 scaled_dot_product_attention selu silu softplus"
)
METHODS = frozenset(OF_TENSORS.split(" "))
FUNCTIONS = {name: f"torch.{name}" for name in IN_TORCH.split(" ")}
FUNCTIONS |= {name: f"F.{name}" for name in IN_FUNCTIONAL.split(" ")}

Maker = Callable[[list[str], dict[str, str]], str | None]


def _keywords(function: str, count: int, *named: tuple[str, str]) -> Maker:
    """A call whose first `count` arguments go by place and the others by name, but for those at their default."""

    def make(args: list[str], options: dict[str, str]) -> str | None:
        rest = zip(named, args[count:], strict=False)
        told = [f"{name}={value}" for (name, default), value in rest if value != default]
        told += [f"{name}={value}" for name, value in options.items()]
        return f"{function}({', '.join(args[:count] + told)})"

    return make


def _batch_norm(args: list[str], options: dict[str, str]) -> str:
    """By the helper `batch_norm` of the written file where all four tensors belong to one layer, as they do."""
    x, *tensors, _, momentum, eps = args[:8]
    layer = tensors[0].removeprefix('w["').removesuffix('.weight"]')
    if tensors == [f'w["{layer}.{name}"]' for name in ("weight", "bias", "running_mean", "running_var")]:
        return f'batch_norm({x}, w, "{layer}", training, {momentum}, {eps})'
    weight, bias, mean, variance = tensors
    mode = "training" if mean != "None" else "True"
    return f"F.batch_norm({x}, {mean}, {variance}, {weight}, {bias}, {mode}, {momentum}, {eps})"


def _without_cudnn(function: str) -> Maker:
    def make(args: list[str], options: dict[str, str]) -> str:
        return f"{function}({', '.join(args[:5])})"

    return make


def _dropout(args: list[str], options: dict[str, str]) -> str:
    return f"F.dropout({args[0]}, {args[1]}, training)"


def _slice(args: list[str], options: dict[str, str]) -> str | None:
    x, dim, start, end, step = [*args, *["0", "None", "None", "1"][len(args) - 1 :]]
    if int(dim) < 0:
        return None
    begin, stop = ("" if start in ("0", "None") else start), ("" if end in (str(LAST), "None") else end)
    return f"{x}[{':, ' * int(dim)}{begin}:{stop}{f':{step}' if step != '1' else ''}]"


def _in_place(function: str) -> Maker:
    def make(args: list[str], options: dict[str, str]) -> str:
        return f"{function}({', '.join([*args, 'inplace=True'])})"

    return make


def _index(args: list[str], options: dict[str, str]) -> str:
    inside = args[1].removeprefix("[").removesuffix("]").replace("None", ":")
    return f"{args[0]}[{inside}]"


def _compared(symbol: str) -> Maker:
    def make(args: list[str], options: dict[str, str]) -> str:
        return f"{args[0]} {symbol} {args[1]}"

    return make


def _symbol(symbol: str) -> Maker:
    """An operator, where there is no option beside its two sides."""

    def make(args: list[str], options: dict[str, str]) -> str | None:
        return f"{args[0]} {symbol} {args[1]}" if len(args) == 2 and not options else None

    return make


def _to(args: list[str], options: dict[str, str]) -> str:
    layout = options.get("memory_format", args[4] if len(args) > 4 else "None")
    kinds = [value for value in (args[1:2] or [options.get("dtype", "None")]) if value != "None"]
    return f"{args[0]}.to({', '.join(kinds + [f'memory_format={layout}'] * (layout != 'None'))})"


def _reversed_sub(args: list[str], options: dict[str, str]) -> str | None:
    return f"{args[1]} - {args[0]}" if len(args) == 2 and not options else None


def _transposed(args: list[str], options: dict[str, str]) -> str:
    return f"{args[0]}.T"


def _sized(args: list[str], options: dict[str, str]) -> str:
    return f"{args[0]}.shape[{args[1]}]"


def _interpolate(args: list[str], options: dict[str, str]) -> str | None:
    if len(args) < 3 or args[1] == "None" or (len(args) > 3 and args[3] != "None"):
        return None
    return f'F.interpolate({args[0]}, {args[1]}, mode="bilinear", align_corners={args[2]})'


_CONV = (("stride", "[1, 1]"), ("padding", "[0, 0]"), ("dilation", "[1, 1]"), ("groups", "1"))
_MAKERS: Mapping[str, Maker] = {
    "conv2d": _keywords("F.conv2d", 3, *_CONV),
    "to": _to,
    "rsub": _reversed_sub,
    "numpy_T": _transposed,
    "max_pool2d": _keywords(
        "F.max_pool2d",
        2,
        ("stride", ""),
        ("padding", "[0, 0]"),
        ("dilation", "[1, 1]"),
        ("ceil_mode", "False"),
    ),
    "avg_pool2d": _keywords(
        "F.avg_pool2d",
        2,
        ("stride", ""),
        ("padding", "[0, 0]"),
        ("ceil_mode", "False"),
        ("count_include_pad", "True"),
        ("divisor_override", "None"),
    ),
    "batch_norm": _batch_norm,
    "layer_norm": _without_cudnn("F.layer_norm"),
    "group_norm": _without_cudnn("F.group_norm"),
    "dropout": _dropout,
    "dropout_": _dropout,
    "slice": _slice,
    "index": _index,
    "sym_size": _sized,
    "silu_": _in_place("F.silu"),
    "hardswish_": _in_place("F.hardswish"),
    "hardsigmoid_": _in_place("F.hardsigmoid"),
    "hardtanh_": _in_place("F.hardtanh"),
    "leaky_relu_": _in_place("F.leaky_relu"),
    "elu_": _in_place("F.elu"),
    "add": _symbol("+"),
    "sub": _symbol("-"),
    "mul": _symbol("*"),
    "div": _symbol("/"),
    "matmul": _symbol("@"),
    "eq": _compared("=="),
    "ne": _compared("!="),
    "gt": _compared(">"),
    "ge": _compared(">="),
    "lt": _compared("<"),
    "le": _compared("<="),
    "__or__": _compared("|"),
    "__and__": _compared("&"),
    "bitwise_or": _compared("|"),
    "bitwise_and": _compared("&"),
    "upsample_bilinear2d": _interpolate,
    "linalg_vector_norm": _keywords("torch.linalg.vector_norm", 1, ("ord", ""), ("dim", ""), ("keepdim", "False")),
}


def _shape(node: Node) -> str:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return ""
    sides = ", ".join(str(side) if isinstance(side, int) else _symbolic(str(side)) for side in value.shape)
    return f"  # ({sides})"


def _symbolic(side: str) -> str:
    """A side that goes with the batch."""
    return re.sub(r"\bs\d+\b", "B", side)
