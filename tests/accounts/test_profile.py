"""The account page and what hangs on it."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils.translation import gettext as _
from django.utils.translation import override

from apps.accounts.curators import GROUP_NAME
from apps.accounts.models import ApiClient
from tests.accounts.conftest import verified
from tests.factories import ApiClientFactory, UserFactory

pytestmark = pytest.mark.django_db
URL = "/account/"


def test_a_public_name_and_a_language_are_saved_and_the_pages_follow(signed_in, person):
    answer = signed_in.post(URL, {"display_name": " Ève\u202e  B. ", "language": "fr"})
    assert answer.status_code == 302
    person.refresh_from_db()
    assert (person.display_name, person.language) == ("Ève B.", "fr")
    page = signed_in.get(URL)
    assert page.headers["Content-Language"] == "fr"
    with override("fr"):
        assert _("Password") in page.content.decode()


@pytest.mark.parametrize(
    "fields", [{"display_name": "n" * 81}, {"language": "xx"}, {"language": ""}, {"display_name": "a\x00"}]
)
def test_bad_input_is_named_and_nothing_saved(signed_in, person, fields):
    answer = signed_in.post(URL, {"display_name": "New", "language": "fr"} | fields)
    assert answer.status_code == 422
    assert b"field__error" in answer.content
    person.refresh_from_db()
    assert person.language == "en"


def test_nothing_but_the_two_fields_can_be_changed(signed_in, person):
    signed_in.post(
        URL, {"display_name": "N", "language": "en", "is_staff": "1", "is_expert": "1", "email": "x@y.z"}
    )
    before = person.email
    person.refresh_from_db()
    assert (person.is_staff, person.is_expert, person.email) == (False, False, before)


def test_anonymous_visitors_are_asked_to_sign_in():
    assert Client().get(URL)["Location"] == f"/accounts/login/?next={URL}"


def test_the_page_is_not_kept_by_caches(signed_in):
    assert "no-store" in signed_in.get(URL).headers["Cache-Control"]


def test_a_form_without_the_csrf_token_is_refused(person):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person)
    assert strict.post(URL, {"display_name": "N", "language": "en"}).status_code == 403


def test_one_sees_and_revokes_only_ones_own_apps(signed_in, person):
    mine = ApiClientFactory(owner=person, name="Field app")
    other = ApiClientFactory(owner=UserFactory.create(), name="Somebody's app")
    page = signed_in.get(URL).content.decode()
    assert "Field app" in page
    assert "Somebody" not in page
    assert signed_in.post(f"/account/clients/{other.client_id}/revoke/").status_code == 404
    for _time in range(2):
        assert signed_in.post(f"/account/clients/{mine.client_id}/revoke/").status_code == 302
    assert signed_in.get(f"/account/clients/{mine.client_id}/revoke/").status_code == 405
    assert dict(ApiClient.objects.values_list("name", "is_active")) == {
        "Field app": False,
        "Somebody's app": True,
    }


def test_the_page_takes_the_same_queries_for_one_app_as_for_twenty(
    signed_in, person, django_assert_max_num_queries
):
    for index in range(20):
        ApiClientFactory(owner=person, name=f"App {index}")
    with django_assert_max_num_queries(9):
        signed_in.get(URL)


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/email/",
        "/accounts/password/change/",
        "/accounts/2fa/",
        "/accounts/logout/",
        "/accounts/reauthenticate/",
        "/account/expert/",
    ],
)
def test_the_pages_around_it_have_our_frame_and_no_inline_script_or_style(signed_in, path):
    answer = signed_in.get(path, follow=True)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert 'class="site-header"' in page
    assert " style=" not in page
    assert "onclick" not in page
    assert page.count("<h1") == 1


def test_two_factor_can_be_turned_on_after_giving_the_password_again(person):
    from allauth.mfa.models import Authenticator
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time

    from tests.factories import PASSWORD

    client = Client()
    client.force_login(person)
    asked = client.get("/accounts/2fa/totp/activate/")
    assert asked["Location"].startswith("/accounts/reauthenticate/")
    assert client.post(asked["Location"], {"password": PASSWORD}).status_code == 302
    form = client.get("/accounts/2fa/totp/activate/")
    secret = form.context["form"].secret
    code = format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))
    assert client.post("/accounts/2fa/totp/activate/", {"code": code}).status_code == 302
    assert Authenticator.objects.filter(user=person, type="totp").exists()
    assert b"site-header" in client.get("/accounts/2fa/recovery-codes/").content
    anew = Client().post("/accounts/login/", {"login": person.email, "password": PASSWORD})
    assert anew["Location"].startswith("/accounts/2fa/authenticate/")


# --- The mailbox of the demonstration ---------------------------------------------------------------------


def test_the_mailbox_exists_in_the_demonstration_only(settings):
    settings.DEMO = False
    assert Client().get("/account/mailbox/").status_code == 404


def test_the_mailbox_shows_what_the_site_wrote_with_its_links(settings, tmp_path):
    settings.DEMO = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path / "mail")
    assert b"No mail yet" in Client().get("/account/mailbox/").content
    client = Client()
    data = {"email": "new@podura.example", "password1": "under the bark it is damp"}
    client.post("/accounts/signup/", data | {"password2": data["password1"], "display_name": "<b>"})
    from apps.accounts.mails import send_due_mails

    send_due_mails()
    page = client.get("/account/mailbox/").content.decode()
    assert "new@podura.example" in page
    assert 'href="http://testserver/accounts/confirm-email/' in page
    fragment = client.get("/account/mailbox/", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in fragment


# --- Curators ---------------------------------------------------------------------------------------------


def test_curators_may_do_their_work_but_not_change_who_may_do_what(curator):
    from django.contrib.auth.models import Group

    curator.groups.add(Group.objects.get(name=GROUP_NAME))
    for allowed in (
        "accounts.change_expertapplication",
        "observations.change_survey",
        "observations.change_label",
        "observations.delete_observation",
        "observations.delete_comment",
        "accounts.view_user",
    ):
        assert curator.has_perm(allowed), allowed
    for denied in (
        "accounts.change_user",
        "accounts.add_user",
        "auth.change_group",
        "auth.change_permission",
    ):
        assert not curator.has_perm(denied), denied


def test_every_permission_listed_for_curators_exists():
    from apps.accounts.curators import PERMISSIONS

    for app, codenames in PERMISSIONS.items():
        found = Permission.objects.filter(content_type__app_label=app, codename__in=codenames)
        assert set(found.values_list("codename", flat=True)) == set(codenames)


def test_a_second_person_cannot_take_an_address_that_is_in_use(signed_in, person):
    other = verified(UserFactory.create())
    signed_in.post("/accounts/email/", {"action_add": "", "email": other.email})
    assert not person.emailaddress_set.filter(email=other.email, verified=True).exists()


def test_staff_enter_the_administration_only_with_two_factor(curator, settings):
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    client = Client()
    client.force_login(curator)
    assert client.get("/admin/").status_code == 200
    settings.STAFF_TWO_FACTOR = True
    assert client.get("/admin/")["Location"] == "/accounts/2fa/"
    assert client.get("/account/").status_code == 200
    TOTP.activate(curator, generate_totp_secret())
    RecoveryCodes.activate(curator)
    assert client.get("/admin/").status_code == 200
