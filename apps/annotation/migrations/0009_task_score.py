from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotation", "0008_conflicts")]

    operations = [
        migrations.AddIndex(
            model_name="annotationtask",
            index=models.Index(fields=["-score", "id"], name="task_score"),
        ),
    ]
