"""Evaluation functions for frames whose other columns are all metrics, whatever a test calls them."""

from functools import wraps

from seg_transfer.evaluation import metric_columns


def on_all_columns(function):
    """Wrap a function so that it judges all metric columns of the pairs, unless the caller names metrics."""

    @wraps(function)
    def wrapper(pairs, *arguments, **options):
        return function(pairs, *arguments, **{"metrics": metric_columns(pairs), **options})

    return wrapper
