"""How much experts' work on a photo would teach: from the stored boxes, by the survey's strategy."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

import numpy as np
from django.db import connection

from apps.annotation.active_learning.strategies import STRATEGIES, BoxScores, Floats
from apps.annotation.models import AnnotationPolicy
from apps.annotation.services.policies import alone_in_queue, options_of

CHUNK: Final = 1_000
"""Whoever asks for their next photo waits for the chunk in work, so that it lasts tenths of a second."""

# `nullif` guards a class list of one: its second best is the background's share.
_READ = """
SELECT task.id, task.draw, photo.model_version_id,
    (SELECT count(DISTINCT comment.box_number) FROM observations_comment AS comment
        WHERE comment.photo_id = photo.id AND comment.box_number IS NOT NULL),
    boxes.p1, boxes.p2
FROM annotation_annotationtask AS task
JOIN observations_photo AS photo ON photo.id = task.photo_id
LEFT JOIN LATERAL (
    SELECT array_agg(best[1]) AS p1, array_agg(coalesce(best[2], 1 - best[1])) AS p2
    FROM (
        SELECT ARRAY(SELECT s FROM unnest(box.class_scores) AS s ORDER BY s DESC LIMIT 2) AS best
        FROM observations_detection AS box
        WHERE box.photo_id = photo.id AND box.model_version_id = photo.model_version_id
            AND NOT box.is_weak
        ORDER BY box.number
    ) AS shown
) AS boxes ON true
WHERE task.id = ANY(%s)
ORDER BY task.id
FOR NO KEY UPDATE OF task
"""
_WRITE = """
UPDATE annotation_annotationtask AS task SET
    uncertainty = scored.uncertainty, score = scored.score, commented_boxes = scored.comments,
    scored_version_id = scored.version, scored_at = statement_timestamp()
FROM unnest(%s::bigint[], %s::float8[], %s::float8[], %s::int[], %s::bigint[])
    AS scored (id, uncertainty, score, comments, version)
WHERE task.id = scored.id
"""


def score_tasks(policy: AnnotationPolicy, task_ids: Sequence[int]) -> int:
    """Score tasks of one survey anew from the boxes their photos show; gives how many there are."""
    scored = 0
    for start in range(0, len(task_ids), CHUNK):
        scored += _score(policy, list(task_ids[start : start + CHUNK]))
    return scored


def _score(policy: AnnotationPolicy, task_ids: list[int]) -> int:
    with alone_in_queue(policy) as rules, connection.cursor() as cursor:
        cursor.execute(_READ, [task_ids])
        rows = cursor.fetchall()
        if not rows:
            return 0
        ids, draws, versions, comments, p1, p2 = zip(*rows, strict=True)
        boxes = BoxScores(_joined(p1), _joined(p2), np.cumsum([0, *(len(values or ()) for values in p1)]))
        uncertainty = STRATEGIES[rules.strategy].score(boxes, draws, options_of(rules))
        score = uncertainty + rules.comment_weight * np.asarray(comments)
        cursor.execute(
            _WRITE, [list(ids), uncertainty.tolist(), score.tolist(), list(comments), list(versions)]
        )
    return len(rows)


def _joined(lists: Iterable[list[float] | None]) -> Floats:
    return np.fromiter(chain.from_iterable(values or () for values in lists), np.float64)
