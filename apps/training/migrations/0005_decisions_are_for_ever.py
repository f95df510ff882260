from django.db import migrations

# The record of promotions is what people point to when they ask why a version served. Free is only the reference that
# a deleted account leaves empty; the name then stays in `by_name`.
FUNCTION = """
CREATE FUNCTION podura_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR to_jsonb(NEW) - 'by_id' IS DISTINCT FROM to_jsonb(OLD) - 'by_id' THEN
        RAISE EXCEPTION '% % is kept for ever', TG_TABLE_NAME, OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("training", "0004_factory")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION podura_append_only()"),
        migrations.RunSQL(
            "CREATE TRIGGER promotion_events_stay BEFORE UPDATE OR DELETE ON training_promotionevent "
            "FOR EACH ROW EXECUTE FUNCTION podura_append_only()",
            "DROP TRIGGER promotion_events_stay ON training_promotionevent",
        ),
    ]
