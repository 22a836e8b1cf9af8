"""Arrays in torch, on the device where the observations lie."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_transfer.arrays.base import SIMILAR_DECIMALS, FloatArray, IntArray
from seg_transfer.arrays.host import segments

# 16,384 rows of 720 channels are 94 MB: enough work for every launch, and little memory beside the observations.
BLOCK_ROWS = 16_384
# Their similarities to 10,000 rows are 82 MB.
QUERIES = 1024


class DeviceArrays:
    """The implementation of `Arrays` in torch.

    Sums by key are taken segment by segment rather than by atomic additions, so that they are the same every time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def block_rows(self) -> int:
        return BLOCK_ROWS

    def of_host(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def to_host(self, values: Tensor) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = values.cpu().numpy()
        return array

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self._device)

    def float32(self, values: Tensor) -> Tensor:
        return values.to(torch.float32, copy=True)

    def take(self, matrix: Tensor, rows: Any) -> Tensor:
        return matrix[self.of_host(rows) if isinstance(rows, np.ndarray) else rows]

    def float64(self, matrix: Tensor) -> Tensor:
        return matrix.to(torch.float64, copy=True)

    def blocks(self, matrix: Tensor, order: IntArray, n_rows: int) -> Iterator[Tensor]:
        for chosen in torch.split(self.of_host(order), n_rows):
            yield matrix.index_select(0, chosen).to(torch.float64, copy=True)

    def add_by_key(self, totals: Tensor, rows: Tensor, keys: IntArray) -> None:
        for key, start, end in segments(keys):
            totals[key] += rows[start:end].sum(dim=0)

    def products(self, rows: Tensor) -> Tensor:
        return rows.T @ rows

    def add_products(self, total: Tensor, rows: Tensor) -> Tensor:
        return total.addmm_(rows.T, rows)

    def symmetric(self, upper: Tensor) -> FloatArray:
        triangle = torch.triu(upper)
        return self.to_host(triangle + torch.triu(triangle, 1).T)

    def squared_lengths(self, rows: Tensor) -> Tensor:
        return (rows * rows).sum(dim=1)

    def exp(self, values: Tensor) -> Tensor:
        return values.exp_()

    def log(self, values: Tensor) -> Tensor:
        return values.log_()

    def argmax(self, rows: Tensor) -> Tensor:
        # Of equal values, torch promises none in particular; the first is the least position of the maximum.
        positions = torch.arange(rows.shape[1], device=self._device).expand(rows.shape)
        is_largest = rows == rows.amax(dim=1, keepdim=True)
        return torch.where(is_largest, positions, rows.shape[1]).amin(dim=1)

    def pick(self, rows: Tensor, columns: IntArray) -> Tensor:
        return rows.gather(1, self.of_host(columns)[:, None])[:, 0]

    def rows_by_part(self, parts: Tensor, n_parts: int) -> list[Tensor]:
        order = torch.argsort(parts, stable=True)
        bounds = torch.searchsorted(parts[order], torch.arange(n_parts + 1, device=self._device)).tolist()
        return [order[start:end] for start, end in itertools.pairwise(bounds)]

    def places(self, mask: Tensor) -> Tensor:
        return torch.nonzero(mask.reshape(-1))[:, 0]

    def argsort(self, values: Tensor) -> Tensor:
        return torch.argsort(values, stable=True)

    def probabilities(self, places: Tensor, odds: Tensor, shape: tuple[int, int]) -> Tensor:
        table = torch.full((shape[0] * shape[1],), -torch.inf, dtype=odds.dtype, device=self._device)
        table[places] = odds
        return torch.softmax(table.reshape(shape), dim=1)

    def squared_products(self, rows: Tensor, triangle: Tensor) -> Tensor:
        return self.squared_lengths(rows @ triangle)

    def multiply(self, first: Tensor, second: Tensor, *, out: Tensor) -> None:
        torch.mul(first, second, out=out)

    def contiguous(self, matrix: Tensor) -> Tensor:
        return matrix.contiguous()

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def max(self, rows: Tensor) -> Tensor:
        return rows.amax(dim=1)

    def count(self, cells: Tensor, n_cells: int) -> IntArray:
        return self.to_host(torch.bincount(cells, minlength=n_cells)).astype(np.int64)

    def first_unusable(self, matrix: Tensor, limit: float) -> tuple[int, int] | None:
        for start in range(0, len(matrix), BLOCK_ROWS):
            is_usable = matrix[start : start + BLOCK_ROWS].abs() < limit
            if not bool(is_usable.all()):
                row, column = torch.nonzero(~is_usable)[0].tolist()
                return start + row, column
        return None

    def constant_columns(self, matrix: Tensor) -> IntArray:
        is_constant = torch.ones(matrix.shape[1], dtype=torch.bool, device=self._device)
        for block in torch.split(matrix, BLOCK_ROWS):
            is_constant &= (block == matrix[0]).all(dim=0)
            if not bool(is_constant.any()):
                break
        return np.flatnonzero(self.to_host(is_constant))

    def nearest(self, rows: Tensor, images: IntArray, k: int) -> IntArray:
        native_images, found = self.of_host(images), np.full((len(rows), k), -1)
        for queries in torch.split(torch.arange(len(rows), device=self._device), QUERIES):
            similarities = torch.round(rows[queries] @ rows.T, decimals=SIMILAR_DECIMALS)
            similarities[native_images[queries, None] == native_images] = -torch.inf
            values, order = torch.sort(similarities, dim=1, descending=True, stable=True)
            order[values == -torch.inf] = -1
            found[self.to_host(queries), : len(rows)] = self.to_host(order[:, :k])
        return found
