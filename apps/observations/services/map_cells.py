"""Upkeep of the map's clusters; the counting itself is a trigger's (migration 0021)."""

from django.db import connection, transaction

CHANGES_AT_ONCE = 50_000
_LOCK = 0x6D6170  # "map"

_FOLD = """
WITH gone AS (
    DELETE FROM observations_mapcell WHERE id IN (
        SELECT id FROM observations_mapcell WHERE is_change ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING survey_id, level, x, y, observations, longitude_sum, latitude_sum
)
INSERT INTO observations_mapcell AS cell (survey_id, level, x, y, observations, longitude_sum, latitude_sum, is_change)
SELECT survey_id, level, x, y, sum(observations), sum(longitude_sum), sum(latitude_sum), false
FROM gone GROUP BY 1, 2, 3, 4
ON CONFLICT (survey_id, level, x, y) WHERE NOT is_change DO UPDATE SET
    observations = cell.observations + excluded.observations,
    longitude_sum = cell.longitude_sum + excluded.longitude_sum,
    latitude_sum = cell.latitude_sum + excluded.latitude_sum
RETURNING id, observations
"""


def fold_map_cells() -> int:
    """Fold appended changes into one row for each cell; gives the number of cells touched.

    Readers see the same sums before and after. One folder works at a time; a second leaves at once.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(_FOLD, [CHANGES_AT_ONCE])
        touched = cursor.fetchall()
        empty = [pk for pk, observations in touched if observations == 0]
        if empty:
            cursor.execute("DELETE FROM observations_mapcell WHERE id = ANY(%s)", [empty])
    return len(touched)
