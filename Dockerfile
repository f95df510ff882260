# syntax=docker/dockerfile:1
# One image for web, workers and scheduler. TORCH_BACKEND=cpu makes it several GB smaller (hosts without a GPU);
# left empty, the locked wheels with CUDA are installed, every hash checked.
FROM python:3.11-slim-bookworm

ARG TORCH_BACKEND=""
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8

RUN apt-get update \
    && apt-get install -y --no-install-recommends libgdal32 libgeos-c1v5 libproj25 gettext postgresql-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin podura

WORKDIR /app
COPY requirements.txt requirements-dev.txt ./
COPY bin/bootstrap bin/bootstrap
# Database and queue are elsewhere, so bootstrap asks for neither.
RUN --mount=type=cache,target=/root/.cache \
    DATABASE_URL=elsewhere REDIS_URL=elsewhere TORCH_BACKEND="$TORCH_BACKEND" UV_LINK_MODE=copy bin/bootstrap run

COPY . .
ENV PATH=/app/.venv/bin:$PATH \
    PODURA_PYTHON=/app/.venv/bin/python \
    DJANGO_SETTINGS_MODULE=project.settings \
    STATIC_ROOT=/app/static-collected \
    MODEL_CACHE_DIR=/var/lib/podura/models \
    TRAINING_DIR=/var/lib/podura/training \
    BEAT_SCHEDULE_FILE=/tmp/celerybeat-schedule \
    WEB_BIND=0.0.0.0:8000 \
    HOME=/tmp
RUN for texts in locale/*/LC_MESSAGES/*.po; do \
      [ -e "$texts" ] && msgfmt --check-format -o "${texts%.po}.mo" "$texts"; done; \
    SECRET_KEY=only-while-building python manage.py collectstatic --no-input --verbosity 0 \
    && python -m compileall -q apps project \
    && install -d -o podura -g podura /var/lib/podura /var/lib/podura/models /var/lib/podura/training

# For the records of trainings: an image has no .git to ask.
ARG PODURA_COMMIT=""
ENV PODURA_COMMIT=$PODURA_COMMIT

USER podura
EXPOSE 8000
CMD ["gunicorn", "project.wsgi"]
