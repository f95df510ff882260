"""What the services refuse, as problems that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.utils.translation import gettext as _

from apps.annotation.answer_rules import InvalidAnswerError
from apps.annotation.api.inputs import field_problems_of, invalid
from apps.annotation.api.representations import draft_body
from apps.annotation.services.answers import DraftConflictError, KeyReusedError, SupersededError
from apps.annotation.services.leases import LeaseLostError
from apps.common.problems import FieldProblem, Problem


@contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except InvalidAnswerError as error:
        raise invalid(field_problems_of(error.wrongs), left_out=error.left_out) from error
    except LeaseLostError as error:
        raise lease_lost(error.code) from error
    except SupersededError as error:
        raise _superseded(error) from error
    except KeyReusedError as error:
        detail = _("This key was used for the answer to another photo: make a new one.")
        problem = FieldProblem("key", "key_reused", detail)
        raise Problem(status=409, code="key_reused", detail=detail, errors=[problem]) from error
    except DraftConflictError as error:
        detail = _("Another window has saved another draft of this photo. Choose which one to go on with.")
        raise Problem(
            status=409, code="draft_conflict", detail=detail, extra={"draft": draft_body(error.assignment)}
        ) from error


def lease_lost(reason: str) -> Problem:
    texts = {
        "held": _("Somebody else works on this photo now. What you drew is kept."),
        "done": _("This photo has been answered meanwhile. What you drew is kept."),
        "conflict": _("Experts disagree about this photo: a curator decides. What you drew is kept."),
        "set_aside": _("This photo was set aside by a curator. What you drew is kept."),
        "not_public": _("This photo is no longer public."),
        "ended": _("You gave this photo back before."),
    }
    detail = texts.get(reason) or _("You do not hold this photo any more. What you drew is kept.")
    return Problem(status=409, code="lease_lost", detail=detail, extra={"reason": reason})


def _superseded(error: SupersededError) -> Problem:
    if error.current is None:
        detail = _(
            "This answer was replaced by a review since you opened it: it cannot be corrected any more."
        )
    else:
        detail = _("You have given a newer answer to this photo. Open the photo anew to correct that one.")
    current = str(error.current.public_id) if error.current else None
    return Problem(status=409, code="superseded", detail=detail, extra={"current": current})
