from django.db import migrations

# An answer is what a person said at a time: rows of these tables cannot be altered by any path, the shell included.
# Free are only what says where it stands (current, undone) and references that a deleted account or row leaves empty.
FUNCTION = """
CREATE FUNCTION podura_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW) - TG_ARGV::text[] IS DISTINCT FROM to_jsonb(OLD) - TG_ARGV::text[] THEN
        RAISE EXCEPTION '% % is immutable', TG_TABLE_NAME, OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$
"""
TRIGGER = "CREATE TRIGGER {table}_immutable BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION podura_refuse_change({free})"
TABLES = {
    "annotation_annotation": ("is_current", "author_id", "supersedes_id"),
    "annotation_annotatedbox": ("label_proposal_id", "box"),
    "annotation_review": ("reviewer_id", "before_id", "after_id", "undone_at"),
    "training_dataset": ("created_by_id", "warnings"),
    "training_datasetitem": ("is_withdrawn",),
}


class Migration(migrations.Migration):
    dependencies = [("annotation", "0001_loop"), ("training", "0003_datasets")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION podura_refuse_change()"),
        *(
            migrations.RunSQL(
                TRIGGER.format(table=table, free=", ".join(f"'{column}'" for column in free)),
                f"DROP TRIGGER {table}_immutable ON {table}",
            )
            for table, free in TABLES.items()
        ),
    ]
