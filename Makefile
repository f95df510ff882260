# `make` or `make help` lists the commands.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
PORT ?= 8000
export PORT

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Use ---

.PHONY: run
run: ## Install what is missing, start everything, print the address (PORT=8000, TORCH_BACKEND=auto for smaller wheels)
	@bin/bootstrap run && exec $(PYTHON) bin/up

.PHONY: clean
clean: ## Stop the private servers and delete everything `make run` made: data, files, environment
	@bin/services clean
	@rm -f locale/*/LC_MESSAGES/*.mo
	@rm -rf .podura .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# --- Check ---

.PHONY: check
check: dev ## Lint, types, templates, import order, migrations, fast tests (under 3 minutes)
	@bin/check

.PHONY: test
test: dev ## All tests, also the slow ones and the browser's
	@bin/test

.PHONY: bench
bench: dev ## Measure speed against the targets; writes bench.json
	@bin/with-services $(PYTHON) -m benchmarks

.PHONY: format
format: dev ## Put code and templates into the project's form
	@$(PYTHON) -m ruff check --fix-only --quiet . && $(PYTHON) -m ruff format --quiet .
	@$(PYTHON) -m djlint templates --reformat --quiet || true

# --- Maintain ---

.PHONY: dev
dev:
	@bin/bootstrap dev

.PHONY: lock
lock: ## Compile requirements*.in to the pinned, hashed requirements*.txt
	@bin/lock

.PHONY: messages
messages: dev ## Collect texts to translate into locale/
	@$(PYTHON) manage.py makemessages --locale fr --no-obsolete --no-location --no-wrap --ignore '.venv/*' --ignore '.podura/*'
	@$(PYTHON) manage.py makemessages --locale fr --domain djangojs --no-obsolete --no-location --no-wrap --ignore '.venv/*' --ignore '.podura/*' --ignore 'static/vendor/*'

.PHONY: audit
audit: dev ## Look the locked packages up in the vulnerability database (needs the internet)
	@$(PYTHON) -m pip_audit --require-hashes --disable-pip -r requirements.txt

.PHONY: sbom
sbom: dev ## List of everything that production installs, as CycloneDX: sbom.json (needs the internet)
	@$(PYTHON) -m pip_audit --require-hashes --disable-pip -r requirements.txt --format cyclonedx-json --output sbom.json || [ -s sbom.json ]

.PHONY: backup
backup: ## Database and files into one folder: make backup TO=/var/backups/podura
	@bin/backup "$(TO)"

.PHONY: restore
restore: ## The opposite, into an empty database: make restore FROM=/var/backups/podura/2026-11-21T0600Z
	@bin/restore "$(FROM)"
