"""Sparse matrices, compressed by rows."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def compressed_rows(
    counts: Int[Tensor, " R"],
    columns: Int[Tensor, " E"],
    values: Float[Tensor, " E"],
    *,
    shape: tuple[int, int],
) -> Tensor:
    """Return a sparse matrix with 32-bit indices.

    A product with 64-bit indices takes twice the time.

    Args:
        counts: number of entries in each of the R rows.
        columns: column of each entry, row by row.
        values: of the entries.
        shape: rows and columns of the matrix.
    """
    ends = functional.pad(counts.cumsum(0), (1, 0))
    # The checks of the invariants are switched off on purpose: they take as long as a product, and
    # the indices are computed here and not read from a file. torch warns if nothing is said.
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning
        )
        return torch.sparse_csr_tensor(
            ends.int(), columns.int(), values, shape, check_invariants=False
        )
