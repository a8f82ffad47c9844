"""Numbers of an ONNX file as torch holds them.

Half precision and the types of eight and four bits are held, and computed, in single precision;
whole numbers that torch can only store (unsigned of 16 bits and more) in the next signed type.
A network that is converted as a whole (``.double()``) has one type for all of them, ``real``.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tilth import lazy
from tilth.errors import DataError

__all__ = [
    "FLOAT4",
    "FLOAT8_E4M3",
    "NARROW_FLOATS",
    "RANGES",
    "UINT8",
    "UINT32",
    "dtype_of",
    "is_float",
    "tensor_of",
]

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL = 1, 2, 3, 4, 5, 6, 7, 8, 9
FLOAT16, DOUBLE, UINT32, UINT64, BFLOAT16 = 10, 11, 12, 13, 16
FLOAT8_E4M3 = 17
NARROW_FLOATS = {
    FLOAT8_E4M3: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
}
UINT4, INT4, FLOAT4, UINT2, INT2 = 21, 22, 23, 25, 26
WHOLE = {
    UINT8: torch.uint8,
    INT8: torch.int8,
    UINT16: torch.int32,
    INT16: torch.int16,
    INT32: torch.int32,
    INT64: torch.int64,
    UINT32: torch.int64,
    UINT64: torch.int64,
    UINT4: torch.uint8,
    INT4: torch.int8,
    UINT2: torch.uint8,
    INT2: torch.int8,
    BOOL: torch.bool,
}
FLOATS = {FLOAT, FLOAT16, BFLOAT16, DOUBLE, FLOAT4, *NARROW_FLOATS}
# Smallest and largest whole number of the types that quantised values have.
RANGES = {
    UINT8: (0, 255),
    INT8: (-128, 127),
    UINT16: (0, 65535),
    INT16: (-32768, 32767),
    INT32: (-(2**31), 2**31 - 1),
    UINT4: (0, 15),
    INT4: (-8, 7),
    UINT2: (0, 3),
    INT2: (-2, 1),
}


def is_float(code: int) -> bool:
    """Whether a gradient can pass through values of this type."""
    return code in FLOATS


def dtype_of(code: int, *, real: torch.dtype | None = None) -> torch.dtype:
    """The torch type that holds ONNX's type ``code``; ``real`` replaces every floating one.

    Raises:
        DataError: a type that holds no numbers, or complex ones.

    >>> dtype_of(1), dtype_of(4), dtype_of(1, real=torch.float64)
    (torch.float32, torch.int32, torch.float64)
    """
    if code in FLOATS:
        return real or (torch.float64 if code == DOUBLE else torch.float32)
    if code not in WHOLE:
        onnx = lazy.require("onnx", extra="onnx")
        raise DataError(
            "the ONNX model uses values of a type that cannot be computed with here",
            expected="floating or whole numbers, or yes and no",
            got=onnx.TensorProto.DataType.Name(code) if code else "an undefined type",
            fix="name only the outputs that are numbers (outputs=...), or export without it",
        )
    return WHOLE[code]


def tensor_of(proto: Any) -> Tensor:
    """The tensor of a ``TensorProto``, a ``SparseTensorProto`` or an attribute of ``Constant``."""
    onnx = lazy.require("onnx", extra="onnx")
    if isinstance(proto, onnx.AttributeProto):
        return _of_attribute(onnx, proto)
    if isinstance(proto, onnx.SparseTensorProto):
        return _of_sparse(proto)
    return torch.from_numpy(_array(onnx, proto)).to(dtype_of(proto.data_type))


def _array(onnx: Any, proto: Any) -> np.ndarray:
    array = np.array(onnx.numpy_helper.to_array(proto))  # its own memory, writable
    if array.dtype.kind in "fiub" and array.dtype.isbuiltin == 1:
        return array.astype(np.int64) if array.dtype.kind == "u" and array.itemsize > 1 else array
    dtype_of(proto.data_type)  # raises for texts and complex numbers
    return array.astype(np.float32 if proto.data_type in FLOATS else np.int64)


def _of_attribute(onnx: Any, proto: Any) -> Tensor:
    kinds = onnx.AttributeProto
    if proto.type == kinds.TENSOR:
        return tensor_of(proto.t)
    if proto.type == kinds.SPARSE_TENSOR:
        return _of_sparse(proto.sparse_tensor)
    value = onnx.helper.get_attribute_value(proto)
    if proto.type in (kinds.FLOAT, kinds.FLOATS):
        return torch.tensor(value, dtype=torch.float32)
    if proto.type in (kinds.INT, kinds.INTS):
        return torch.tensor(value, dtype=torch.int64)
    dtype_of(STRING)
    raise AssertionError("a text is refused above")


def _of_sparse(proto: Any) -> Tensor:
    values, indices = tensor_of(proto.values), tensor_of(proto.indices)
    dense = torch.zeros(tuple(proto.dims), dtype=values.dtype)
    if indices.ndim == 1:
        dense.view(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense
