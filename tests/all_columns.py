"""Functions of the evaluation for frames whose other columns are all metrics, whatever a test calls them."""

from functools import wraps

from seg_transfer.evaluation import metric_columns


def on_all_columns(function):
    """The function with every metric of the pairs named, unless it is reported which."""

    @wraps(function)
    def called(pairs, *arguments, **options):
        return function(pairs, *arguments, **{"metrics": metric_columns(pairs), **options})

    return called
