from django.db import migrations

# The grid's rows follow the answer that counts, whichever path sets it: the queue's, a curator's, an import's, the shell's.
# What was seen of a box (features, picture) is carried over to a box at the same place, so that relabelling costs nothing.
#
# Disagreement is the largest of: the share of experts that saw it otherwise (consensus); 0.5 where the model saw no
# animal or the expert was not sure; 0.5 + 0.5 x confidence where the model gave another name.
FUNCTION = """
CREATE FUNCTION podura_crops_follow_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM annotation_crop AS crop USING annotation_annotatedbox AS box
        WHERE crop.task_id = NEW.id AND box.id = crop.box_id
        RETURNING box.x_min, box.y_min, box.x_max, box.y_max, crop.label_id, crop.features, crop.picture,
            crop.outlierness
    )
    INSERT INTO annotation_crop
        (box_id, task_id, label_id, confidence, size_px, disagreement, features, picture, outlierness)
    SELECT DISTINCT ON (box.id) box.id, NEW.id, box.label_id,
        coalesce(box.proposal_score, detection.score, 0),
        greatest(box.x_max - box.x_min, box.y_max - box.y_min),
        greatest(
            1 - coalesce(box.agreement, 1),
            CASE WHEN box.is_uncertain THEN 0.5 ELSE 0 END,
            CASE
                WHEN box.proposal_number IS NULL AND box.agreement IS NULL THEN 0.5
                WHEN detection.label_id <> box.label_id THEN 0.5 + 0.5 * detection.score
                ELSE 0
            END
        ),
        gone.features, gone.picture,
        CASE WHEN gone.label_id = box.label_id THEN gone.outlierness ELSE -1 END
    FROM annotation_annotatedbox AS box
    JOIN annotation_annotation AS answer ON answer.id = box.annotation_id
    LEFT JOIN observations_detection AS detection
        ON detection.photo_id = NEW.photo_id AND detection.model_version_id = answer.model_version_id
        AND detection.number = box.proposal_number
    LEFT JOIN gone ON (gone.x_min, gone.y_min, gone.x_max, gone.y_max) = (box.x_min, box.y_min, box.x_max, box.y_max)
    WHERE answer.id = NEW.accepted_id
    ORDER BY box.id;
    INSERT INTO annotation_cropsheet (task_id, status, priority, attempts, failure_reason)
    SELECT NEW.id, 'pending', 20, 0, ''
    WHERE EXISTS (SELECT FROM annotation_crop WHERE task_id = NEW.id AND (features IS NULL OR outlierness < 0))
    ON CONFLICT (task_id) DO UPDATE
        SET status = 'pending', attempts = 0, failure_reason = '', lease_token = NULL, lease_until = NULL,
            queued_at = now(), finished_at = NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER podura_crops_follow_answer AFTER UPDATE OF accepted_id ON annotation_annotationtask
    FOR EACH ROW WHEN (NEW.accepted_id IS DISTINCT FROM OLD.accepted_id)
    EXECUTE FUNCTION podura_crops_follow_answer();
"""
DROP = """
DROP TRIGGER podura_crops_follow_answer ON annotation_annotationtask;
DROP FUNCTION podura_crops_follow_answer();
"""


class Migration(migrations.Migration):
    dependencies = [("annotation", "0003_crops")]

    operations = [migrations.RunSQL(FUNCTION, DROP)]
