"""Who gets into the console, what its pages show, and that they stay fast."""

import re

import pytest
from django.contrib import admin
from django.contrib.admin.utils import flatten
from django.urls import reverse
from django.utils import translation

from apps.observations.models import Photo
from tests.factories import CommentFactory, ObservationFactory, PhotoFactory, UserFactory

pytestmark = pytest.mark.django_db
TABLES = {
    "observations": [
        *("survey", "label", "observation", "photo", "detection"),
        *("comment", "archiveupload", "placereview", "tilepyramid", "refusedfile"),
    ],
    "training": ["registeredmodel", "modelversion"],
    "accounts": ["expertapplication", "apiclient", "outgoingmail", "user"],
}
LISTS = [f"admin:{app}_{model}_changelist" for app, models in TABLES.items() for model in models]


def detail(rows, app, model):
    row = rows.observation.contributor if model == "user" else getattr(rows, model)
    return reverse(f"admin:{app}_{model}_change", args=[row.pk])


class TestDoor:
    @pytest.mark.parametrize("name", ["admin:index", *LISTS])
    def test_a_visitor_is_sent_to_the_sites_own_sign_in(self, client, name):
        response = client.get(reverse(name), follow=True)
        assert response.redirect_chain[-1][0].startswith(reverse("account_login"))

    @pytest.mark.parametrize("name", ["admin:index", *LISTS])
    def test_a_contributor_does_not_get_in(self, client, name):
        client.force_login(UserFactory())
        assert client.get(reverse(name), follow=True).status_code == 403

    @pytest.mark.parametrize("name", LISTS)
    def test_staff_without_permissions_see_no_table(self, client, name):
        client.force_login(UserFactory(is_staff=True))
        assert client.get(reverse(name)).status_code == 403

    def test_staff_without_permissions_see_an_empty_overview(self, client):
        client.force_login(UserFactory(is_staff=True))
        response = client.get(reverse("admin:index"))
        assert response.status_code == 200
        assert response.context["cards"] == []


class TestPages:
    @pytest.mark.parametrize("language", ["en", "fr"])
    @pytest.mark.parametrize("name", ["admin:index", *LISTS])
    def test_a_curator_sees_each_list(self, client, curator, rows, name, language):
        client.force_login(curator)
        with translation.override(language):
            response = client.get(reverse(name), headers={"Accept-Language": language})
        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("app", "model"), [(app, model) for app, models in TABLES.items() for model in models]
    )
    def test_a_curator_sees_each_row(self, client, curator, rows, app, model):
        client.force_login(curator)
        text = client.get(detail(rows, app, model)).content.decode()
        assert "<script>alert" not in text
        assert "secret link" not in text

    @pytest.mark.parametrize("name", ["admin:index", "admin:observations_photo_changelist"])
    def test_no_page_asks_anything_of_another_site(self, client, root, rows, name):
        client.force_login(root)
        text = client.get(reverse(name)).content.decode()
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", text), "inline script"

    def test_no_script_may_be_inline(self, client, root):
        client.force_login(root)
        policy = client.get(reverse("admin:index"))["Content-Security-Policy"]
        (scripts,) = (part for part in policy.split(";") if part.strip().startswith("script-src"))
        assert "unsafe-inline" not in scripts

    def test_boxes_are_drawn_on_the_photo(self, client, curator, rows):
        client.force_login(curator)
        with translation.override("fr"):
            text = client.get(detail(rows, "observations", "photo")).content.decode()
        assert 'viewBox="0 0 640 640"' in text
        assert '<rect x="10" y="20" width="100" height="50"' in text
        assert reverse("observations:display", args=[rows.photo.public_id]) in text

    @pytest.mark.parametrize("model", ["observation", "photo", "detection", "comment"])
    def test_the_number_of_queries_of_a_list_does_not_grow(
        self, client, curator, rows, model, django_assert_max_num_queries
    ):
        client.force_login(curator)
        url = reverse(f"admin:observations_{model}_changelist")
        client.get(url)
        for _ in range(12):
            CommentFactory(observation=PhotoFactory(observation=ObservationFactory()).observation)
        with django_assert_max_num_queries(20):
            client.get(url)

    def test_a_list_counts_no_further_than_its_limit(self, client, curator, monkeypatch):
        monkeypatch.setattr("apps.common.admin_base.COUNT_LIMIT", 3)
        for _ in range(5):
            ObservationFactory()
        client.force_login(curator)
        response = client.get(reverse("admin:observations_observation_changelist"))
        assert response.context["cl"].paginator.count == 3


class TestSearch:
    @pytest.fixture
    def found(self, client, curator):
        client.force_login(curator)

        def search(text):
            response = client.get(reverse("admin:observations_photo_changelist"), {"q": text})
            assert response.status_code == 200
            return list(response.context["cl"].result_list)

        return search

    def test_by_identifier_digest_number_and_mail(self, found):
        photo = PhotoFactory()
        PhotoFactory()
        for text in (
            str(photo.public_id),
            photo.public_id.hex,
            photo.sha256,
            str(photo.pk),
            photo.contributor.email.upper(),
        ):
            assert found(text) == [photo], text

    @pytest.mark.parametrize("text", ["nothing", "\x00", "9" * 40, "%", "@", "a" * 5000, "🐜"])
    def test_anything_else_finds_nothing_and_breaks_nothing(self, found, text):
        PhotoFactory()
        assert found(text) in ([], list(Photo.objects.all()))


def test_a_coloured_mark_is_of_lists_only():
    """Unfold shows the pair of colour and text as such on the page of one row."""
    for model_admin in admin.site._registry.values():
        groups = model_admin.fieldsets or [("", {"fields": model_admin.fields or ()})]
        names = flatten([group["fields"] for _title, group in groups])
        methods = [getattr(model_admin, name, None) for name in names if isinstance(name, str)]
        assert not [method for method in methods if getattr(method, "label", None)], model_admin
