"""Sparse 3D convolution: a small API with MinkowskiEngine's kernel layout and key names.

The reference is section 6.3 of the method notes: kernels are `(volume, in, out)`, the x offset
varies fastest, odd kernels are centred, even kernels are not, convolution is cross-correlation.
"""

from __future__ import annotations

from sas_ros.sparse.coordinates import CoordinateManager
from sas_ros.sparse.kernel_map import KernelMap
from sas_ros.sparse.modules import (
    Norm,
    SparseBatchNorm,
    SparseConvolution,
    SparseConvolutionTranspose,
    SparseTensor,
    cat,
    fold,
    relu,
    unit,
)

__all__ = [
    "CoordinateManager",
    "KernelMap",
    "Norm",
    "SparseBatchNorm",
    "SparseConvolution",
    "SparseConvolutionTranspose",
    "SparseTensor",
    "cat",
    "fold",
    "relu",
    "unit",
]
