"""The command evaluate: a run's scores on a table, as JSON."""

import json
import sys
from typing import Any

from dist_dnn.data.sources import location_name, open_source
from dist_dnn.errors import RunError
from dist_dnn.evaluation import Scores
from dist_dnn.front.api import import_launch
from dist_dnn.front.commands import reach_of
from dist_dnn.front.scores import print_scores
from dist_dnn.model import Model
from dist_dnn.preparation import load_rows
from dist_dnn.scoring import score


def evaluate_command(chosen: Any) -> None:
    """Print a run's scores on a table as one JSON object; on a terminal there is a table beside."""
    settings = reach_of(chosen)
    scores = import_launch().run(settings, lambda reach: _scores(chosen.run, chosen.data, reach))
    if scores is None:
        return  # another process has them
    try:
        print(json.dumps(scores, allow_nan=False))
    except ValueError:
        run, data = location_name(chosen.run), location_name(chosen.data)
        raise RunError(f"the loss of {run} on {data} is not finite") from None
    if sys.stderr.isatty():
        print_scores(scores)


def _scores(run: str, data: str, reach: Any) -> Scores:
    model = Model.load(run)
    with reach.group(model.shards) as group:
        source = open_source(data)
        load_rows(group, "evaluation", source, model.features, model.target, model.weight)
        return score(group, "evaluation", model)
