"""Large photos sent before there were tiles wait for theirs."""

from django.db import migrations

# 2,560 px is the long side of the display rendition; 20 is the low priority.
REQUEST = """
INSERT INTO observations_tilepyramid (photo_id, status, priority, attempts, failure_reason)
SELECT id, 'pending', 20, 0, '' FROM observations_photo WHERE greatest(width_px, height_px) > 2560 ORDER BY id DESC
"""


class Migration(migrations.Migration):
    dependencies = [("observations", "0024_tile_pyramid")]

    operations = [migrations.RunSQL(REQUEST, migrations.RunSQL.noop)]
