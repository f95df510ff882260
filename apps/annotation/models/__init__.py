"""The experts' loop: queue, answers, agreement, and the jobs around them."""

from apps.annotation.models.agreement import AnswerComparison, Conflict, GoldenPhoto, GoldenResult
from apps.annotation.models.answers import AnnotatedBox, Annotation, LabelProposal
from apps.annotation.models.crops import Crop, CropSheet, LabelLook
from apps.annotation.models.jobs import DatasetFreeze, DatasetImport, QueueUpdate, TrainingStart
from apps.annotation.models.policy import AnnotationPolicy
from apps.annotation.models.reviews import ContributorNews, Review, Thanks
from apps.annotation.models.tasks import AnnotationTask, Arm, Assignment, GroupKey, PhotoGroup

__all__ = [
    "AnnotatedBox",
    "Annotation",
    "AnnotationPolicy",
    "AnnotationTask",
    "AnswerComparison",
    "Arm",
    "Assignment",
    "Conflict",
    "ContributorNews",
    "Crop",
    "CropSheet",
    "DatasetFreeze",
    "DatasetImport",
    "GoldenPhoto",
    "GoldenResult",
    "GroupKey",
    "LabelLook",
    "LabelProposal",
    "PhotoGroup",
    "QueueUpdate",
    "Review",
    "Thanks",
    "TrainingStart",
]
