from django.db import migrations

# A deleted account leaves its reference empty; no statement may put another account there.
FUNCTION = """
CREATE OR REPLACE FUNCTION podura_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR to_jsonb(NEW) - 'by_id' IS DISTINCT FROM to_jsonb(OLD) - 'by_id'{more} THEN
        RAISE EXCEPTION '% % is kept for ever', TG_TABLE_NAME, OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$
"""
NO_OTHER = " OR (NEW.by_id IS NOT NULL AND NEW.by_id IS DISTINCT FROM OLD.by_id)"


class Migration(migrations.Migration):
    dependencies = [("training", "0008_run_tracked")]

    operations = [migrations.RunSQL(FUNCTION.format(more=NO_OTHER), FUNCTION.format(more=""))]
