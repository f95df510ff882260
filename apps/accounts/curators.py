"""What the group "Curators" may do in the administration."""

from typing import Any

from django.apps import AppConfig

GROUP_NAME = "Curators"
# Users can be looked at only: who may change them could make a superuser of themselves.
PERMISSIONS: dict[str, tuple[str, ...]] = {
    "accounts": (
        "view_user",
        "view_expertapplication",
        "change_expertapplication",
        "view_apiclient",
        "add_apiclient",
        "change_apiclient",
        "view_outgoingmail",
    ),
    "training": (
        "view_registeredmodel",
        "view_modelversion",
        "promote_modelversion",
        "view_dataset",
        "view_datasetitem",
        "view_datasetexport",
        "add_datasetexport",
        "view_trainingrun",
        "start_trainingrun",
        "view_evaluation",
        "add_evaluation",
        "view_comparison",
        "add_comparison",
        "view_promotionpolicy",
        "change_promotionpolicy",
        "view_promotionevent",
        "view_modelimport",
        "add_modelimport",
        "change_modelimport",
    ),
    "annotation": (
        "view_annotationpolicy",
        "change_annotationpolicy",
        "view_annotationtask",
        "change_annotationtask",
        "view_assignment",
        "change_assignment",
        "view_annotation",
        "view_review",
        "view_contributornews",
        "view_thanks",
        "view_trainingstart",
        "add_review",
        "view_labelproposal",
        "change_labelproposal",
        "view_goldenphoto",
        "add_goldenphoto",
        "change_goldenphoto",
        "view_queueupdate",
        "add_queueupdate",
        "change_queueupdate",
        "view_datasetfreeze",
        "add_datasetfreeze",
        "view_datasetimport",
        "add_datasetimport",
    ),
    "observations": (
        "add_survey",
        "view_survey",
        "change_survey",
        "add_label",
        "view_label",
        "change_label",
        "view_observation",
        "change_observation",
        "delete_observation",
        "view_photo",
        "change_photo",
        "delete_photo",
        "view_detection",
        "view_comment",
        "change_comment",
        "delete_comment",
        "view_archiveupload",
        "change_archiveupload",
        "view_refusedfile",
        "view_placereview",
        "change_placereview",
        "view_tilepyramid",
        "change_tilepyramid",
    ),
}


def give_curators_their_permissions(sender: AppConfig, using: str, **_kwargs: Any) -> None:
    """After the migrations of an app: the group exists and has at least the permissions listed above.

    What an administrator added to the group stays.
    """
    from django.contrib.auth.management import create_permissions
    from django.contrib.auth.models import Group, Permission

    codenames = PERMISSIONS.get(sender.label)
    if not codenames:
        return
    # Django makes an app's permissions by the same signal, maybe after this call; it may run twice.
    create_permissions(sender, verbosity=0, using=using)
    group, _ = Group.objects.using(using).get_or_create(name=GROUP_NAME)
    group.permissions.add(
        *Permission.objects.using(using).filter(content_type__app_label=sender.label, codename__in=codenames)
    )
