"""Whether a survey's next training can start: always yes or no, with a sentence that says why.

Everything is read from the rows as they are: nobody keeps a counter that could be wrong after a crash.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.annotation.models import AnnotationPolicy, TrainingStart
from apps.annotation.services.datasets import ACCEPTED_FROM, ACCEPTED_WHERE, NOTHING_ACCEPTED
from apps.common.leased import WorkStatus
from apps.observations.models import Label, Survey
from apps.training.models import OPEN_RUNS, Comparison, Dataset, ModelVersion, Split, TrainingRun
from apps.training.services.runs import dataset_problems

NO_MODEL: Final = "no_model"
RUN_UNDER_WAY: Final = "run_under_way"
_UNDER_WAY: Final = (WorkStatus.PENDING, WorkStatus.PROCESSING)

# New is an answer that the last run's dataset does not hold: a corrected one counts again, a withdrawn photo never.
_PHOTOS = f"""
SELECT task.survey_id, photo_group.split, count(*), count(*) FILTER (WHERE annotation.is_empty),
    count(*) FILTER (WHERE item.id IS NULL)
{ACCEPTED_FROM}
LEFT JOIN unnest(%s::bigint[], %s::bigint[]) AS last (survey_id, dataset_id) ON last.survey_id = task.survey_id
LEFT JOIN training_datasetitem AS item ON item.dataset_id = last.dataset_id AND item.photo = photo.public_id
    AND item.annotation = annotation.public_id
{ACCEPTED_WHERE}
GROUP BY task.survey_id, photo_group.split
"""
_BOXES = f"""
SELECT task.survey_id, photo_group.split, label.code, count(*)
{ACCEPTED_FROM}
JOIN annotation_annotatedbox AS box ON box.annotation_id = annotation.id
JOIN observations_label AS label ON label.id = box.label_id
{ACCEPTED_WHERE}
GROUP BY task.survey_id, photo_group.split, label.code
"""


@dataclass(frozen=True, slots=True)
class Readiness:
    """`is_ready`: the next training starts by itself now; `may_start`: a curator could start one."""

    is_ready: bool
    code: str
    sentence: str
    missing: int | None = None
    """Accepted photos that are still needed before a training starts by itself; none where something else is the matter."""
    new: int = 0
    """Accepted photos that no run has had yet."""
    needed: int = 0
    may_start: bool = False
    obstacles: tuple[str, ...] = ()
    """What keeps a curator from starting one, in sentences."""
    run: TrainingRun | None = None
    """The run under way."""

    @property
    def here(self) -> int:
        """For a progress bar: no more than are needed."""
        return min(self.new, self.needed)


@dataclass(slots=True)
class _Facts:
    """What the rows say of one survey."""

    survey: Survey
    policy: AnnotationPolicy
    run: TrainingRun | None = None
    is_starting: bool = False
    comparison: Comparison | None = None
    production: ModelVersion | None = None
    new: int = 0
    has_boxes: bool = False
    """Whether the boxes were counted; else nothing can be said of the splits."""
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, None] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        return max(0, self.policy.train_after - self.new)

    @property
    def accepted(self) -> int:
        return sum(int(split["photos"]) for split in self.counts.values())

    def dataset(self) -> Dataset:
        """What freezing would give now, unsaved and without its items."""
        for split in self.counts.values():
            split["labels"] = dict.fromkeys(self.labels, 0) | split["labels"]
        return Dataset(
            name=self.survey.slug,
            registered_model=self.survey.registered_model,
            labels=list(self.labels),
            counts=self.counts,
            photo_count=self.accepted,
            box_count=sum(int(split["boxes"]) for split in self.counts.values()),
        )


def ready_to_train(survey: Survey) -> Readiness:
    return readiness_of([survey], with_obstacles=True)[survey.pk]


def readiness_of(surveys: Iterable[Survey], *, with_obstacles: bool = False) -> dict[int, Readiness]:
    """By the key of the survey; the number of queries does not grow with them.

    What keeps curators from starting is read from all boxes: without `with_obstacles` only where enough photos are there.
    """
    chosen = list(surveys)
    policies = {row.survey_id: row for row in AnnotationPolicy.objects.filter(survey__in=chosen)}
    facts = {
        survey.pk: _Facts(survey, policies.get(survey.pk) or AnnotationPolicy(survey=survey))
        for survey in chosen
    }
    with_model = [one for one in facts.values() if one.survey.registered_model_id is not None]
    if with_model:
        _read_factory(with_model)
        _read_answers(with_model, with_obstacles=with_obstacles)
    return {key: _judge(one) for key, one in facts.items()}


def last_runs(surveys: Sequence[Survey]) -> dict[int, TrainingRun]:
    """The last run of each survey's model on answers of this survey, however it ended."""
    by_slug = {survey.slug: survey for survey in surveys}
    runs = TrainingRun.objects.filter(
        dataset__name__in=by_slug, registered_model__in={survey.registered_model_id for survey in surveys}
    ).select_related("dataset")
    last: dict[int, TrainingRun] = {}
    for run in runs.order_by("registered_model_id", "dataset__name", "-pk").distinct(
        "registered_model_id", "dataset__name"
    ):
        survey = by_slug[run.dataset.name]
        if run.registered_model_id == survey.registered_model_id:
            last[survey.pk] = run
    return last


def _read_factory(facts: Sequence[_Facts]) -> None:
    """What the model factory does at this moment with the models of these surveys."""
    models = {one.survey.registered_model_id for one in facts}
    open_runs = TrainingRun.objects.filter(registered_model__in=models, status__in=OPEN_RUNS)
    runs = {run.registered_model_id: run for run in open_runs}
    undecided = Comparison.objects.filter(registered_model__in=models, status__in=_UNDER_WAY)
    comparisons = {row.registered_model_id: row for row in undecided}
    starting = set(
        TrainingStart.objects.filter(
            survey__in=[one.survey for one in facts], status__in=_UNDER_WAY
        ).values_list("survey", flat=True)
    )
    for one in facts:
        model = one.survey.registered_model_id
        assert model is not None
        one.run, one.comparison = runs.get(model), comparisons.get(model)
        one.is_starting = one.survey.pk in starting


def _read_answers(facts: Sequence[_Facts], *, with_obstacles: bool) -> None:
    """Counts of what freezing would give, and of what is new in it."""
    by_key = {one.survey.pk: one for one in facts}
    surveys = list(by_key)
    last = last_runs([one.survey for one in facts])
    _read_labels(by_key)
    for one in facts:
        one.counts = {split: {"photos": 0, "empty": 0, "boxes": 0, "labels": {}} for split in Split.values}
    with connection.cursor() as cursor:
        cursor.execute(_PHOTOS, [list(last), [run.dataset_id for run in last.values()], surveys])
        for survey, split, photos, empty, new in cursor:
            by_key[survey].counts[split] |= {"photos": photos, "empty": empty}
            by_key[survey].new += new
        for one in facts:
            one.has_boxes = with_obstacles or not one.missing or not one.policy.trains_by_itself
        cursor.execute(_BOXES, [[one.survey.pk for one in facts if one.has_boxes]])
        for survey, split, code, boxes in cursor:
            counts = by_key[survey].counts[split]
            counts["labels"][code] = boxes
            counts["boxes"] += boxes
            by_key[survey].labels.setdefault(code)


def _read_labels(facts: Mapping[int, _Facts]) -> None:
    """As `label_list` orders them."""
    slugs = {one.survey.slug: one for one in facts.values()}
    frozen = Dataset.objects.filter(name__in=slugs).order_by("name", "-number").distinct("name")
    for name, labels in frozen.values_list("name", "labels"):
        slugs[name].labels |= dict.fromkeys(labels)
    serving = ModelVersion.objects.filter(
        stage=ModelVersion.Stage.PRODUCTION,
        registered_model__in={one.survey.registered_model_id for one in facts.values()},
    )
    of_model = {version.registered_model_id: version for version in serving}
    for one in facts.values():
        one.production = of_model.get(one.survey.registered_model_id or 0)
        if not one.labels and one.production is not None:
            one.labels |= dict.fromkeys(one.production.labels)
    in_use = Label.objects.filter(survey__in=facts, is_active=True).order_by("survey", "pk")
    for survey, code in in_use.values_list("survey", "code"):
        facts[survey].labels.setdefault(code)


def _judge(facts: _Facts) -> Readiness:
    needed = facts.policy.train_after
    missing = facts.missing
    known: dict[str, Any] = {"new": facts.new, "needed": needed, "run": facts.run}
    if found := _standstill(facts):
        code, sentence = found
        is_counting = code == NOTHING_ACCEPTED and facts.policy.trains_by_itself
        known["missing"] = missing if is_counting else None
        return Readiness(is_ready=False, code=code, sentence=sentence, obstacles=(sentence,), **known)
    # From another version than the one in production a curator may start all the same.
    problems = dataset_problems(facts.dataset(), base=facts.production) if facts.has_boxes else []
    obstacles = dataset_problems(facts.dataset()) if problems else []
    known |= {
        "obstacles": tuple(problem.sentence for problem in obstacles),
        "may_start": facts.has_boxes and not obstacles,
        "missing": missing if facts.policy.trains_by_itself else None,
    }
    if missing and facts.policy.trains_by_itself:
        sentence = ngettext(
            "%(n)s more accepted photo needed.", "%(n)s more accepted photos needed.", missing
        ) % {"n": missing}
        return Readiness(is_ready=False, code="photos_missing", sentence=sentence, **known)
    if problems:
        return Readiness(is_ready=False, code=problems[0].code, sentence=problems[0].sentence, **known)
    if not facts.policy.trains_by_itself:
        return Readiness(is_ready=False, code="by_hand", sentence=_by_hand(facts.new), **known)
    if facts.comparison is not None:
        sentence = _("The last version is still being compared with the one in production.")
        return Readiness(is_ready=False, code="comparison_under_way", sentence=sentence, **known)
    sentence = ngettext(
        "Ready: %(n)s accepted photo is new since the last training.",
        "Ready: %(n)s accepted photos are new since the last training.",
        facts.new,
    ) % {"n": facts.new}
    return Readiness(is_ready=True, code="ready", sentence=sentence, **known)


def _standstill(facts: _Facts) -> tuple[str, str] | None:
    """What keeps everybody from starting, whatever the answers hold."""
    if facts.survey.registered_model_id is None:
        return NO_MODEL, _("No model is chosen for this survey. A curator chooses one in its settings.")
    if facts.run is not None:
        return RUN_UNDER_WAY, _("A run is under way.")
    if facts.is_starting:
        return "starting", _("A training is being prepared.")
    if not facts.accepted:
        return NOTHING_ACCEPTED, _("No photo of this survey has an accepted answer yet.")
    return None


def _by_hand(new: int) -> str:
    if not new:
        return _(
            "Trainings of this survey start on a curator's word; no accepted photo is new since the last one."
        )
    return ngettext(
        "Trainings of this survey start on a curator's word; %(n)s accepted photo is new since the last one.",
        "Trainings of this survey start on a curator's word; %(n)s accepted photos are new since the last one.",
        new,
    ) % {"n": new}
