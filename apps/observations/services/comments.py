"""Remarks on an observation, on a photo, or on one numbered box ("#3 is a mite")."""

from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.common.texts import clean_text
from apps.observations.models import Comment, Detection, Observation, Photo
from apps.observations.signals import comment_added, tell_on_commit

MAX_LENGTH = 2000
_SAME_POST = timedelta(minutes=2)


class CommentRefusedError(Exception):
    """The message says what to do."""


@transaction.atomic
def add_comment(
    *,
    observation: Observation,
    author: User,
    body: str,
    photo: Photo | None = None,
    box_number: int | None = None,
) -> Comment:
    """Write a comment; the same one posted twice within two minutes is one. Raises `CommentRefusedError`."""
    body = clean_text(body)
    if not body:
        raise CommentRefusedError(_("Write something first."))
    if len(body) > MAX_LENGTH:
        raise CommentRefusedError(_("Keep it under %(limit)s characters.") % {"limit": MAX_LENGTH})
    detection = _box(photo, box_number) if box_number is not None else None
    # The author's row is the lock that makes a double post wait for its twin.
    User.objects.select_for_update().get(pk=author.pk)
    target = {
        "observation": observation,
        "photo": photo,
        "box_number": box_number,
        "author": author,
        "body": body,
    }
    twin = Comment.objects.filter(**target, created_at__gte=Now() - _SAME_POST).first()
    if twin:
        return twin
    comment = Comment.objects.create(**target, detection=detection)
    tell_on_commit(comment_added, sender=Comment, comment_id=comment.pk)
    return comment


def _box(photo: Photo | None, number: int) -> Detection:
    box = (
        Detection.objects.shown()
        .filter(photo=photo, model_version=photo.model_version_id, number=number)
        .first()
        if photo is not None
        else None
    )
    if box is None:
        raise CommentRefusedError(_("There is no box #%(number)s on this photo.") % {"number": number})
    return box


def may_delete(comment: Comment, user: User) -> bool:
    return user.is_staff or comment.author_id == user.pk
