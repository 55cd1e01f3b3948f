"""Products of matrices and their Cholesky factors, on as many threads as were asked for.

NumPy's own start a thread on every core, which spin while others work: the factor of 576 rows took 30 times the
processor time of one thread where two cores were busy. So ONNX Runtime multiplies, and NumPy gets blocks that are too
small for threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hybridq.graph.opset import IR_VERSION, OPSET
from hybridq.graph.runtime import Session, run, session

Array = NDArray[Any]
Doubles = NDArray[np.float64]

BLOCK = 64  # rows and columns that NumPy multiplies and factors on one thread
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def product(a: Array, b: Array, threads: int) -> Array:
    """``a @ b`` of every group, (groups, n, k) and (groups, k, m), of one float type; infinite where that ends."""
    if max(*a.shape[1:], b.shape[2]) <= BLOCK:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(a @ b)
    return np.asarray(run(_multiplier(a.dtype.name, threads), {"a": a, "b": b}, ["y"])[0])


def factor(a: Doubles, threads: int) -> Doubles:
    """The lower triangular ``l`` with ``l @ l.T == a`` of every group, (groups, n, n).

    Block by block (Golub and Van Loan, "Matrix Computations", 4.2.9). Raises LinAlgError where a matrix is not
    positive definite.
    """
    size = a.shape[1]
    found, rest = np.zeros_like(a), a.copy()
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        corner = np.linalg.cholesky(rest[:, start:stop, start:stop])
        found[:, start:stop, start:stop] = corner
        if stop < size:
            below = product(rest[:, stop:, start:stop], _turned(np.linalg.inv(corner)), threads)
            found[:, stop:, start:stop] = below
            rest[:, stop:, stop:] -= product(below, _turned(below), threads)
    return found


def _turned(a: Array) -> Array:
    return np.ascontiguousarray(a.transpose(0, 2, 1))


@cache
def _multiplier(kind: str, threads: int) -> Session:
    shapes = {"a": ["g", "n", "k"], "b": ["g", "k", "m"], "y": ["g", "n", "m"]}
    a, b, y = (helper.make_tensor_value_info(name, TYPES[kind], shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product", [a, b], [y])
    opset = [helper.make_opsetid("", OPSET)]
    return session(helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opset), threads=threads)
