from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork
from apps.observations.models.photo import Photo


class TilePyramid(LeasedWork):
    """The deep-zoom tiles of a photo larger than its display rendition; as leased work, their cutting.

    Each attempt writes to a folder of its own, `tiles/<folder>/<level>/<column>_<row>.jpg` in the renditions' storage.
    Which tiles there are follows from the photo's size (`pyramid.levels_of`).
    """

    photo = models.OneToOneField(
        Photo, models.CASCADE, related_name="tile_pyramid", verbose_name=_("photo"), editable=False
    )
    folder = models.UUIDField(null=True, editable=False)
    tiles = models.PositiveIntegerField(_("tiles"), null=True, editable=False)
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"), null=True, editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("tiles of a large photo")
        verbose_name_plural = _("tiles of large photos")
        constraints = [
            *LeasedWork.Meta.constraints,
            models.CheckConstraint(
                name="tiles_done_are_somewhere",
                condition=~models.Q(status="done")
                | models.Q(folder__isnull=False, tiles__gt=0, size_bytes__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.photo)

    @property
    def folder_name(self) -> str:
        """In the renditions' storage; empty while there is none. The slash at its end says that it is a folder."""
        return f"tiles/{self.folder}/" if self.folder else ""
