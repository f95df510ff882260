"""One settings file, read from the environment. docs/settings.md lists every variable; a test says so.

Without any variable the project runs self-contained: a private PostgreSQL and Redis that `bin/services`
keeps in `.podura/` of the checkout, files in `.podura/media`, and demo conveniences on.
"""

import json
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from project.storage_url import is_public_store, storages_from_url

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = BASE_DIR / ".podura"
env = environ.Env()


def _private_services() -> dict[str, str]:
    """Where `bin/services` put the private PostgreSQL and Redis of this checkout."""
    path = STATE_DIR / "services.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _one_of(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value: str = env.str(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def _secret_key(*, debug: bool) -> str:
    """From SECRET_KEY; a self-contained checkout makes a key once and keeps it in `.podura/`: no usable default."""
    key: str = env.str("SECRET_KEY", "")
    if key:
        return key
    path = STATE_DIR / "secret_key"
    if not debug and not path.exists():
        raise ImproperlyConfigured("SECRET_KEY must be set when DEBUG is off")
    from django.core.management.utils import get_random_secret_key

    STATE_DIR.mkdir(mode=0o711, exist_ok=True)
    try:
        with path.open("x") as file:
            path.chmod(0o600)
            file.write(get_random_secret_key())
    except FileExistsError:
        pass
    return path.read_text()


# --- Core -----------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", False)
DEMO = env.bool("DEMO", False)  # demo accounts and their printed password; `make run` turns it on
# `manage.py` in a checkout that `make run` prepared works without any variable, beside the running site.
SELF_CONTAINED = not env.str("DATABASE_URL", "") and bool(_private_services())
SECRET_KEY = _secret_key(debug=DEBUG or DEMO)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SITE_NAME = env.str("SITE_NAME", "Podura")
SITE_URL = env.str("SITE_URL", "http://localhost:8000").rstrip("/")
# Where this site's source can be had: the AGPL asks a changed site to offer its own.
SOURCE_URL = env.str("SOURCE_URL", "")
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", 0)  # how many reverse proxies stand in front

INSTALLED_APPS = [
    "apps.accounts",
    "apps.training",
    "apps.observations",
    "apps.annotation",
    "apps.monitoring",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.gis",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "django.forms",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "csp",
    "django_htmx",
    "django_prometheus",
    "django_structlog",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
]

MIDDLEWARE = [
    "apps.common.problems.ApiGuardMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "apps.common.middleware.KnownMethodsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "apps.common.middleware.SecurityHeadersMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.common.request_log.RequestLogMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "apps.accounts.middleware.StaffTwoFactorMiddleware",
    "apps.common.middleware.TimeZoneMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.common.context.site",
            ],
            "builtins": ["django.templatetags.i18n", "django.templatetags.static"],
        },
    }
]

# --- Database, broker, cache ----------------------------------------------------------------------------
_services = _private_services()
DATABASES = {
    "default": env.db_url_config(
        env.str("DATABASE_URL", _services.get("database_url", "postgis:///podura")),
        engine="django.contrib.gis.db.backends.postgis",
    )
}
if _database_name := env.str("PODURA_DB_NAME", ""):
    DATABASES["default"]["NAME"] = _database_name
DATABASES["default"] |= {"CONN_MAX_AGE": env.int("CONN_MAX_AGE", 60), "CONN_HEALTH_CHECKS": True}

REDIS_URL = env.str("REDIS_URL", _services.get("redis_url", "redis://localhost:6379/0"))
CACHE_URL = env.str("CACHE_URL", REDIS_URL)  # production gives the cache an instance of its own
CACHES = {
    "default": {
        "BACKEND": "apps.common.cache.ForgivingRedisCache",
        "LOCATION": CACHE_URL,
        "KEY_PREFIX": f"podura:{DATABASES['default']['NAME']}",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 2},
    }
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

# --- Work queue -----------------------------------------------------------------------------------------
# kombu spells a Unix socket redis+socket://, redis-py unix://
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = ["apps.common.tasks.queue_of"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "global_keyprefix": f"{DATABASES['default']['NAME']}:",
}
CELERY_TASK_PUBLISH_RETRY = False  # a lost wake-up is re-sent by the sweeper; a request never waits for Redis
JOB_LEASE_SECONDS = env.int("JOB_LEASE_SECONDS", 60)
JOB_MAX_ATTEMPTS = env.int("JOB_MAX_ATTEMPTS", 3)
JOB_SWEEP_SECONDS = env.int("JOB_SWEEP_SECONDS", 30)
DETECTION_BATCH_PHOTOS = env.int("DETECTION_BATCH_PHOTOS", 16)
# After a promotion so many of each survey's newest photos are looked at again, if no expert decided on them.
REDETECT_RECENT_PHOTOS = env.int("REDETECT_RECENT_PHOTOS", 2_000)
IDENTIFY_TIMEOUT_SECONDS = env.int("IDENTIFY_TIMEOUT_SECONDS", 30)
IDENTIFY_MAX_WAITING = env.int("IDENTIFY_MAX_WAITING", 4)
CELERY_BEAT_SCHEDULE = {
    "sweep-observations": {
        "task": "apps.observations.tasks.sweep",
        "schedule": JOB_SWEEP_SECONDS,
        "options": {"expires": JOB_SWEEP_SECONDS},
    },
    "sweep-training": {
        "task": "apps.training.tasks.sweep",
        "schedule": JOB_SWEEP_SECONDS,
        "options": {"expires": JOB_SWEEP_SECONDS},
    },
    "sweep-annotation": {
        "task": "apps.annotation.tasks.sweep",
        "schedule": JOB_SWEEP_SECONDS,
        "options": {"expires": JOB_SWEEP_SECONDS},
    },
    "send-mails": {
        "task": "apps.accounts.tasks.send_mails",
        "schedule": JOB_SWEEP_SECONDS,
        "options": {"expires": JOB_SWEEP_SECONDS},
    },
}
CELERY_BEAT_SCHEDULE_FILENAME = env.str("BEAT_SCHEDULE_FILE", str(STATE_DIR / "celerybeat-schedule"))

# --- Files ----------------------------------------------------------------------------------------------
# "default" holds private originals and weights, "renditions" the public pictures without metadata.
STORAGE_URL = env.str("STORAGE_URL", f"file://{STATE_DIR / 'media'}")
STORAGES = storages_from_url(
    STORAGE_URL,
    static_backend="whitenoise.storage.CompressedManifestStaticFilesStorage"
    if env.bool("STATIC_MANIFEST", not DEBUG)
    else "django.contrib.staticfiles.storage.StaticFilesStorage",
)
IS_PUBLIC_STORE = is_public_store(STORAGE_URL)
# How workers load weights: (path, *, sha256, cache_dir) -> Detector. Tests without a model name a stand-in.
DETECTOR_LOADER = "apps.training.engine.detector.load_detector"
MODEL_CACHE_DIR = Path(env.str("MODEL_CACHE_DIR", str(STATE_DIR / "models")))
# Working files of training: pictures as they were fetched, checkpoints. Nothing in it is missed when it is gone.
TRAINING_DIR = Path(env.str("TRAINING_DIR", str(STATE_DIR / "training")))
# How a training is started: JOB.json and --events-fd are added. Tests name a stand-in.
TRAINING_COMMAND = shlex.split(env.str("TRAINING_COMMAND", "")) or [
    sys.executable, "-m", "apps.training.engine.job"
]  # fmt: skip
TRAINING_SILENCE_SECONDS = env.int("TRAINING_SILENCE_SECONDS", 86_400)
MODEL_IMPORT_MAX_BYTES = env.int("MODEL_IMPORT_MAX_BYTES", 512 * 1024 * 1024)
# Runs, metrics and versions are also sent to this MLflow server; empty: to none.
MLFLOW_TRACKING_URI = env.str("MLFLOW_TRACKING_URI", "")
MLFLOW_TRACKING_TOKEN = env.str("MLFLOW_TRACKING_TOKEN", "")
MLFLOW_EXPERIMENT = env.str("MLFLOW_EXPERIMENT", "podura")
CODE_COMMIT = env.str("PODURA_COMMIT", "")  # an image has no .git to ask
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", str(STATE_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_KEEP_ONLY_HASHED_FILES = False

# --- What may come in (reliability: one door for pictures) -----------------------------------------------
PICTURE_MAX_BYTES = env.int("PICTURE_MAX_BYTES", 50 * 1024 * 1024)
PICTURE_MAX_PIXELS = env.int("PICTURE_MAX_PIXELS", 120_000_000)
PICTURE_MAX_SIDE_PX = env.int("PICTURE_MAX_SIDE_PX", 30_000)
PICTURE_DECODE_SECONDS = env.int("PICTURE_DECODE_SECONDS", 30)
PICTURE_DECODE_BYTES = env.int("PICTURE_DECODE_BYTES", 3 * 1024**3)
ARCHIVE_MAX_BYTES = env.int("ARCHIVE_MAX_BYTES", 2 * 1024**3)
ARCHIVE_MAX_ENTRIES = env.int("ARCHIVE_MAX_ENTRIES", 2_000)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FILES = ARCHIVE_MAX_ENTRIES
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1_000
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- People ---------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "observations:mine"
LOGOUT_REDIRECT_URL = "home"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_SIGNUP_FORM_CLASS = "apps.accounts.forms.SignupForm"
ACCOUNT_ADAPTER = "apps.accounts.adapter.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_RATE_LIMITS = {"login_failed": "5/15m/key,30/h/ip"}
ACCOUNT_LOGOUT_ON_GET = False
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXIES
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = SITE_NAME
STAFF_TWO_FACTOR = env.bool("STAFF_TWO_FACTOR", not (DEBUG or DEMO))
MFA_ADAPTER = "allauth.mfa.adapter.DefaultMFAAdapter"
EMAIL_CONFIG = env.email_url(
    "EMAIL_URL", default=f"filemail:///{STATE_DIR / 'mail'}" if DEMO else "consolemail://"
)
vars().update(EMAIL_CONFIG)
EMAIL_TIMEOUT = 20  # a mail server that hangs must not keep a worker
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "Podura <noreply@podura.example>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- API ------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.api.authentication.ApiAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["apps.common.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.NamespaceVersioning",
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "apps.common.throttling.PersonRateThrottle",
        "apps.common.throttling.ClientRateThrottle",
        "rest_framework.throttling.ScopedRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.str("THROTTLE_ANON", "120/min"),
        "user": env.str("THROTTLE_USER", "600/min"),
        "token": env.str("THROTTLE_TOKEN", "20/min"),
        "upload": env.str("THROTTLE_UPLOAD", "3000/hour"),
        "identify": env.str("THROTTLE_IDENTIFY", "60/min"),
        "export": env.str("THROTTLE_EXPORT", "10/hour"),
        "draft": env.str("THROTTLE_DRAFT", "300/min"),
    },
    "EXCEPTION_HANDLER": "apps.common.problems.exception_handler",
    "NUM_PROXIES": TRUSTED_PROXIES,
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=14),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "ALGORITHM": "HS256",
    "AUDIENCE": "podura-api",
    "ISSUER": SITE_URL,
    "CHECK_REVOKE_TOKEN": True,
    "UPDATE_LAST_LOGIN": False,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Podura API",
    "DESCRIPTION": "Send photos of small animals; read where each animal is and what it is.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apps.observations.api.schema.describe_problems",
    ],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
}

# --- Language and time ----------------------------------------------------------------------------------
LANGUAGE_CODE = _one_of("LANGUAGE_CODE", "en", ("en", "fr"))
LANGUAGES = [("en", _("English")), ("fr", _("French"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", "Europe/Paris")

# --- Maps -----------------------------------------------------------------------------------------------
MAP_TILE_URL = env.str(
    "MAP_TILE_URL", ""
)  # e.g. https://tile.example/{z}/{x}/{y}.png; empty: shipped outline
MAP_TILE_ATTRIBUTION = env.str("MAP_TILE_ATTRIBUTION", "")

# --- Security -------------------------------------------------------------------------------------------
HTTPS = env.bool("HTTPS", not (DEBUG or DEMO or SELF_CONTAINED))
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Warns that GDAL < 3.9 may open outside files; no spatial file or reference from users is ever read.
SILENCED_SYSTEM_CHECKS = ["gis.W001"]
X_FRAME_OPTIONS = "DENY"
_picture_hosts = env.list(
    "PICTURE_HOSTS", default=[]
)  # the object store's public host, and the tile server's
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:", *_picture_hosts],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
METRICS_TOKEN = env.str("METRICS_TOKEN", "")
READY_MAX_WAIT_SECONDS = env.int("READY_MAX_WAIT_SECONDS", 3600)  # older waiting work: /readyz says 503

# --- Logs -----------------------------------------------------------------------------------------------
LOG_FORMAT = _one_of(
    "LOG_FORMAT", "console" if DEBUG or DEMO or SELF_CONTAINED else "json", ("json", "console")
)
LOG_LEVEL = _one_of("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
DJANGO_STRUCTLOG_CELERY_ENABLED = True
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # ApiGuardMiddleware has checked or replaced it

from project.logs import configure_logging  # noqa: E402  (needs the settings above)

LOGGING = configure_logging(log_format=LOG_FORMAT, level=LOG_LEVEL)

if SENTRY_DSN := env.str("SENTRY_DSN", ""):
    import sentry_sdk

    sentry_sdk.init(dsn=SENTRY_DSN, send_default_pii=False)

from project.console import console  # noqa: E402  (the admin's theme; beside the settings for its length)

UNFOLD = console(SITE_NAME)
