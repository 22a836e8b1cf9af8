"""Logs of the densities of a mixture, where upper bounds do not rule them out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from seg_transfer.arrays import HOST, Arrays
from seg_transfer.metrics._density_bounds import ROUNDING, Bounds, PolynomialBounds, Polynomials
from seg_transfer.metrics._mixture import Densities, Mixture

# A component this many nats below a row's likeliest one has a probability below 1e-13; a thousand of them change a
# density by less than 1e-10 of it.
NEGLIGIBLE = 30.0
# How many directions bound a component's densities, and the largest share of components that they may leave, beyond
# which other ways cost less. Mixtures are fitted with few.
DIRECTIONS = ((6, 0.05), (12, 0.25))
FIT_DIRECTIONS, FIT_SHARE = 4, 0.5
# Where the last directions leave a larger share, bounds by polynomials save nothing either.
MOST_OVERLAP = 0.9
# Polynomials bound all components alike tightly: the best of so many is nearly the likeliest.
FIRST = 3
# Few large blocks, as every block visits every component; 8 million bounds in float32 take 32 MB.
BLOCK_ROWS = 8192
LEAST_ROWS = 512
BLOCK_CELLS = 1 << 23

# Logs of weighted densities: their places row K + component in a table (n, K), which ascend, and the values.
Cells = tuple[Any, Any]


def log_densities(mixture: Mixture, densities: Densities, arrays: Arrays) -> Callable[[Any], Cells]:
    """Return a function from rows (n, d) to the components' log densities there, without those that are negligible.

    Where components are far apart, bounds by a few directions rule out most of them; where they are closer, bounds by
    polynomials in float32 do; where they overlap, one matrix product gives all.

    Args:
        mixture: With K components.
        densities: Of the mixture, in NumPy.
        arrays: Where the rows are.
    """
    native = densities.on(arrays)
    for n_directions, most in DIRECTIONS:
        bounds = Bounds.of(mixture, densities, n_directions)
        share = _share_left(bounds, densities, NEGLIGIBLE)
        if share <= most:
            return partial(_where_possible, arrays, native, bounds.on(arrays), 1, NEGLIGIBLE)
    polynomials = Polynomials.of(densities)
    if share > MOST_OVERLAP:
        return partial(_where_large, arrays, polynomials.on(arrays), NEGLIGIBLE)
    tight = PolynomialBounds.of(polynomials, mixture.means.shape[1])
    return partial(_where_possible, arrays, native, tight.on(arrays), min(FIRST, len(mixture.weights)), NEGLIGIBLE)


def log_densities_of_likeliest(
    mixture: Mixture, densities: Densities, arrays: Arrays, n_likeliest: int, negligible: float
) -> Callable[[Any], Cells]:
    """Return a function from rows (n, d) to log densities there: at least those of the likeliest components.

    Args:
        mixture: With K components.
        densities: Of the mixture, in NumPy.
        arrays: Where the rows are.
        n_likeliest: Number of components that matter in each row.
        negligible: Components this many nats below a row's likeliest one may be left out, too.
    """
    bounds, n_first = Bounds.of(mixture, densities, FIT_DIRECTIONS), min(n_likeliest, len(mixture.weights))
    if _share_left(bounds, densities, negligible) <= FIT_SHARE:
        return partial(_where_possible, arrays, densities.on(arrays), bounds.on(arrays), 1, negligible)
    tight = PolynomialBounds.of(Polynomials.of(densities), mixture.means.shape[1])
    return partial(_where_possible, arrays, densities.on(arrays), tight.on(arrays), n_first, None)


def _share_left(bounds: Bounds, densities: Densities, negligible: float) -> float:
    """Estimate the share of components that bounds leave, from those that they leave at the means."""
    # Rows lie about d / 2 nats below the density at their component's mean.
    lowest = densities.constants - densities.means.shape[1] / 2 - negligible
    return float((bounds.at(HOST, densities.means) > lowest[:, None]).mean())


def _where_large(arrays: Arrays, polynomials: Polynomials, negligible: float, rows: Any) -> Cells:
    logs = polynomials.at(arrays, rows)
    places = arrays.places(logs > (arrays.max(logs) - negligible)[:, None])
    return places, arrays.take(logs.reshape(-1), places)


def _where_possible(
    arrays: Arrays,
    densities: Densities,
    bounds: Bounds | PolynomialBounds,
    n_first: int,
    negligible: float | None,
    rows: Any,
) -> Cells:
    """Compute the densities of the n_first highest bounds, and those that bounds do not rule out beside them.

    The components of the highest bounds are mostly the likeliest. Others must be less than so many nats below the best
    of them; with None, above the least of them.
    """
    highest, everywhere = bounds.at(arrays, rows), arrays.of_host(np.arange(len(rows)))
    n_components, places, logs = highest.shape[1], [], []
    for _ in range(n_first):
        components = arrays.argmax(highest)
        highest[everywhere, components] = -np.inf
        places.append(everywhere * n_components + components)
        logs.append(densities.at(arrays, rows, everywhere, components))
    firsts = arrays.joined(logs).reshape(n_first, -1).T
    lowest = -arrays.max(-firsts) if negligible is None else arrays.max(firsts) - negligible
    lowest -= ROUNDING * abs(lowest)
    others = arrays.places(highest > arrays.coarse(lowest)[:, None])
    own = others // n_components
    logs.append(densities.at(arrays, rows, own, others - own * n_components))
    every = arrays.joined([*places, others])
    order = arrays.argsort(every)
    return arrays.take(every, order), arrays.take(arrays.joined(logs), order)


def rows_of_block(n_components: int) -> int:
    """Return how many rows a block has, of which a table of all components fits into memory."""
    return int(np.clip(BLOCK_CELLS // n_components, LEAST_ROWS, BLOCK_ROWS))
