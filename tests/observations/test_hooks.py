"""What apps to the right may add to pages and files, and the news they get."""

import csv
import io
import json
import re
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction
from django.dispatch import Signal
from django.template import engines
from django.test import Client
from django.urls import reverse

from apps.accounts.services import close_account
from apps.observations import signals
from apps.observations.hooks import BoxMark, Hook, Panel, box_marks, personal_data, photo_panels
from apps.observations.models import DataExport, Photo
from apps.observations.services import data_export
from apps.observations.services.closing import erase_closed_accounts
from apps.observations.services.comments import CommentRefusedError, add_comment
from apps.observations.services.deletion import delete_observation, delete_photo, delete_photos
from tests.factories import (
    DetectionFactory,
    ModelVersionFactory,
    PhotoFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@contextmanager
def registered(hook: Hook, function: Any) -> Iterator[None]:
    hook.register(function)
    try:
        yield
    finally:
        hook.unregister(function)


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    news: list[dict[str, Any]] = []

    def hear(sender: object, signal: object, **values: Any) -> None:
        news.append(values)

    signal.connect(hear)
    try:
        yield news
    finally:
        signal.disconnect(hear)


@pytest.fixture
def photo() -> Photo:
    version = ModelVersionFactory()
    photo = PhotoFactory(status="done", model_version=version, detection_count=2)
    for number in (1, 2):
        DetectionFactory(photo=photo, model_version=version, number=number)
    return photo


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> str:
    """A fragment of another app."""
    from django.template.loaders.filesystem import Loader

    original = Loader.get_contents

    def get_contents(self: Loader, origin: Any) -> str:
        if origin.template_name == "other/panel.html":
            return "<p data-panel>{{ said }} {{ photo.name }} {{ request.path }}</p>"
        return str(original(self, origin))

    monkeypatch.setattr(Loader, "get_contents", get_contents)
    for engine in engines.all():
        for loader in engine.engine.template_loaders:
            loader.reset()
    return "other/panel.html"


def page(photo: Photo) -> str:
    response = Client().get(reverse("observations:photo", args=[photo.public_id]))
    assert response.status_code == 200
    return response.content.decode()


class TestPhotoPage:
    def test_panels_stand_below_the_list_with_their_own_context(self, photo, template):
        with registered(photo_panels, lambda _request, _photo: Panel(template, {"said": "<b>3 answers</b>"})):
            text = page(photo)
        assert (
            f"<p data-panel>&lt;b&gt;3 answers&lt;/b&gt; {photo.name} /photos/{photo.public_id}/</p>" in text
        )
        assert text.index('class="animals"') < text.index("data-panel") < text.index("result__below")
        assert "data-panel" not in page(photo)

    def test_a_plain_pair_is_a_panel_too_and_none_is_nothing(self, photo, template):
        with (
            registered(photo_panels, lambda _request, _photo: (template, {"said": "plain"})),
            registered(photo_panels, lambda _request, _photo: None),
        ):
            assert page(photo).count("data-panel") == 1

    def test_one_that_breaks_does_not_take_the_page_with_it(self, photo, template):
        def breaking(_request: object, _photo: object) -> None:
            raise RuntimeError("no such table")

        with (
            registered(photo_panels, breaking),
            registered(box_marks, breaking),
            registered(photo_panels, lambda _request, _photo: (template, {"said": "whole"})),
        ):
            assert "whole" in page(photo)

    def test_marks_stand_beside_their_boxes_and_are_escaped(self, photo):
        marks = {1: BoxMark("confirmed", "Confirmed <by> an expert"), 9: BoxMark("removed", "No such box")}
        with registered(box_marks, lambda _request, _photo: marks):
            text = page(photo)
        first, second = re.findall(r'<li class="animal".*?</li>', text, re.DOTALL)
        assert "animal__mark--confirmed" in first
        assert "Confirmed &lt;by&gt; an expert" in first
        assert "animal__mark" not in second
        assert 'class="mark mark--confirmed" id="mark-1"' in text
        assert 'class="mark" id="mark-2"' in text
        assert "No such box" not in text

    def test_the_first_mark_of_a_box_counts(self, photo):
        with (
            registered(box_marks, lambda _request, _photo: {1: BoxMark("confirmed", "first")}),
            registered(box_marks, lambda _request, _photo: {1: BoxMark("removed", "second")}),
        ):
            text = page(photo)
        assert "first" in text
        assert "second" not in text

    def test_registering_twice_is_once(self):
        hook: Hook[[], int] = Hook()

        @hook.register
        def one() -> int:
            return 1

        hook.register(one)
        assert list(hook.answers()) == [1]


class TestPersonalData:
    def export(self, person, function) -> zipfile.ZipFile:
        with registered(personal_data, function):
            data_export.request_export(user=person)
            data_export.pack_next_export()
        return zipfile.ZipFile(io.BytesIO(DataExport.objects.get().file.read()))

    def test_files_of_other_apps_are_packed_row_by_row(self):
        person = UserFactory()
        row = {"id": uuid.UUID(int=7), "at": datetime(2026, 11, 21, tzinfo=UTC), "label": "é"}

        def files(user):
            assert user == person
            yield "annotations.json", (row for _ in range(2))
            yield "agreement.csv", iter([{"label": "=cmd()", "kappa": 0.5}, {"label": "B", "kappa": 1}])
            yield "nothing.json", []
            yield "nothing.csv", []

        archive = self.export(person, files)
        stored = {"id": str(row["id"]), "at": "2026-11-21T00:00:00Z", "label": "é"}
        assert json.loads(archive.read("annotations.json")) == [stored, stored]
        table = list(csv.DictReader(io.StringIO(archive.read("agreement.csv").decode("utf-8-sig"))))
        assert table == [{"label": "'=cmd()", "kappa": "0.5"}, {"label": "B", "kappa": "1"}]
        assert json.loads(archive.read("nothing.json")) == []
        assert "annotations.json" in archive.read("README.txt").decode()
        assert "data.json" in archive.read("README.txt").decode()

    @pytest.mark.parametrize("name", ["../evil.json", "data.json", "Not A Name.json", "code.py", ""])
    def test_a_name_that_is_none_or_taken_fails_the_export_visibly(self, name):
        person = UserFactory()
        with registered(personal_data, lambda _user: [(name, [])]):
            data_export.request_export(user=person)
            data_export.pack_next_export()
        assert DataExport.objects.get().status != "done"

    def test_half_of_somebody_s_data_is_not_handed_out(self):
        def breaking(_user):
            yield "annotations.json", ({"n": 1 // (2 - n)} for n in range(5))

        with registered(personal_data, breaking):
            data_export.request_export(user=UserFactory())
            for _attempt in range(4):
                data_export.pack_next_export()
        export = DataExport.objects.get()
        assert (export.status, export.failure_reason, bool(export.file)) == (
            "failed",
            "ZeroDivisionError",
            False,
        )


class TestNews:
    def test_a_comment_is_told_once_after_it_is_committed(self, photo, django_capture_on_commit_callbacks):
        author = UserFactory()
        values = {"observation": photo.observation, "photo": photo, "author": author, "body": "a mite"}
        with heard(signals.comment_added) as news:
            with django_capture_on_commit_callbacks(execute=True):
                comment = add_comment(**values, box_number=1)
                add_comment(**values, box_number=1)
                assert news == []
            with pytest.raises(CommentRefusedError), django_capture_on_commit_callbacks(execute=True):
                add_comment(**values, box_number=77)
        assert news == [{"comment_id": comment.pk}]

    def test_deleted_photos_are_told_with_what_is_known_of_them(self, django_capture_on_commit_callbacks):
        photos = PhotoFactory.create_batch(2)
        with (
            heard(signals.photos_withdrawn) as news,
            django_capture_on_commit_callbacks(execute=True),
        ):
            assert delete_photos(photo_ids=[photo.pk for photo in photos]) == 2
            assert delete_photos(photo_ids=[photo.pk for photo in photos]) == 0
        assert news == [
            {
                "public_ids": [photo.public_id for photo in photos],
                "sha256s": [photo.sha256 for photo in photos],
            }
        ]

    def test_every_way_of_deleting_tells(self, django_capture_on_commit_callbacks):
        first, second, third = PhotoFactory.create_batch(3)
        with (
            heard(signals.photos_withdrawn) as news,
            django_capture_on_commit_callbacks(execute=True),
        ):
            delete_photo(photo=first)
            delete_observation(observation=second.observation)
            close_account(user=third.contributor)
            erase_closed_accounts()
        assert [told["sha256s"] for told in news] == [[first.sha256], [second.sha256], [third.sha256]]

    def test_a_deletion_that_is_rolled_back_is_not_told(self, django_capture_on_commit_callbacks):
        photo = PhotoFactory()
        with (
            heard(signals.photos_withdrawn) as news,
            django_capture_on_commit_callbacks(execute=True),
            transaction.atomic(),
        ):
            delete_photo(photo=photo)
            transaction.set_rollback(True)
        assert news == []

    def test_a_receiver_that_breaks_stops_nobody(self, django_capture_on_commit_callbacks):
        photo = PhotoFactory()

        def breaking(**_news: Any) -> None:
            raise RuntimeError("broken")

        signals.photos_withdrawn.connect(breaking)
        try:
            with heard(signals.photos_withdrawn) as news, django_capture_on_commit_callbacks(execute=True):
                delete_photo(photo=photo)
        finally:
            signals.photos_withdrawn.disconnect(breaking)
        assert len(news) == 1
        assert not Photo.objects.exists()
