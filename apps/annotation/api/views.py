"""`annotation/`: the drawing page's addresses, one class each."""

import uuid
from http import HTTPStatus
from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from apps.annotation.api import inputs, outputs
from apps.annotation.api.giving import next_body, peek_body
from apps.annotation.api.permissions import ExpertsOnly, expert_of, reachable_task
from apps.annotation.api.refusals import refusals
from apps.annotation.api.representations import lease_body, progress_body, task_body
from apps.annotation.models import Assignment
from apps.annotation.services.answers import (
    Answer,
    own_answer,
    pass_on,
    save_draft,
    submit_answer,
    take_up,
)
from apps.annotation.services.golden import feedback_on
from apps.annotation.services.leases import release
from apps.annotation.services.policies import policy_of
from apps.common.throttling import ClientRateThrottle
from apps.observations.models import Survey


class ExpertView(APIView):
    permission_classes = (IsAuthenticated, ExpertsOnly)
    parser_classes = (inputs.AnswerJSONParser,)


class NextView(ExpertView):
    @extend_schema(
        operation_id="annotation_next",
        summary="Get the next photo to correct",
        request=inputs.NextInput,
        responses={200: outputs.NextOutput},
        tags=["annotation"],
    )
    def post(self, request: Request, slug: str) -> Response:
        """The photo that the queue gives you, held for you; your open one first. With `peek` nothing is held."""
        survey = get_object_or_404(Survey, slug=slug)
        asked = inputs.read(inputs.NextInput, request.data)
        expert = expert_of(request)
        if asked["peek"]:
            return Response(peek_body(survey, expert=expert, after=asked.get("after")))
        return Response(next_body(survey, expert=expert))


class TaskView(ExpertView):
    @extend_schema(
        operation_id="annotation_task",
        summary="Read a photo to correct",
        responses={200: outputs.TaskOutput},
        tags=["annotation"],
    )
    def get(self, request: Request, task_id: uuid.UUID) -> Response:
        """The photo with the model's boxes, your draft and your answer; reading holds nothing."""
        return Response(task_body(reachable_task(task_id), expert=expert_of(request)))


class DraftView(ExpertView):
    throttle_scope = "draft"

    def get_throttles(self) -> list[Any]:
        """Drafts are sent every few seconds of drawing: they use up a limit of their own and nothing else."""
        return [ClientRateThrottle(), ScopedRateThrottle()]

    @extend_schema(
        operation_id="annotation_draft",
        summary="Keep a draft",
        request=inputs.DraftInput,
        responses={200: outputs.SavedDraftOutput},
        tags=["annotation"],
    )
    def put(self, request: Request, task_id: uuid.UUID) -> Response:
        """Unfinished work, kept on the server. Nothing of another window is overwritten: 409 with its draft."""
        task, expert = reachable_task(task_id), expert_of(request)
        draft = inputs.read(inputs.DraftInput, request.data)
        client, base = draft.pop("client"), draft.pop("base_version")
        with refusals():
            assignment = save_draft(task=task, expert=expert, content=draft, base_version=base, client=client)
        return Response({"version": assignment.draft_version, "lease": _lease(assignment)})


class LeaseView(ExpertView):
    @extend_schema(
        operation_id="annotation_lease",
        summary="Hold a photo",
        request=inputs.NothingInput,
        responses={200: outputs.LeaseOutput},
        tags=["annotation"],
    )
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """Extend your hold, or take the photo again if nobody else has it."""
        task = reachable_task(task_id)
        inputs.read(inputs.NothingInput, request.data)
        with refusals():
            assignment = take_up(task=task, expert=expert_of(request))
        return Response(_lease(assignment))


class SubmitView(ExpertView):
    @extend_schema(
        operation_id="annotation_submit",
        summary="Give an answer",
        request=inputs.AnswerInput,
        responses={201: outputs.SubmittedOutput, 200: outputs.SubmittedOutput},
        tags=["annotation"],
    )
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """Your answer for the whole photo, kept for good. The same `key` again is the same answer (200)."""
        task, expert = reachable_task(task_id), expert_of(request)
        sent = inputs.read(inputs.AnswerInput, request.data)
        wants_next = sent.pop("next")
        with refusals():
            submitted = submit_answer(task=task, expert=expert, answer=Answer(**sent))
        given = next_body(task.survey, expert=expert) if wants_next else {"task": None, "waiting": None}
        body = {
            "annotation": str(submitted.annotation.public_id),
            "next": given["task"],
            "waiting": given["waiting"],
            "progress": progress_body(expert, task.survey),
            "feedback": feedback_on(submitted.annotation),
        }
        return Response(body, status=HTTPStatus.CREATED if submitted.is_new else HTTPStatus.OK)


class SkipView(ExpertView):
    @extend_schema(
        operation_id="annotation_skip",
        summary="Pass a photo on",
        request=inputs.SkipInput,
        responses={200: outputs.NextOutput},
        tags=["annotation"],
    )
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """You are not given this photo again; the answer is the next one."""
        task, expert = reachable_task(task_id), expert_of(request)
        fields = inputs.read(inputs.SkipInput, request.data)
        pass_on(task=task, expert=expert, reason=fields["reason"], note=fields["note"])
        return Response(next_body(task.survey, expert=expert))


class ReleaseView(ExpertView):
    @extend_schema(
        operation_id="annotation_release",
        summary="Give a photo back",
        request=inputs.NothingInput,
        responses={204: None},
        tags=["annotation"],
    )
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """The photo returns to the queue; your draft is kept. Given back already is no error."""
        task = reachable_task(task_id)
        inputs.read(inputs.NothingInput, request.data)
        for assignment in Assignment.objects.filter(task=task, expert=expert_of(request)):
            release(assignment)
        return Response(status=HTTPStatus.NO_CONTENT)


def _lease(assignment: Assignment) -> dict[str, Any]:
    task = assignment.task
    is_correcting = own_answer(task, assignment.expert) is not None
    return lease_body(assignment, policy=policy_of(task.survey_id), is_correcting=is_correcting)
