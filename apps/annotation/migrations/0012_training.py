import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


_TRIGGER = """
CREATE OR REPLACE TRIGGER training_datasetitem_immutable BEFORE UPDATE ON training_datasetitem
FOR EACH ROW EXECUTE FUNCTION podura_refuse_change({free})
"""


class Migration(migrations.Migration):

    dependencies = [
        ('annotation', '0011_comparison_by_label'),
        ('training', '0006_withdrawn_at'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # When a photo was withdrawn may be written down as well; all else of an item stays as it was frozen.
        migrations.RunSQL(
            _TRIGGER.format(free="'is_withdrawn', 'withdrawn_at'"), _TRIGGER.format(free="'is_withdrawn'")
        ),
        migrations.AddField(
            model_name='annotationpolicy',
            name='trains_by_itself',
            field=models.BooleanField(default=True, help_text="Else trainings start on a curator's word only.", verbose_name='train when there are so many'),
        ),
        migrations.CreateModel(
            name='Thanks',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('photos', models.PositiveIntegerField(verbose_name='photos')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('mailed_at', models.DateTimeField(editable=False, null=True)),
                ('contributor', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='thanks', to=settings.AUTH_USER_MODEL, verbose_name='contributor')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='thanks', to='training.modelversion', verbose_name='model version')),
            ],
            options={
                'verbose_name': 'thanks to a contributor',
                'verbose_name_plural': 'thanks to contributors',
                'indexes': [models.Index(condition=models.Q(('mailed_at', None)), fields=['contributor', 'id'], name='thanks_to_mail')],
                'constraints': [models.UniqueConstraint(fields=('contributor', 'version'), name='thanked_once')],
            },
        ),
    ]
