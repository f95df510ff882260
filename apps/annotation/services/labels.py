"""Labels that experts miss: proposed with a box, made a label or refused by a curator."""

from collections.abc import Collection

from django.db.models import Value
from django.db.models.functions import Lower

from apps.accounts.models import User
from apps.annotation.models import LabelProposal
from apps.observations.models import Survey


def label_proposals(*, survey: Survey, names: Collection[str], by: User | None) -> dict[str, LabelProposal]:
    """The proposals of these names, made where they are new; written in whatever case, a name is proposed once."""
    return {name: _known(survey, name) or _propose(survey, name, by) for name in sorted(names)}


def _known(survey: Survey, name: str) -> LabelProposal | None:
    proposals = LabelProposal.objects.select_related("label").filter(survey=survey)
    return proposals.annotate(folded=Lower("name")).filter(folded=Lower(Value(name))).first()


def _propose(survey: Survey, name: str, by: User | None) -> LabelProposal:
    """Somebody else may propose the same at this moment: then it is theirs."""
    LabelProposal.objects.bulk_create(
        [LabelProposal(survey=survey, name=name, proposed_by=by)], ignore_conflicts=True
    )
    proposal = _known(survey, name)
    assert proposal is not None
    return proposal
