"""Clusters of the map are counted by the database itself (docs/decisions/0003)."""

from django.db import migrations

LEVELS = "generate_series(2, 12)"

# Cells of the public observations in `source`, with the sign of the change. `least` keeps 180 east and 90 north
# in the last cell.
CELLS = """
    SELECT survey_id, level,
        least(floor((ST_X(public_location) + 180) * (1 << level) / 360)::int, (1 << level) - 1),
        least(floor((ST_Y(public_location) + 90) * (1 << level) / 360)::int, (1 << (level - 1)) - 1),
        sum(sign), sum(sign * ST_X(public_location)), sum(sign * ST_Y(public_location)), {is_change}
    FROM ({source}) AS place CROSS JOIN {levels} AS level
    WHERE visibility = 'public' AND public_location IS NOT NULL
    GROUP BY 1, 2, 3, 4
"""
COLUMNS = "survey_id, level, x, y, observations, longitude_sum, latitude_sum, is_change"
PLACE = "SELECT survey_id, visibility, public_location, {sign} AS sign FROM {table}"
MOVED = """
    SELECT {side}.survey_id, {side}.visibility, {side}.public_location, {sign} AS sign
    FROM old_rows AS before JOIN new_rows AS after USING (id)
    WHERE (before.survey_id, before.visibility) IS DISTINCT FROM (after.survey_id, after.visibility)
        OR before.public_location IS DISTINCT FROM after.public_location
"""


def cells(source: str, *, is_change: bool = True) -> str:
    rows = CELLS.format(source=source, levels=LEVELS, is_change=is_change)
    return f"INSERT INTO observations_mapcell ({COLUMNS}) {rows};"


FUNCTION = f"""
CREATE FUNCTION podura_count_map_cells() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        {cells(PLACE.format(sign=1, table="new_rows"))}
    ELSIF TG_OP = 'DELETE' THEN
        {cells(PLACE.format(sign=-1, table="old_rows"))}
    ELSE
        {cells(MOVED.format(side="before", sign=-1) + " UNION ALL " + MOVED.format(side="after", sign=1))}
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER podura_map_inserted AFTER INSERT ON observations_observation
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION podura_count_map_cells();
CREATE TRIGGER podura_map_deleted AFTER DELETE ON observations_observation
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION podura_count_map_cells();
CREATE TRIGGER podura_map_updated AFTER UPDATE ON observations_observation
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION podura_count_map_cells();
"""
DROP = """
DROP TRIGGER podura_map_inserted ON observations_observation;
DROP TRIGGER podura_map_deleted ON observations_observation;
DROP TRIGGER podura_map_updated ON observations_observation;
DROP FUNCTION podura_count_map_cells();
"""


class Migration(migrations.Migration):
    dependencies = [("observations", "0020_map_and_places")]
    operations = [
        migrations.RunSQL(FUNCTION, DROP),
        migrations.RunSQL(
            "DELETE FROM observations_mapcell; "
            + cells(PLACE.format(sign=1, table="observations_observation"), is_change=False),
            "DELETE FROM observations_mapcell",
        ),
    ]
