"""Logs of the densities of a mixture, where upper bounds do not rule them out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from seg_transfer.arrays import HOST, Arrays, arrays_of
from seg_transfer.metrics._density_bounds import ROUNDING, Bounds, PolynomialBounds, Polynomials
from seg_transfer.metrics._mixture import Densities, Mixture, log_sums

# A component this many nats below a row's likeliest one has a probability below 1e-13; a thousand of them change a
# density by less than 1e-10 of it.
NEGLIGIBLE = 30.0
# Bounds that leave a larger share of the components cost more than they save.
MOST_SURVIVORS = 0.5
# Few large blocks, as every block visits every component; 8 million bounds in float32 take 32 MB.
BLOCK_ROWS = 8192
LEAST_ROWS = 512
BLOCK_CELLS = 1 << 23

# Logs of weighted densities: their places row K + component in a table (n, K), which ascend, and the values.
Cells = tuple[Any, Any]


def log_densities(
    mixture: Mixture,
    densities: Densities,
    arrays: Arrays,
    negligible: float = NEGLIGIBLE,
    n_likeliest: int | None = None,
) -> Callable[[Any], Cells]:
    """Return a function from rows (n, d) to the components' log densities there, without those that are negligible.

    Where components are far apart, a bound rules out most of them. Where they overlap, one matrix product gives all.

    Args:
        mixture: With K components.
        densities: Of the mixture, in NumPy.
        arrays: Where the rows are.
        negligible: Components this many nats below a row's likeliest one may be left out.
        n_likeliest: If only these many components of each row matter, others may be left out, too.
    """
    bounds = Bounds.of(mixture, densities)
    # Rows lie about d / 2 nats below the density at their component's mean.
    lowest = densities.constants - mixture.means.shape[1] / 2 - negligible
    if (bounds.at(HOST, mixture.means) > lowest[:, None]).mean() <= MOST_SURVIVORS:
        return partial(_where_possible, arrays, densities.on(arrays), bounds.on(arrays), 1, negligible)
    polynomials = Polynomials.of(densities)
    if n_likeliest is None:
        return partial(_where_large, arrays, polynomials.on(arrays), negligible)
    tight, n_first = PolynomialBounds.of(polynomials, mixture.means.shape[1]), min(n_likeliest, len(mixture.weights))
    return partial(_where_possible, arrays, densities.on(arrays), tight.on(arrays), n_first, 0.0)


def _where_large(arrays: Arrays, polynomials: Polynomials, negligible: float, rows: Any) -> Cells:
    logs = polynomials.at(arrays, rows)
    places = arrays.places(logs > (arrays.max(logs) - negligible)[:, None])
    return places, arrays.take(logs.reshape(-1), places)


def _where_possible(
    arrays: Arrays,
    densities: Densities,
    bounds: Bounds | PolynomialBounds,
    n_first: int,
    margin: float,
    rows: Any,
) -> Cells:
    """Compute the densities of the n_first highest bounds, and all that may come within a margin of the least of them.

    The components of the highest bounds are mostly the likeliest: their densities say what others must reach.
    """
    highest, everywhere = bounds.at(arrays, rows), arrays.of_host(np.arange(len(rows)))
    n_components, places, logs = highest.shape[1], [], []
    for _ in range(n_first):
        components = arrays.argmax(highest)
        highest[everywhere, components] = -np.inf
        places.append(everywhere * n_components + components)
        logs.append(densities.at(arrays, rows, everywhere, components))
    lowest = -arrays.max(-arrays.joined(logs).reshape(n_first, -1).T) - margin
    lowest -= ROUNDING * abs(lowest)
    others = arrays.places(highest > arrays.float32(lowest)[:, None])
    own = others // n_components
    logs.append(densities.at(arrays, rows, own, others - own * n_components))
    every = arrays.joined([*places, others])
    order = arrays.argsort(every)
    return arrays.take(every, order), arrays.take(arrays.joined(logs), order)


def table_of(cells: Cells, n_rows: int, n_components: int) -> Any:
    """Return a table of log densities (n, K): minus infinity where they are negligible."""
    places, logs = cells
    arrays = arrays_of(logs)
    table = arrays.zeros(n_rows * n_components) - np.inf
    table[places] = logs
    return table.reshape(n_rows, n_components)


def rows_of_block(n_components: int) -> int:
    """Return how many rows a block has, of which a table of all components fits into memory."""
    return int(np.clip(BLOCK_CELLS // n_components, LEAST_ROWS, BLOCK_ROWS))


def mean_log_likelihood(mixture: Mixture, z: Any) -> float:
    """Compute the mean log-likelihood of rows (n, d)."""
    arrays, n_components = arrays_of(z), len(mixture.weights)
    log_densities_at = log_densities(mixture, Densities.of(mixture), arrays)
    total, size = 0.0, rows_of_block(n_components)
    for start in range(0, len(z), size):
        rows = z[start : start + size]
        total += float(log_sums(table_of(log_densities_at(rows), len(rows), n_components).T).sum())
    return total / len(z)
