"""Boxes below what a survey shows are kept for experts. All that exist are shown ones."""

import django.core.validators
from django.db import migrations, models

KEEP_WHAT_IS_SHOWN = """
UPDATE observations_survey SET kept_threshold = confidence_threshold WHERE confidence_threshold < kept_threshold
"""


class Migration(migrations.Migration):
    dependencies = [("observations", "0022_data_export")]

    operations = [
        migrations.AddField(
            model_name="survey",
            name="kept_threshold",
            field=models.FloatField(
                default=0.05,
                help_text="Weaker boxes that experts can still look at while they draw. Not above the confidence threshold.",
                validators=[
                    django.core.validators.MinValueValidator(0.01),
                    django.core.validators.MaxValueValidator(0.99),
                ],
                verbose_name="lowest confidence kept",
            ),
        ),
        migrations.AlterField(
            model_name="survey",
            name="confidence_threshold",
            field=models.FloatField(
                default=0.25,
                help_text="Weaker boxes are not shown.",
                validators=[
                    django.core.validators.MinValueValidator(0.01),
                    django.core.validators.MaxValueValidator(0.99),
                ],
                verbose_name="confidence threshold",
            ),
        ),
        migrations.RunSQL(KEEP_WHAT_IS_SHOWN, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="survey",
            constraint=models.CheckConstraint(
                condition=models.Q(("kept_threshold__lte", models.F("confidence_threshold"))),
                name="survey_keeps_what_it_shows",
                violation_error_message=(
                    "The lowest confidence kept cannot be above the confidence threshold: "
                    "boxes that are shown must be kept."
                ),
            ),
        ),
        migrations.AddField(
            model_name="detection",
            name="is_weak",
            field=models.BooleanField(db_default=False, default=False, verbose_name="weak"),
        ),
        migrations.RemoveIndex(model_name="detection", name="detection_label"),
        migrations.AddIndex(
            model_name="detection",
            index=models.Index(
                condition=models.Q(("is_weak", False)),
                fields=["label", "-photo", "-score"],
                name="detection_label_shown",
            ),
        ),
    ]
