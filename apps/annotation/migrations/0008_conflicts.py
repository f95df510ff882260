from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("annotation", "0007_ranked_version")]

    operations = [
        migrations.CreateModel(
            name="Conflict",
            fields=[],
            options={
                "verbose_name": "disagreement",
                "verbose_name_plural": "disagreements",
                "default_permissions": (),
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("annotation.annotationtask",),
        ),
    ]
