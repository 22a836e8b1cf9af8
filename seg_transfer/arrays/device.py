"""Arrays in torch, on the device where the observations lie."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_transfer.arrays.base import SIMILAR_DECIMALS, FloatArray, IntArray, Parts

# 16,384 rows of 720 channels are 94 MB: enough work for every launch, and little memory beside the observations.
BLOCK_ROWS = 16_384
# 8 million numbers are 67 MB: 131,072 rows of 64 channels.
BATCH_NUMBERS = 1 << 23
# Their similarities to 10,000 rows are 82 MB.
QUERIES = 1024


class DeviceArrays:
    """The implementation of `Arrays` in torch.

    Sums by key are taken part by part rather than by atomic additions, so that they are the same every time.
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

    def coarse(self, values: Tensor) -> Tensor:
        # While a network computes in TF32, as a setting of the process, products of float32 have fewer digits.
        return self.float64(values)

    def take(self, matrix: Tensor, rows: Any) -> Tensor:
        return matrix[self.of_host(rows) if isinstance(rows, np.ndarray) else rows]

    def float64(self, matrix: Tensor) -> Tensor:
        return matrix.to(torch.float64, copy=True)

    def blocks(self, matrix: Tensor, order: IntArray, n_rows: int) -> Iterator[Tensor]:
        for chosen in torch.split(self.of_host(order), n_rows):
            yield matrix.index_select(0, chosen).to(torch.float64, copy=True)

    def add_by_key(self, totals: Tensor, rows: Tensor, keys: IntArray) -> None:
        present, starts = np.unique(keys, return_index=True)
        parts = Parts(torch.arange(len(keys), device=self._device), np.append(starts, len(keys)))
        totals[self.of_host(present)] += self.sums_by_part(rows, parts)

    def subtract_by_key(self, rows: Tensor, origins: Tensor, keys: IntArray) -> None:
        rows -= origins[self.of_host(keys)]

    def products(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mm(rows.T, rows, out=out)

    def add_products(self, total: Tensor, rows: Tensor) -> None:
        total.addmm_(rows.T, rows)

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

    def rows_by_part(self, part_of_row: Tensor, n_parts: int) -> Parts:
        order = torch.argsort(part_of_row, stable=True)
        bounds = self.to_host(torch.searchsorted(part_of_row[order], torch.arange(n_parts + 1, device=self._device)))
        return Parts(order[: bounds[-1]], bounds)

    def sums_by_part(self, z: Tensor, parts: Parts) -> Tensor:
        sums = self.zeros(len(parts), z.shape[1])
        for chosen, index, is_row in self._batches(parts, z.shape[1]):
            sums[chosen] = torch.where(is_row[:, :, None], z[parts.rows[index]], 0.0).sum(dim=1)
        return sums

    def whitened_squares(self, z: Tensor, parts: Parts, origins: Tensor, triangles: Tensor) -> Tensor:
        squares = self.zeros(len(parts.rows))
        for chosen, index, _ in self._batches(parts, z.shape[1]):
            products = (z[parts.rows[index]] - origins[chosen][:, None]) @ triangles[chosen]
            squares[index] = (products * products).sum(dim=2)
        return squares

    def weighted_moments(self, z: Tensor, parts: Parts, weights: Tensor) -> tuple[FloatArray, FloatArray, FloatArray]:
        width = z.shape[1]
        totals, means = self.zeros(len(parts)), self.zeros(len(parts), width)
        products = self.zeros(len(parts), width, width)
        for chosen, index, is_row in self._batches(parts, width):
            rows, own = z[parts.rows[index]], weights[index] * is_row
            totals[chosen] = total = own.sum(dim=1)
            means[chosen] = mean = (own[:, None] @ rows)[:, 0] / (total + (total == 0))[:, None]
            rows -= mean[:, None]
            rows *= (own**0.5)[:, :, None]
            products[chosen] = rows.transpose(1, 2) @ rows
        return self.to_host(totals), self.to_host(means), self.to_host(products)

    def _batches(self, parts: Parts, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield parts of similar sizes together: a launch for each would take longer than its work.

        Yields:
            The parts (k,), positions in ``parts.rows`` (k, n), and whether each stands for a row; what does not,
            repeats the last row of its part.
        """
        sizes = parts.sizes
        order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        while len(order):
            longest = int(sizes[order[0]])
            chosen, order = np.split(order, [max(BATCH_NUMBERS // (width * longest), 1)])
            places = np.arange(longest)
            index = parts.bounds[chosen][:, None] + np.minimum(places, sizes[chosen][:, None] - 1)
            yield self.of_host(chosen), self.of_host(index), self.of_host(places < sizes[chosen][:, None])

    def places(self, mask: Tensor) -> Tensor:
        return torch.nonzero(mask.reshape(-1))[:, 0]

    def argsort(self, values: Tensor) -> Tensor:
        return torch.argsort(values, stable=True)

    def probabilities(self, places: Tensor, odds: Tensor, shape: tuple[int, int]) -> Tensor:
        table = torch.full((shape[0] * shape[1],), -torch.inf, dtype=odds.dtype, device=self._device)
        table[places] = odds
        return torch.softmax(table.reshape(shape), dim=1)

    def write_pair_products(self, channels: Tensor, out: Tensor) -> None:
        first, second = torch.triu_indices(len(channels), len(channels), device=self._device)
        torch.mul(channels[first], channels[second], out=out)

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
