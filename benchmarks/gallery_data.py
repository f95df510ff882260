"""A database with any number of observations, written by SQL alone: a million takes minutes, not hours.

Places gather around 400 towns, labels are as uneven as in nature (a few common, many rare), seven of ten
observations have a place, six of ten photos show animals, one in fifty is private. Each photo has two weak boxes that no page shows.
"""

import psycopg
from django.db import connection

SURVEYS, LABELS = 4, 30  # labels of each survey
HEAVY_CONTRIBUTOR = 1  # sent all of a thousand, or ten thousand of a million
STAFF = 2  # a superuser
CONTRIBUTORS = 500

_FILL = """
SELECT setseed(0.42);

CREATE TEMPORARY TABLE town AS
SELECT n AS id, random() * 300 - 150 AS lon, random() * 110 - 50 AS lat FROM generate_series(0, 399) AS n;

INSERT INTO observations_observation (id, public_id, survey_id, contributor_id, title, observed_at, location,
    public_location, is_obscured, place_name, comment, licence, visibility, proposals_settled, created_at, updated_at)
SELECT n, gen_random_uuid(), 1 + n % {surveys},
    CASE WHEN n % greatest(1, {observations} / 10000) = 0 OR {observations} <= 1000 THEN {heavy}
        ELSE 1 + (random() * ({contributors} - 1))::int END,
    'Plate ' || n, now() - random() * interval '10 years', place, place, false,
    CASE WHEN place IS NULL THEN '' ELSE 'Town ' || town.id END, '', 'CC-BY-4.0',
    CASE WHEN random() < 0.02 THEN 'private' ELSE 'public' END, true,
    now() - ({observations} - n) * interval '1 second', now()
FROM (
    SELECT n, floor(random() * random() * 400)::int AS town_id,
        sqrt(-2 * ln(1 - random())) AS radius, random() * 2 * pi() AS angle, random() < 0.7 AS has_place
    FROM generate_series(1, {observations}) AS n
) AS roll
JOIN town ON town.id = roll.town_id
CROSS JOIN LATERAL (
    SELECT CASE WHEN has_place
        THEN ST_SetSRID(ST_MakePoint(lon + radius * cos(angle), lat + 0.7 * radius * sin(angle)), 4326) END AS place
) AS placed;

INSERT INTO observations_photo (id, public_id, observation_id, contributor_id, survey_id, name, original, display,
    thumbnail, format, size_bytes, width_px, height_px, sha256, camera, is_flagged, model_version_id, detection_count,
    best_score, detection_ms, created_at, status, priority, attempts, failure_reason, queued_at, finished_at)
SELECT id, gen_random_uuid(), id, contributor_id, survey_id, 'plate-' || id || '.jpg', 'originals/' || id,
    'display/' || id || '.jpg', 'thumbnails/' || id || '.jpg', 'JPEG', 2000000, 4000, 3000,
    lpad(to_hex(id), 64, '0'), '', false, 1, boxes, CASE WHEN boxes > 0 THEN 0.3 + 0.69 * random() END, 50, created_at,
    'done', 0, 1, '', created_at, created_at
FROM (SELECT *, CASE WHEN random() < 0.6 THEN 1 + (random() * 2)::int ELSE 0 END AS boxes
    FROM observations_observation ORDER BY id) AS observation;

INSERT INTO observations_detection (photo_id, model_version_id, number, label_id, score, class_scores, x_min, y_min,
    x_max, y_max)
SELECT photo.id, 1, number, (survey_id - 1) * {labels} + 1 + floor(power(random(), 4) * {labels})::int, best_score,
    ARRAY[best_score], 100 * number, 100, 100 * number + 80, 200
FROM observations_photo AS photo, generate_series(1, detection_count) AS number ORDER BY photo.id;

INSERT INTO observations_detection (photo_id, model_version_id, number, label_id, score, is_weak, class_scores, x_min,
    y_min, x_max, y_max)
SELECT photo.id, 1, detection_count + number, (survey_id - 1) * {labels} + 1 + floor(random() * {labels})::int, 0.1, true,
    ARRAY[0.1], 100 * number, 300, 100 * number + 80, 400
FROM observations_photo AS photo, generate_series(1, 2) AS number ORDER BY photo.id;

SELECT setval(pg_get_serial_sequence(name, 'id'), {observations} + 1000) FROM unnest(ARRAY['accounts_user',
    'training_registeredmodel', 'training_modelversion', 'observations_survey', 'observations_label',
    'observations_observation', 'observations_photo']) AS name;
"""


def _fill_small_tables() -> None:
    """People, surveys, labels and a model: few rows, so by their models, which know every column."""
    from apps.accounts.models import User
    from apps.observations.models import Label, Survey
    from apps.training.models import ModelVersion, RegisteredModel

    User.objects.bulk_create(
        User(
            pk=n,
            email=f"person{n}@podura.example",
            password="!",
            display_name=f"Person {n}",
            is_staff=n == STAFF,
            is_superuser=n == STAFF,
        )
        for n in range(1, CONTRIBUTORS + 1)
    )
    model = RegisteredModel.objects.create(pk=1, name="bench")
    ModelVersion.objects.create(
        pk=1,
        registered_model=model,
        number=1,
        stage=ModelVersion.Stage.PRODUCTION,
        weights="weights/none",
        weights_sha256="0" * 64,
        weights_bytes=1,
        labels=[],
        image_size_px=640,
    )
    for n in range(1, SURVEYS + 1):
        survey = Survey.objects.create(
            pk=n, slug=f"survey-{n}", name_en=f"Survey {n}", name_fr=f"Campagne {n}", registered_model=model
        )
        Label.objects.bulk_create(
            Label(
                pk=(n - 1) * LABELS + label,
                survey=survey,
                code=f"L{label}",
                scientific_name=f"Podura species{label}",
                position=label,
            )
            for label in range(1, LABELS + 1)
        )


def fill_database(*, observations: int) -> None:
    """Fill the current, migrated and empty database; tables are analysed and vacuumed as a running site's are."""
    text = _FILL.format(
        observations=observations,
        surveys=SURVEYS,
        labels=LABELS,
        contributors=CONTRIBUTORS,
        heavy=HEAVY_CONTRIBUTOR,
    )
    _fill_small_tables()
    connection.ensure_connection()
    raw: psycopg.Connection[tuple[object, ...]] = connection.connection
    for statement in text.split(";\n"):
        if statement.strip():
            raw.execute(statement.strip().encode())
    from apps.observations.services.map_cells import fold_map_cells

    while fold_map_cells():
        pass
    raw.execute("VACUUM ANALYZE")
