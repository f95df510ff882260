"""Every text of the site stands in French, too."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext

FRENCH = settings.BASE_DIR / "locale" / "fr" / "LC_MESSAGES" / "django.po"
FRENCH_SCRIPTS = FRENCH.with_name("djangojs.po")
LOOSE = re.compile(r"\S [:;?!»](?=[\s<)…]|$)|« ")
"""Punctuation that an ordinary space would let begin a line."""
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}|%s")


@pytest.mark.parametrize(("catalogue", "at_least"), [(FRENCH, 1_300), (FRENCH_SCRIPTS, 140)])
def test_no_message_is_missing_or_doubtful(catalogue: Path, at_least: int) -> None:
    entries = [entry for entry in polib.pofile(str(catalogue)) if not entry.obsolete]
    assert not [entry.msgid for entry in entries if not entry.translated() or "fuzzy" in entry.flags]
    assert len(entries) > at_least


@pytest.mark.parametrize("catalogue", [FRENCH, FRENCH_SCRIPTS])
def test_translations_keep_the_placeholders(catalogue: Path) -> None:
    for entry in polib.pofile(str(catalogue)):
        texts = [entry.msgid, entry.msgid_plural] if entry.msgid_plural else [entry.msgid]
        forms = entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]
        wanted = [set(PLACEHOLDER.findall(text)) for text in texts]  # "one" may be written out
        for form in forms:
            assert set(PLACEHOLDER.findall(form)) in wanted, entry.msgid


@pytest.mark.parametrize("catalogue", [FRENCH, FRENCH_SCRIPTS])
def test_french_punctuation_stays_with_its_word(catalogue: Path) -> None:
    texts = [
        text
        for entry in polib.pofile(str(catalogue))
        for text in (entry.msgstr, *entry.msgstr_plural.values())
    ]
    assert not [text for text in texts if LOOSE.search(text)]


def texts_of(module: Path) -> Iterator[str]:
    """What a module has translated, under whatever name it calls gettext."""
    tree = ast.parse(module.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {
        name.asname or name.name
        for node in imports
        if node.module == "django.utils.translation"
        for name in node.names
        if name.name.startswith(("gettext", "ngettext"))
    }
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
        if is_call and node.args and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value


def test_no_text_of_the_code_escapes_the_collection() -> None:
    """xgettext looks for a few names of the function only, and not into f-strings."""
    known = {entry.msgid for entry in polib.pofile(str(FRENCH))}
    modules = [path for part in ("apps", "project") for path in (settings.BASE_DIR / part).rglob("*.py")]
    assert {text for module in modules for text in texts_of(module)} - known == set()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("xgettext"), reason="gettext is not installed")
@pytest.mark.parametrize("catalogue", [FRENCH, FRENCH_SCRIPTS])
def test_every_text_of_the_code_is_in_the_catalogue(tmp_path: Path, catalogue: Path) -> None:
    copy = tmp_path / "checkout"
    for part in ("apps", "project", "static", "templates", "locale", "manage.py"):
        source = settings.BASE_DIR / part
        if source.is_dir():
            shutil.copytree(source, copy / part)
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(source, copy / part)
    command = [
        sys.executable,
        "manage.py",
        "makemessages",
        "--locale",
        "fr",
        "--no-location",
        "--no-obsolete",
    ]
    subprocess.run(
        [*command, "--domain", catalogue.stem, "--ignore", "static/vendor/*"],
        cwd=copy,
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "DEBUG": "1", "LC_ALL": "C.UTF-8"},
    )
    before = {entry.msgid for entry in polib.pofile(str(catalogue)) if not entry.obsolete}
    after = {entry.msgid for entry in polib.pofile(str(copy / catalogue.relative_to(settings.BASE_DIR)))}
    assert after <= before, sorted(after - before)


def test_french_is_spoken() -> None:
    with translation.override("fr"):
        assert gettext("Gallery") == "Galerie"
