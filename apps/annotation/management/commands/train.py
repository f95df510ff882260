"""`manage.py train SURVEY`: freeze a survey's answers and train on them; with --wait in this process."""

import threading
import time
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from apps.annotation.services.datasets import NothingAcceptedError
from apps.annotation.services.training import NoModelError, start_training
from apps.common.leased import WorkStatus
from apps.observations.models import Survey
from apps.training.engine.recipe import RULES
from apps.training.models import Comparison, ModelVersion, RunStatus, TrainingEpoch, TrainingRun
from apps.training.run_texts import failure_text
from apps.training.services.run_worker import continue_next_run
from apps.training.services.runs import DatasetUnfitError, ParametersError, RunUnderWayError

UNDER_WAY: Final = 75
"""The exit status of "try again later" (EX_TEMPFAIL); 1 is for what has to be changed first, 2 for the command line."""
_OFTEN: Final = (
    "epochs",
    "image_size",
    "patience",
    "batch",
    "frozen_layers",
    "tiling",
    "seed",
    "architecture",
)
_PAUSE_S: Final = 1.0


class Command(BaseCommand):
    help = (
        "Freeze the accepted answers of a survey and train its model on them. Exit status: 0 asked for, or with --wait "
        "trained; 1 refused or failed; 75 another run of the model is under way."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("survey", help="short name of the survey")
        parser.add_argument(
            "--base",
            default="production",
            metavar="VERSION",
            help="number of the version to start from, 'production' (the default) or 'untrained'",
        )
        for name in _OFTEN:
            rule = RULES[name]
            limits = ", ".join(rule.choices) or f"{rule.low:g} to {rule.high:g}"
            parser.add_argument(f"--{name.replace('_', '-')}", help=f"{limits}; else what suits the machine")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"any parameter: {', '.join(RULES)}",
        )
        parser.add_argument(
            "--wait", action="store_true", help="work the run off in this process and show its progress"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        survey = Survey.objects.select_related("registered_model").filter(slug=options["survey"]).first()
        if survey is None:
            known = ", ".join(Survey.objects.values_list("slug", flat=True)) or "none"
            raise CommandError(f"No survey is called {options['survey']!r}. There are: {known}")
        run = self._start(survey, options)
        self.stdout.write(
            f"Run {run.public_id}: {run.dataset}, {run.dataset.photo_count} photos, "
            f"from {run.base_version or 'an untrained network'}, {run.epochs} epochs"
        )
        if options["wait"]:
            self._wait(run)

    def _start(self, survey: Survey, options: dict[str, Any]) -> TrainingRun:
        base, is_untrained = _base(survey, options["base"])
        try:
            return start_training(
                survey=survey,
                parameters=_parameters(options),
                base=base,
                is_untrained=is_untrained,
                trigger=TrainingRun.Trigger.COMMAND,
            )
        except NoModelError:
            raise CommandError("No model is chosen for this survey: choose one in the admin.") from None
        except NothingAcceptedError:
            raise CommandError("No photo of this survey has an accepted answer yet.") from None
        except RunUnderWayError as error:
            message = f"Run {error.run.public_id} of this model is under way."
            raise CommandError(message, returncode=UNDER_WAY) from None
        except ParametersError as error:
            lines = [f"--{one['field'].replace('_', '-')}: {one['message']}" for one in error.problems]
            raise CommandError("\n".join(lines)) from None
        except DatasetUnfitError as error:
            raise CommandError("\n".join(problem.sentence for problem in error.problems)) from None

    def _wait(self, run: TrainingRun) -> None:
        try:
            with self._told_progress(run):
                while TrainingRun.objects.get(pk=run.pk).is_open:
                    # Another run may come first, or another worker may have taken this one.
                    if not continue_next_run():
                        time.sleep(_PAUSE_S)
                _compare(run)
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped. The run is still asked for: a training worker goes on with it, or cancel it on its page.",
                returncode=130,
            ) from None
        run.refresh_from_db()
        if run.status == RunStatus.SUCCEEDED:
            self.stdout.write(f"{run.version}, {run.minutes_spent:.1f} minutes of work")
            self._tell_verdict(run)
        elif run.status == RunStatus.CANCELLED:
            raise CommandError("The run was cancelled.")
        else:
            raise CommandError(failure_text(run))

    def _tell_verdict(self, run: TrainingRun) -> None:
        comparison = Comparison.objects.filter(run=run).select_related("challenger").last()
        if comparison is None:
            return
        verdict = comparison.get_verdict_display() or comparison.get_status_display()
        self.stdout.write(f"Compared with {comparison.champion or 'nothing'}: {verdict}")
        self.stdout.write(f"{comparison.challenger}: {comparison.challenger.get_stage_display()}")

    @contextmanager
    def _told_progress(self, run: TrainingRun) -> Any:
        """A line for each epoch, from a thread with a connection of its own."""
        ended = threading.Event()

        def tell() -> None:
            told = 0
            try:
                while True:
                    is_last = ended.wait(_PAUSE_S)
                    told = self._tell_epochs(run, after=told)
                    if is_last:
                        return
            finally:
                connection.close()

        thread = threading.Thread(target=tell, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _tell_epochs(self, run: TrainingRun, *, after: int) -> int:
        for row in TrainingEpoch.objects.filter(run=run, epoch__gt=after).order_by("epoch"):
            quality = row.metrics.get("map50_95")
            shown = f", mAP50-95 {quality:.3f}" if isinstance(quality, float) else ""
            self.stdout.write(f"epoch {row.epoch} of {run.epochs}, {row.seconds:.1f} s{shown}")
            self.stdout.flush()
            after = row.epoch
        return after


def _compare(run: TrainingRun) -> None:
    """What comes after the training is worked off as well."""
    undecided = Comparison.objects.filter(run=run, status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING))
    while undecided.exists():
        from apps.training.services.comparisons import continue_next_comparison

        if not continue_next_comparison():
            time.sleep(_PAUSE_S)


def _base(survey: Survey, chosen: str) -> tuple[ModelVersion | None, bool]:
    if chosen == "untrained":
        return None, True
    if chosen == "production":
        return None, False
    versions = ModelVersion.objects.filter(registered_model=survey.registered_model_id)
    version = versions.filter(number=chosen).first() if chosen.isdecimal() and len(chosen) < 9 else None
    if version is None:
        known = ", ".join(
            str(number) for number in versions.order_by("number").values_list("number", flat=True)
        )
        raise CommandError(f"--base: there is no version {chosen!r}. There are: {known or 'none'}")
    return version, False


def _parameters(options: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: options[name] for name in _OFTEN if options[name] is not None}
    for pair in options["set"]:
        name, separator, value = pair.partition("=")
        if not separator:
            raise CommandError(f"--set: write {pair!r} as NAME=VALUE")
        chosen[name.strip().replace("-", "_")] = value
    return {name: _value(name, text) for name, text in chosen.items()}


def _value(name: str, value: Any) -> Any:
    """A number or a switch where the parameter is one; what is none is left for the rule to refuse."""
    text = str(value).strip()
    rule = RULES.get(name)
    if rule is None or rule.kind == "choice":
        return text
    if rule.kind == "switch":
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
            text.lower(), text
        )
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
