"""A survey whose queue holds any number of photos, written by SQL alone."""

import psycopg
from django.db import connection

SURVEY, EXPERT, CURATOR = 1, 3, 2
LABELS = 20

_FILL = """
SELECT setseed(0.42);

INSERT INTO observations_observation (id, public_id, survey_id, contributor_id, title, is_obscured, place_name,
    comment, licence, visibility, proposals_settled, created_at, updated_at)
SELECT n, gen_random_uuid(), 1, 1, 'Plate ' || n, false, '', '', 'CC-BY-4.0',
    CASE WHEN random() < 0.05 THEN 'private' ELSE 'public' END, true, now(), now()
FROM generate_series(1, {photos}) AS n;

INSERT INTO observations_photo (id, public_id, observation_id, contributor_id, survey_id, name, original, display,
    thumbnail, format, size_bytes, width_px, height_px, sha256, perceptual_hash, camera, is_flagged, model_version_id,
    detection_count, best_score, detection_ms, created_at, status, priority, attempts, failure_reason, queued_at,
    finished_at)
SELECT n, gen_random_uuid(), n, 1, 1, 'plate-' || n || '.jpg', 'originals/' || n, 'display/' || n || '.jpg',
    'thumbnails/' || n || '.jpg', 'JPEG', 2000000, 4000, 3000, lpad(to_hex(n), 64, '0'),
    (('x' || substr(md5(n::text), 1, 16))::bit(64))::bigint, '', false, 1,
    CASE WHEN n % 20 = 0 THEN 0 ELSE 1 + (random() * 8)::int END, 0.9, 50, now(), 'done', 0, 1, '', now(), now()
FROM generate_series(1, {photos}) AS n;

INSERT INTO observations_detection (photo_id, model_version_id, number, label_id, score, is_weak, class_scores, x_min,
    y_min, x_max, y_max)
SELECT photo.id, 1, number, 1, 0.9, number > detection_count,
    ARRAY(SELECT random() * 0.5 FROM generate_series(1, {labels} - 1) WHERE number > 0) || ARRAY[0.3 + random() * 0.7],
    100 * number, 100, 100 * number + 80, 200
FROM observations_photo AS photo, generate_series(1, detection_count + 2) AS number ORDER BY photo.id;

INSERT INTO annotation_photogroup (id, public_id, survey_id, arm, split, draw, created_at)
SELECT n, gen_random_uuid(), 1, CASE WHEN n % 10 = 0 THEN 'control' ELSE 'active' END,
    CASE WHEN n % 10 = 0 THEN 'test' ELSE 'train' END, random(), now()
FROM generate_series(1, {photos}) AS n;

INSERT INTO annotation_annotationtask (id, public_id, survey_id, photo_id, state, arm, group_id, draw, uncertainty,
    score, commented_boxes, answers_needed, answers, created_at, scored_version_id, is_public, perceptual_hash)
SELECT photo.id, gen_random_uuid(), 1, photo.id, 'waiting',
    CASE WHEN photo.id % 10 = 0 THEN 'control' ELSE 'active' END, photo.id, random(), 0, 0, 0, 1, 0, now(), 1,
    visibility = 'public', perceptual_hash
FROM observations_photo AS photo JOIN observations_observation AS observation ON observation.id = observation_id;

SELECT setval(pg_get_serial_sequence(name, 'id'), {photos} + 1000) FROM unnest(ARRAY['accounts_user',
    'training_registeredmodel', 'training_modelversion', 'observations_survey', 'observations_label',
    'observations_observation', 'observations_photo', 'annotation_photogroup', 'annotation_annotationtask']) AS name
"""


def _fill_small_tables() -> None:
    from apps.accounts.models import User
    from apps.annotation.models import AnnotationPolicy
    from apps.observations.models import Label, Survey
    from apps.training.models import ModelVersion, RegisteredModel

    User.objects.bulk_create(
        User(
            pk=n,
            email=f"person{n}@podura.example",
            password="!",
            display_name=f"Person {n}",
            is_staff=n == CURATOR,
            is_superuser=n == CURATOR,
            is_expert=n >= EXPERT,
        )
        for n in range(1, 7)
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
        labels=[f"L{n}" for n in range(LABELS)],
        image_size_px=640,
    )
    survey = Survey.objects.create(
        pk=SURVEY, slug="bench", name_en="Bench", name_fr="Bench", registered_model=model
    )
    Label.objects.bulk_create(Label(pk=n, survey=survey, code=f"L{n}") for n in range(1, LABELS + 1))
    AnnotationPolicy.objects.create(survey=survey, seed=7)


def fill_queue(*, photos: int) -> None:
    """Fill the current, migrated and empty database; tables are analysed and vacuumed as a running site's are."""
    _fill_small_tables()
    connection.ensure_connection()
    raw: psycopg.Connection[tuple[object, ...]] = connection.connection
    for statement in _FILL.format(photos=photos, labels=LABELS).split(";\n"):
        if statement.strip():
            raw.execute(statement.strip().encode())
    raw.execute("VACUUM ANALYZE")
