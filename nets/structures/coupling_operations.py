"""Which operations between layers keep channels apart, as torch-pruning's graph shows them.

torch-pruning takes every operation that it does not know for one that acts on each number by itself, and says nothing. So
only the operations listed here are believed; channels that meet any other are left out, with its name as the reason.
"""

from typing import Any

CHANNELWISE = frozenset(
    [
        *(
            "Relu",
            "Hardtanh",
            "LeakyRelu",
            "Elu",
            "Gelu",
            "Silu",
            "Mish",
            "Sigmoid",
            "Tanh",
            "Hardswish",
            "Hardsigmoid",
        ),
        *("Softplus", "Add", "Sub", "Mul", "Neg", "Clone", "NativeDropout", "ToCopy", "Alias", "Squeeze", "Unsqueeze"),
        *("MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D"),
        *("UpsampleNearest2D", "UpsampleBilinear2D"),
    ]
)
RENUMBERING = ("CONCAT", "SPLIT", "SLICE", "RESHAPE")  # torch-pruning counts the channels anew behind these
OPERATIONS = (*RENUMBERING, "ELEMENTWISE", "OUTPUT", "UNBIND", "EXPAND")  # kinds of nodes that are no layer


def refuse_operation(node: Any) -> str | None:
    """Why channels that pass this node of torch-pruning's graph (an operation, no layer) are left out; None: they are not."""
    kind, gradient = node.type.name, node.grad_fn
    name = gradient.name().split("Backward")[0] if hasattr(gradient, "name") else str(gradient)
    if kind == "OUTPUT":
        return "they are the network's outputs"
    if kind in RENUMBERING or (
        kind == "ELEMENTWISE" and (name in CHANNELWISE or _keeps_channels(name, gradient, node))
    ):
        return None
    return f"they pass {name}, which is not known to act on each channel by itself"


def _keeps_channels(name: str, gradient: Any, node: Any) -> bool:
    if name == "Mean":
        return _over_positions(gradient)
    if name == "ConstantPadNd":
        return len(gradient._saved_pad) <= 4  # borders; more numbers would pad channels
    if name == "T":
        return not node.inputs  # a Linear layer's own weight
    # the inside of a Linear layer on (batch, ..., features)
    return name in ("Addmm", "Mm") and all(reader.type.name == "LINEAR" for reader in node.outputs)


def _over_positions(gradient: Any) -> bool:
    sizes, dims = getattr(gradient, "_saved_self_sym_sizes", ()), getattr(gradient, "_saved_dim", None)
    if len(sizes) != 4 or not dims:
        return False
    signed = [d - 2**64 if d >= 2**63 else d for d in dims]  # autograd shows -1 as an unsigned number
    return {d % 4 for d in signed} <= {2, 3}
