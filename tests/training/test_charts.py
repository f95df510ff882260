"""Charts as data: what is drawn, and the table behind it."""

import json
import re

import pytest
from django.template import Context, Template
from django.utils import translation

from apps.common.charts import Axis, Chart, Series


def make(**changes):
    options = {
        "name": "quality",
        "title": "Quality",
        "x": Axis("epoch", digits=0),
        "y": Axis("share", low=0, high=1),
        "xs": [1, 2, 3],
        "series": [Series("mAP50", [0.1, None, 0.3456789])],
    }
    return Chart(**options | changes)


def rendered(text, chart):
    return Template("{% load charts %}" + text).render(Context({"c": chart}))


def test_the_table_has_a_row_for_each_x_and_a_dash_where_there_is_no_value():
    chart = make()
    assert chart.heads == ["epoch", "mAP50"]
    assert chart.rows == [["1", "0.1"], ["2", "–"], ["3", "0.346"]]


def test_an_interval_has_columns_of_its_own():
    chart = make(series=[Series("mAP50", [0.1, 0.2, 0.3], low=[0.0, 0.1, 0.2], high=[0.2, 0.3, 0.4])])
    assert chart.heads == ["epoch", "mAP50", "mAP50, 95 % ≥", "mAP50, 95 % ≤"]
    assert chart.rows[0] == ["1", "0.1", "0", "0.2"]


def test_notes_stand_beside_what_they_are_about():
    chart = make(notes=["v1", "v2", "v3"], notes_name="version")
    assert [row[1] for row in chart.rows] == ["v1", "v2", "v3"]


def test_numbers_are_written_as_the_reader_writes_them():
    with translation.override("fr"):
        assert make().rows[2][1] == "0,346"


def test_a_tiny_number_is_not_nought():
    chart = make(series=[Series("rate", [0.00002, 0.0, 0.001])])
    assert [row[1] for row in chart.rows] == ["2.00e-05", "0", "0.001"]


@pytest.mark.parametrize(
    "changes",
    [
        {"series": [Series("short", [0.1])]},
        {"series": [Series("band", [0.1, 0.2, 0.3], low=[0.0])]},
        {"notes": ["one"]},
        {"name": 'x" onload="'},
    ],
)
def test_what_does_not_fit_together_is_refused(changes):
    with pytest.raises(ValueError, match=r"values|notes|id"):
        make(**changes)


def test_a_chart_without_a_value_is_empty():
    assert make(series=[Series("none", [None, None, None])]).is_empty
    assert make(xs=[], series=[Series("none", [])]).rows == []
    assert not make().is_empty


def test_the_page_holds_the_data_and_the_open_table():
    page = rendered("{% chart c %}", make())
    assert '<details class="disclosure chart__table" open>' in page
    assert '<td class="num">0.346</td>' in page
    found = re.search(r'<script type="application/json">(.*?)</script>', page)
    data = json.loads(found[1])
    assert data["series"][0]["values"] == [0.1, None, 0.3456789]
    assert data["y"] == {"name": "share", "low": 0, "high": 1, "log": False, "digits": 3}


def test_names_of_people_cannot_become_markup():
    chart = make(title="<b>", series=[Series("</script><img src=x>", [1.0, 2.0, 3.0])])
    page = rendered("{% chart c %}", chart)
    assert "<img" not in page
    assert "<b>" not in page


def test_an_update_replaces_table_and_data_but_not_the_drawing():
    page = rendered("{% chart_update c %}", make())
    assert page.count('hx-swap-oob="true"') == 2
    assert "chart__plot" not in page
