"""Intake, what the model saw, and everything public."""

from apps.observations.models.archive import ArchiveUpload, DiscardedFile, RefusedFile
from apps.observations.models.comment import Comment
from apps.observations.models.detection import Detection
from apps.observations.models.export import DataExport
from apps.observations.models.idempotency import IdempotencyKey
from apps.observations.models.observation import Licence, MapCell, Observation
from apps.observations.models.photo import Photo
from apps.observations.models.place_review import PlaceReview
from apps.observations.models.survey import Label, Survey
from apps.observations.models.tile_pyramid import TilePyramid

__all__ = [
    "ArchiveUpload",
    "Comment",
    "DataExport",
    "Detection",
    "DiscardedFile",
    "IdempotencyKey",
    "Label",
    "Licence",
    "MapCell",
    "Observation",
    "Photo",
    "PlaceReview",
    "RefusedFile",
    "Survey",
    "TilePyramid",
]
