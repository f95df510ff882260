"""docs/settings.md lists every variable that the code reads, and none that it does not."""

import re

from tests.support.processes import CHECKOUT

READ = re.compile(r'(?:env\.\w+|_one_of|environ\.get|email_url)\(\s*"([A-Z][A-Z0-9_]+)"')
# Read by programs, not by the settings.
OF_COMMANDS = {"PORT", "TORCH_BACKEND", "PYTHON", "CHROMIUM"}
OF_THE_SYSTEM = {
    "PATH",
    "HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "LANG",
    "YOLO_CONFIG_DIR",
    "MAKEFLAGS",
    "WORLD_SIZE",
}


def read_variables():
    files = [*CHECKOUT.glob("project/*.py"), *CHECKOUT.glob("apps/**/*.py"), CHECKOUT / "gunicorn.conf.py"]
    return {name for path in files for name in READ.findall(path.read_text())} - OF_THE_SYSTEM


def documented_variables():
    text = (CHECKOUT / "docs" / "settings.md").read_text()
    return set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", text, re.MULTILINE))


def test_every_variable_is_documented():
    assert read_variables() - documented_variables() == set()


def test_no_documented_variable_is_without_effect():
    assert documented_variables() - read_variables() == OF_COMMANDS


def test_the_variables_of_commands_are_read_there():
    commands = "\n".join((CHECKOUT / "bin" / name).read_text() for name in ("up", "bootstrap", "test"))
    assert {name for name in OF_COMMANDS if not re.search(rf"\b{name}\b", commands)} == set()
