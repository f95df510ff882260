"""/api/docs/ in a real browser: it shows the API with nothing from outside and nothing our policy forbids."""

import pytest
from playwright.sync_api import sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_documentation_opens_offline_and_within_the_policy(live_server, monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    complaints, foreign = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = browser.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: foreign.append(request.url))
        page.goto(f"{live_server.url}/api/docs/")
        page.get_by_text("Send photos", exact=True).first.wait_for()
        page.get_by_text("Send photos", exact=True).first.click()
        page.get_by_role("button", name="Try it out").wait_for()
        browser.close()
    assert complaints == []
    assert all(url.startswith((live_server.url, "data:", "blob:")) for url in foreign), foreign
