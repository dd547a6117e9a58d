"""Tensors as the bytes of a safetensors file, without a copy of all of them at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

_NAMES: Final = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def chunks(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file, piece by piece.

    Args:
        tensors: By name; any shape and device, each written as if it were contiguous.
        about: The file's ``__metadata__``.

    Raises:
        KeyError: If a tensor has a dtype that such files do not hold.
    """
    # Wide elements first, so that each lies at a multiple of its width.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    header: dict[str, object] = {"__metadata__": dict(about)}
    end = 0
    for name in order:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        flat = tensors[name].detach().cpu().contiguous().flatten()
        yield flat.view(torch.uint8).numpy().data
