"""Becoming an expert: asked by a person, decided once by a curator, told by mail."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client

from apps.accounts.forms import has_orcid_checksum
from apps.accounts.models import ExpertApplication, OutgoingMail
from apps.accounts.services import (
    ApplicationDecidedError,
    ApplicationPendingError,
    OwnApplicationError,
    apply_as_expert,
    decide_application,
)
from tests.accounts.conftest import delivered_mails
from tests.factories import UserFactory

URL = "/account/expert/"
GOOD = {"motivation": "Ten years of Collembola", "affiliation": "INRAE", "orcid": "0000-0002-1825-0097"}


@pytest.mark.django_db
def test_someone_applies_once_and_sees_that_it_waits(signed_in, person):
    assert signed_in.post(URL, GOOD).status_code == 302
    application = ExpertApplication.objects.get()
    assert (application.user, application.status, application.orcid) == (person, "pending", GOOD["orcid"])
    assert b"Ten years of Collembola" in signed_in.get(URL).content
    assert signed_in.post(URL, GOOD).status_code == 302
    assert ExpertApplication.objects.count() == 1


@pytest.mark.django_db
def test_anonymous_visitors_are_asked_to_sign_in():
    assert Client().get(URL)["Location"] == f"/accounts/login/?next={URL}"
    assert Client().post(URL, GOOD).status_code == 302
    assert not ExpertApplication.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [
        {"motivation": ""},
        {"motivation": "m" * 4001},
        {"motivation": "a\x00b"},
        {"affiliation": "a" * 201},
        {"orcid": "0000-0002-1825-0098"},
        {"orcid": "0000-0002-1825"},
        {"orcid": "https://evil.example/0000-0002-1825-0097"},
        {"orcid": "²²²²-0002-1825-0097"},
    ],
)
def test_bad_input_is_named(signed_in, fields):
    answer = signed_in.post(URL, GOOD | fields)
    assert answer.status_code == 422
    assert b"field__error" in answer.content
    assert not ExpertApplication.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["https://orcid.org/0000-0002-1694-233x", " 0000-0002-1694-233X "])
def test_an_orcid_is_taken_as_people_copy_it(signed_in, given):
    signed_in.post(URL, GOOD | {"orcid": given})
    assert ExpertApplication.objects.get().orcid == "0000-0002-1694-233X"


def test_orcid_checksums_are_those_of_the_published_examples():
    assert has_orcid_checksum("0000-0002-1825-0097")
    assert has_orcid_checksum("0000-0002-1694-233X")
    assert not has_orcid_checksum("0000-0002-1694-2339")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "approve", "said"),
    [("en", True, "You are an expert on Podura now"), ("en", False, "Your application on Podura")],
)
def test_the_decision_reaches_the_applicant_by_mail(curator, language, approve, said):
    applicant = UserFactory.create(language=language)
    application = apply_as_expert(user=applicant, motivation="I know them")
    decided = decide_application(
        application=application, by=curator, approve=approve, note="See <you> & soon"
    )
    applicant.refresh_from_db()
    assert applicant.is_expert is approve
    assert (decided.decided_by, decided.status) == (curator, "approved" if approve else "refused")
    assert decided.decided_at
    (message,) = delivered_mails()
    assert (message.to, message.subject) == ([applicant.email], said)
    assert "See <you> & soon" in message.body


@pytest.mark.django_db
def test_it_refuses_a_second_decision(curator):
    application = apply_as_expert(user=UserFactory.create(), motivation="I know them")
    decide_application(application=application, by=curator, approve=True)
    with pytest.raises(ApplicationDecidedError):
        decide_application(application=application, by=curator, approve=False)
    application.user.refresh_from_db()
    assert application.user.is_expert
    assert OutgoingMail.objects.count() == 1


@pytest.mark.django_db
def test_nobody_decides_on_their_own_application(curator):
    application = apply_as_expert(user=curator, motivation="I know them")
    with pytest.raises(OwnApplicationError):
        decide_application(application=application, by=curator, approve=True)
    curator.refresh_from_db()
    assert not curator.is_expert


@pytest.mark.django_db
def test_after_a_refusal_one_may_apply_again_but_not_twice_at_once(curator):
    person = UserFactory.create()
    decide_application(
        application=apply_as_expert(user=person, motivation="first"), by=curator, approve=False
    )
    apply_as_expert(user=person, motivation="second")
    with pytest.raises(ApplicationPendingError):
        apply_as_expert(user=person, motivation="third")


@pytest.mark.django_db
def test_a_refusal_shows_the_note_and_the_form_again(signed_in, person, curator):
    application = apply_as_expert(user=person, motivation="I know them")
    decide_application(application=application, by=curator, approve=False, note="Tell us more")
    page = signed_in.get(URL).content.decode()
    assert "Tell us more" in page
    assert 'name="motivation"' in page


@pytest.mark.django_db(transaction=True)
def test_of_two_curators_at_once_one_decides():
    application = apply_as_expert(user=UserFactory.create(), motivation="I know them")
    curators = UserFactory.create_batch(2)

    def decide(curator) -> bool:
        try:
            decide_application(application=application, by=curator, approve=True)
        except ApplicationDecidedError:
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(decide, curators)) == [False, True]
    assert OutgoingMail.objects.count() == 1
