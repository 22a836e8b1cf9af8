"""How well a transferability metric ranks: its scores compared with actual performance, group by group.

A group of the fixed-target scenario is one target with its sources; a group of the fixed-source scenario is one source
with its targets. Functions of several targets take `pairs`, one row per pair:

* ``source``, ``target``: names; rows whose source is `scratch` are a control of fine-tuning and are never ranked
* ``miou``: actual performance, a fraction in [0, 1]; for image classification, the accuracy
* ``n_target_classes``: optional, the number of classes of the target
* ``parameters``, ``gflops``, ``own_miou``, ``n_train_images``: optional facts about the source: number of parameters,
  billions of floating-point operations of one image, performance on its own dataset, and number of images it was
  trained on; a fact that some source lacks is not used, and with ``metrics=`` none that is unusable (text, infinite,
  or different values for one source); without ``metrics=`` that is an error
* any other column: a transferability metric of `seg_transfer.metrics.METRICS` (higher is better)

For a frame with other columns, or with metrics of other names, pass ``metrics=``: the columns to judge, in the order of
the result. Where all parts of the metric `rank_mean` are columns and `rank_mean` is not, it is computed from the ranks
in each group: always without ``metrics=``, and where it is named with ``metrics=``.

With several fine-tunings per pair, `evaluate` also says what one of them reaches: a ceiling, judged by the mean of the
others. A metric is judged by the mean of all, which has less noise, so that its share of the ceiling can exceed 1.

A pair that is not fine-tuned yet has no miou: drop its row first. Functions raise ResultsError for a missing or unknown
column, a pair given twice, source == target, or a value that is not a finite number.

`rival_leads`, `fit_slope` and `leave_one_study_out` say what a lead in score has meant for performance.

`ranking_of` ranks the sources of a single target: it needs only their scores, and returns a `Ranking`.
"""

from seg_transfer.evaluation._compare import compare_metrics
from seg_transfer.evaluation._confidence import (
    chance_calibration_error,
    expected_calibration_error,
    fit_slope,
    leave_one_study_out,
    reliability,
    rival_leads,
    win_probability,
)
from seg_transfer.evaluation._evaluate import evaluate
from seg_transfer.evaluation._groups import evaluate_groups, rankings, scratch_report
from seg_transfer.evaluation._leave_out import leave_one_dataset_out, leave_out_summary
from seg_transfer.evaluation._measures import MEASURES, measures
from seg_transfer.evaluation._miou import difference_interval, miou_interval, miou_of
from seg_transfer.evaluation._noise import fine_tuning_noise
from seg_transfer.evaluation._pairs import (
    CONTROLS,
    GROUP_AND_ITEM,
    SCENARIOS,
    SCRATCH,
    SOURCE_FACTS,
    metric_columns,
    with_rank_mean,
)
from seg_transfer.evaluation._plain import plain_rows
from seg_transfer.evaluation._ranking import Ranking, first_place_of, parts_of, ranking_of
from seg_transfer.evaluation._ranking_numbers import in_millions, three_digits
from seg_transfer.evaluation._ranking_remarks import LINEAR_HEAD
from seg_transfer.evaluation._ranking_text import TextTable, ranking_sentences, ranking_text_tables
from seg_transfer.evaluation._robustness import largest_sources, robustness, robustness_summary
from seg_transfer.evaluation._stability import RELEASED_MEASURES, STABILITY_MEASURES, setup_stability
from seg_transfer.evaluation._two_way import ACROSS, CHANCE, WITHIN, two_way_draws, two_way_interval

__all__ = [
    "ACROSS",
    "CHANCE",
    "CONTROLS",
    "GROUP_AND_ITEM",
    "LINEAR_HEAD",
    "MEASURES",
    "RELEASED_MEASURES",
    "SCENARIOS",
    "SCRATCH",
    "SOURCE_FACTS",
    "STABILITY_MEASURES",
    "WITHIN",
    "Ranking",
    "TextTable",
    "chance_calibration_error",
    "compare_metrics",
    "difference_interval",
    "evaluate",
    "evaluate_groups",
    "expected_calibration_error",
    "fine_tuning_noise",
    "first_place_of",
    "fit_slope",
    "in_millions",
    "largest_sources",
    "leave_one_dataset_out",
    "leave_one_study_out",
    "leave_out_summary",
    "measures",
    "metric_columns",
    "miou_interval",
    "miou_of",
    "parts_of",
    "plain_rows",
    "ranking_of",
    "ranking_sentences",
    "ranking_text_tables",
    "rankings",
    "reliability",
    "rival_leads",
    "robustness",
    "robustness_summary",
    "scratch_report",
    "setup_stability",
    "three_digits",
    "two_way_draws",
    "two_way_interval",
    "win_probability",
    "with_rank_mean",
]
