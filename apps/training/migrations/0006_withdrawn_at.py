from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0005_decisions_are_for_ever"),
    ]

    operations = [
        migrations.AddField(
            model_name="datasetitem",
            name="withdrawn_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="withdrawn at"),
        ),
    ]
