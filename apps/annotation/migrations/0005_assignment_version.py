import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("annotation", "0004_crop_rows"),
        ("training", "0003_datasets"),
    ]

    operations = [
        migrations.AddField(
            model_name="assignment",
            name="model_version",
            field=models.ForeignKey(
                editable=False,
                help_text="The version whose boxes the expert started from; a promotion meanwhile does not change them.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="training.modelversion",
                verbose_name="started from",
            ),
        ),
    ]
