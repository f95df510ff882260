from django.db import migrations

# The grid's rows follow the answer that counts, whichever path sets it: the queue's, a curator's, an import's, the shell's.
# A box at the same place keeps its row, with what was seen of it (features, picture), so that relabelling costs little.
#
# Disagreement is the largest of: the share of experts that saw it otherwise (consensus); 0.5 where the model saw no
# animal or the expert was not sure; 0.5 + 0.5 x confidence where the model gave another name.
FUNCTION = """
CREATE FUNCTION podura_crops_follow_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH wanted AS (
        SELECT box.*, row_number() OVER (PARTITION BY box.x_min, box.y_min, box.x_max, box.y_max ORDER BY box.number) AS copy,
            coalesce(box.proposal_score, detection.score, 0) AS confidence,
            greatest(box.x_max - box.x_min, box.y_max - box.y_min) AS size_px,
            greatest(
                1 - coalesce(box.agreement, 1),
                CASE WHEN box.is_uncertain THEN 0.5 ELSE 0 END,
                CASE
                    WHEN box.proposal_number IS NULL AND box.agreement IS NULL THEN 0.5
                    WHEN detection.label_id <> box.label_id THEN 0.5 + 0.5 * detection.score
                    ELSE 0
                END
            ) AS disagreement
        FROM annotation_annotatedbox AS box
        JOIN annotation_annotation AS answer ON answer.id = box.annotation_id
        LEFT JOIN observations_detection AS detection
            ON detection.photo_id = NEW.photo_id AND detection.model_version_id = answer.model_version_id
            AND detection.number = box.proposal_number
        WHERE answer.id = NEW.accepted_id
    ), present AS (
        SELECT crop.id AS crop_id, box.x_min, box.y_min, box.x_max, box.y_max,
            row_number() OVER (PARTITION BY box.x_min, box.y_min, box.x_max, box.y_max ORDER BY box.number) AS copy
        FROM annotation_crop AS crop JOIN annotation_annotatedbox AS box ON box.id = crop.box_id
        WHERE crop.task_id = NEW.id
    ), stayed AS (
        UPDATE annotation_crop AS crop SET
            box_id = wanted.id, label_id = wanted.label_id, confidence = wanted.confidence,
            size_px = wanted.size_px, disagreement = wanted.disagreement,
            outlierness = CASE WHEN crop.label_id = wanted.label_id THEN crop.outlierness ELSE -1 END
        FROM wanted JOIN present USING (x_min, y_min, x_max, y_max, copy)
        WHERE crop.id = present.crop_id
        RETURNING crop.box_id
    )
    INSERT INTO annotation_crop (box_id, task_id, label_id, confidence, size_px, disagreement)
    SELECT wanted.id, NEW.id, wanted.label_id, wanted.confidence, wanted.size_px, wanted.disagreement
    FROM wanted WHERE wanted.id NOT IN (SELECT box_id FROM stayed)
    ORDER BY wanted.id;
    DELETE FROM annotation_crop AS crop USING annotation_annotatedbox AS box
    WHERE crop.task_id = NEW.id AND box.id = crop.box_id AND box.annotation_id IS DISTINCT FROM NEW.accepted_id;
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
