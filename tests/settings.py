"""The project's settings for tests: private servers are started, files go to a folder that is thrown away.

pytest-django imports this before any conftest, so this is where plain `pytest` gets its database from. Worker and
server processes that tests start import it too; they are given DATABASE_URL, REDIS_URL and STORAGE_URL.
"""

import os

from tests.support.services import ensure_services, throwaway_folder

os.environ |= {
    "DEBUG": "0",
    "DEMO": "0",
    "HTTPS": "0",
    "STATIC_MANIFEST": "0",
    "SECRET_KEY": os.environ.get("SECRET_KEY") or "only-for-tests-only-for-tests-only-for-tests",
    "SITE_URL": "http://testserver",
    "STAFF_TWO_FACTOR": "0",
    "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
}
# Each of several parallel test processes has files and messages of its own, and hands them on to what it starts.
_process = os.environ.get("PYTEST_XDIST_WORKER", "alone")
if os.environ.get("PODURA_TEST_PROCESS") != _process:
    _is_given = "STORAGE_URL" in os.environ and "PODURA_TEST_PROCESS" not in os.environ
    if not _is_given:
        os.environ["STORAGE_URL"] = f"file://{throwaway_folder()}/media"
    os.environ["PODURA_TEST_PROCESS"] = _process
    os.environ.pop("PODURA_TEST_KEY_PREFIX", None)
ensure_services()

from project.settings import *  # noqa: E402, F403
from project.settings import CELERY_BROKER_TRANSPORT_OPTIONS, DATABASES, STORAGES  # noqa: E402

ALLOWED_HOSTS = ["*"]
# Hashing passwords slowly is not what the tests are about.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True
# Messages of tests must not wake the workers of a running site on the same Redis.
# Processes that a test starts get its prefix handed on.
CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = os.environ.setdefault(
    "PODURA_TEST_KEY_PREFIX",
    f"tests:{DATABASES['default']['NAME']}:{_process}:",
)
# Counters of rate limits would leak from test to test, and from one parallel process to another; that the site lives
# with a Redis that vanishes is tested with a real one (tests/project/test_cache.py).
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
# Boxes that follow from the bytes, at once and without weights; slow tests name the engine's own loader instead.
DETECTOR_LOADER = os.environ.get("PODURA_TEST_DETECTOR", "tests.support.stub_detector.load")
