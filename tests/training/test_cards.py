"""Model cards: complete, the same on the page and as Markdown, and nothing that people wrote becomes markup."""

from itertools import pairwise

import pytest

from apps.training.card_markdown import markdown_of
from apps.training.cards import read_card
from tests.factories import LabelFactory, SurveyFactory
from tests.training.factories import (
    CandidateFactory,
    ComparisonFactory,
    DatasetItemFactory,
    ModelImportFactory,
    TrainingRunFactory,
)
from tests.training.measured import measured_evaluation

pytestmark = pytest.mark.django_db


@pytest.fixture
def version():
    """Trained from another one on a dataset with licences, measured, compared."""
    parent = CandidateFactory()
    model = parent.registered_model
    version = CandidateFactory(registered_model=model, parent=parent, origin="trained")
    run = TrainingRunFactory(
        registered_model=model,
        base_version=parent,
        version=version,
        status="done",
        epochs_done=40,
        seconds_spent=600,
        code_commit="c0ffee" + "0" * 34,
        hardware={"cpu": "EPYC", "cores": 2, "memory_bytes": 8 << 30, "gpus": [], "versions": {"torch": "2"}},
    )
    for number in range(3):
        DatasetItemFactory(
            dataset=run.dataset,
            licence="CC0-1.0" if number else "CC-BY-NC-4.0",
            attribution="Jana | <script>" if number else "",
        )
    measured_evaluation(version)
    ComparisonFactory(
        registered_model=model,
        champion=parent,
        challenger=version,
        status="done",
        verdict="refused",
        rules=[
            {
                "code": "latency",
                "passed": False,
                "champion": 10.0,
                "challenger": 20.0,
                "difference": 2.0,
                "threshold": 1.2,
            }
        ],
    )
    return version


def texts(client, version):
    """The page and the Markdown file."""
    address = f"/models/{version.registered_model.name}/{version.number}"
    page = client.get(f"{address}/").content.decode()
    answer = client.get(f"{address}.md")
    assert answer["Content-Type"] == "text/markdown; charset=utf-8"
    assert "attachment" in answer["Content-Disposition"]
    return page, answer.content.decode()


def test_it_says_everything_that_the_database_knows(client, version):
    for text in texts(client, version):
        for words in (
            version.weights_sha256,
            version.run.dataset.digest,
            "CC0-1.0",
            "CC-BY-NC-4.0",
            "0.4",  # the interval's lower end
            "EPYC, 2 cores",
            "8.0 GiB",
            "c0ffee",
            "10 min",
            "40 / 40",
            str(version.parent),
            "Latency a photo",
            "failed",
        ):
            assert words in text.replace("\\", ""), words


def test_limits_are_told(client, version):
    survey = SurveyFactory(registered_model=version.registered_model)
    for code in ("CER", "ISO_MIN", "MITE"):
        LabelFactory(survey=survey, code=code, scientific_name="", vernacular_en=f"the {code}")
    limits = " ".join(read_card(version).limits)
    assert "It does not know the MITE" in limits
    assert "Too few test animals to say much (fewer than 10): the ISO_MIN." in limits
    assert "Of the CER it misses more than half." in limits
    assert "off by 20 points" in limits
    assert "about 117 px" in limits


def test_names_of_people_stay_words(client, version):
    page, markdown = texts(client, version)
    assert "<script>" not in page.replace('<script type="application/json">', "").split("</head>")[1]
    assert "Jana \\| \\<script\\>" in markdown


def test_photos_that_were_withdrawn_are_counted(client, version):
    version.run.dataset.items.filter(attribution="").update(is_withdrawn=True)
    page, markdown = texts(client, version)
    assert "1 photo that it, or what it was fine-tuned from, learned from was withdrawn since." in page
    assert "withdrawn since: 1." in markdown


def test_the_public_gets_no_address_of_what_shows_photos(client, version):
    page, _markdown = texts(client, version)
    assert "/models/evaluations/" not in page
    assert "/models/runs/" not in page
    assert "/models/comparisons/" not in page


def test_weights_from_outside_say_where_they_come_from(client):
    version = CandidateFactory(card="# Card\n<img src=x onerror=alert(1)>", metrics={"map50": 0.9})
    ModelImportFactory(
        registered_model=version.registered_model,
        version=version,
        licence="AGPL-3.0",
        note="From the lab of Jana",
        requested_by=None,
    )
    page, markdown = texts(client, version)
    assert "From the lab of Jana" in page
    assert "AGPL-3.0" in markdown
    assert "&lt;img src=x" in page
    assert "As told by whoever made the weights" in page
    assert "It was not measured on test photos here yet" in page


def test_a_bare_version_has_a_card_too(client):
    version = CandidateFactory()
    page, markdown = texts(client, version)
    assert "Not measured yet." in page
    assert "Not measured yet." in markdown


def test_the_markdown_is_whole_in_french(client, version):
    client.cookies["django_language"] = "fr"
    _page, markdown = texts(client, version)
    assert markdown.startswith("# ")
    assert "0,5" in markdown


def test_tables_of_the_markdown_have_the_same_columns_in_every_row(version):
    lines = markdown_of(read_card(version)).splitlines()
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.replace("\\|", "").count("|") == line.replace("\\|", "").count("|"), line


def test_a_card_takes_few_queries(client, version, django_assert_max_num_queries):
    address = f"/models/{version.registered_model.name}/{version.number}/"
    with django_assert_max_num_queries(20):
        client.get(address)
