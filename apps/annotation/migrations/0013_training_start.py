import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotation', '0012_training'),
        ('observations', '0025_tiles_of_older_photos'),
        ('training', '0006_withdrawn_at'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='TrainingStart',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('pending', 'Waiting'), ('processing', 'In progress'), ('done', 'Done'), ('failed', 'Failed')], default='pending', editable=False, max_length=12, verbose_name='status')),
                ('priority', models.SmallIntegerField(choices=[(0, 'someone is waiting'), (10, 'batch'), (20, 'low')], default=0, editable=False, verbose_name='priority')),
                ('attempts', models.PositiveSmallIntegerField(default=0, editable=False, verbose_name='attempts')),
                ('lease_token', models.UUIDField(editable=False, null=True)),
                ('lease_until', models.DateTimeField(editable=False, null=True, verbose_name='leased until')),
                ('failure_reason', models.CharField(blank=True, editable=False, max_length=500, verbose_name='reason of failure')),
                ('queued_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name='queued at')),
                ('started_at', models.DateTimeField(editable=False, null=True, verbose_name='started at')),
                ('finished_at', models.DateTimeField(editable=False, null=True, verbose_name='finished at')),
                ('trigger', models.CharField(choices=[('automatic', 'enough new answers'), ('curator', 'a curator'), ('command', 'the command line')], editable=False, max_length=10, verbose_name='started by')),
                ('parameters', models.JSONField(default=dict, editable=False, verbose_name='parameters')),
                ('is_untrained', models.BooleanField(default=False, editable=False, verbose_name='from an untrained network')),
                ('details', models.JSONField(default=dict, editable=False)),
                ('base', models.ForeignKey(editable=False, help_text='Empty: the version in production at that time.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='training.modelversion', verbose_name='fine-tuned from')),
                ('requested_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='asked for by')),
                ('run', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='training.trainingrun', verbose_name='training run')),
                ('survey', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='training_starts', to='observations.survey', verbose_name='survey')),
            ],
            options={
                'verbose_name': 'start of a training',
                'verbose_name_plural': 'starts of trainings',
                'ordering': ['-id'],
                'abstract': False,
                'indexes': [models.Index(condition=models.Q(('status__in', ('pending', 'processing'))), fields=['priority', 'queued_at', 'id'], name='trainingstart_waiting')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('status', 'processing'), _negated=True), models.Q(('lease_token__isnull', False), ('lease_until__isnull', False)), _connector='OR'), name='trainingstart_processing_is_leased'), models.UniqueConstraint(condition=models.Q(('status__in', ('pending', 'processing'))), fields=('survey',), name='one_training_start_at_a_time')],
            },
        ),
    ]
