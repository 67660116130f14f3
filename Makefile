# CSecBridge: everything one does with it by hand. Plain `make` explains the targets.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCAL := $(BIN)/python -m csb_core.local
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --universal \
	--python-version 3.11 --no-emit-package csb-core --no-emit-package api-service \
	--no-emit-package worker-service-aws --no-emit-package worker-sandbox
TYPED := csb-core/src api-service/src worker-service-aws/src worker-sandbox/src db/migrate.py \
	docs/generate.py docs/sizing.py images/build.py images/harden.py images/health.py images/seed.py \
	helm/log_shapes.py helm/make_secrets.py helm/readmes.py helm/sandbox_profile.py \
	helm/service_shapes.py helm/shapes.py helm/values_schemas.py \
	helm/csecbridge/files/smoke.py helm/csecbridge/files/backup/shelf.py \
	helm/observability/dashboard.py helm/observability/panels.py helm/observability/queries.py \
	helm/observability/kibana.py helm/observability/searches.py \
	.github/oidc_credential.py .github/rollout_values.py
# Programs of the same name, each in a container of its own.
TYPED_ALONE := helm/observability/files/search/install.py \
	platform-config/components/sandbox-profile/install.py
# What utils may declare, as every jail on this machine sees it.
PACKAGES := .venv/sandbox-packages
# What setup has installed, one a line; the caches that Python makes may come and go.
INSTALLED := cd .venv 2>/dev/null && LC_ALL=C ls -d bin/* lib/python*/site-packages/* sandbox-packages/* 2>/dev/null \
	| grep -v __pycache__
GUARDS := tests/test_house.py tests/test_providers.py tests/test_documents.py tests/test_install_pages.py
TYPED_TESTS := csb-core/tests api-service/tests worker-service-aws/tests worker-sandbox/tests

.DEFAULT_GOAL := help
.PHONY: help demo up down status logs setup test test-slow test-worn system-packages check fmt docs \
	docs-fresh lock bench chaos images test-images check-pipelines tools chart-docs check-deploy \
	import-kibana clean

help: ## explain the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

##@ Run it on this machine

demo: setup ## bring everything up and watch real requests to their end
	@$(LOCAL) demo

up: setup ## bring everything up, or what of it is dead; .run/csb.env tells how to reach it
	@$(LOCAL) up

down: $(BIN)/python ## end everything, also what a killed supervisor left
	@$(LOCAL) down

status: $(BIN)/python ## show the programs with pid, port and health
	@$(LOCAL) status

logs: $(BIN)/python ## follow all logs
	@$(LOCAL) logs

##@ Work on it

setup: ## make .venv from the hashed locks; nothing to do while they are the same
	@locks="$$(pwd; cat requirements-dev.txt worker-sandbox/packages.txt */pyproject.toml | sha256sum)"; \
	missing="$$($(INSTALLED) | LC_ALL=C comm -23 installed - 2>/dev/null)"; \
	if [ "$$locks" != "$$(cat .venv/locks 2>/dev/null)" ] || [ ! -x $(BIN)/python ] \
		|| [ ! -f .venv/installed ] || [ -n "$$missing" ]; then \
		set -e; \
		if [ -n "$$missing" ]; then \
			echo "setup: .venv has lost $$(echo $$missing | cut -c 1-200)"; \
			$(PYTHON) -m venv --clear .venv; \
		fi; \
		echo 'setup: installing into .venv what the locks name'; \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv; \
		$(PIP) --require-hashes -r requirements-dev.txt; \
		$(PIP) --no-deps --no-build-isolation -e csb-core -e api-service -e worker-service-aws \
			-e worker-sandbox; \
		rm -rf $(PACKAGES).new; \
		(umask 022; $(PIP) --require-hashes --only-binary :all: --target $(PACKAGES).new \
			-r worker-sandbox/packages.txt); \
		rm -rf $(PACKAGES); \
		mv $(PACKAGES).new $(PACKAGES); \
		($(INSTALLED) > installed); \
		printf '%s\n' "$$locks" > .venv/locks; \
	fi

$(BIN)/python:
	@$(MAKE) --no-print-directory setup

test: setup ## run the tests, without the slow ones
	$(BIN)/python -m pytest -m 'not slow and not chaos_long and not worn and not images'

test-slow: setup ## the slow ones; those behind PgBouncer need system-packages
	$(BIN)/python -m pytest -m slow

test-worn: setup ## attack the sandbox in each way two hundred times; takes long
	$(BIN)/python -m pytest -m worn

system-packages: ## install what wheels cannot bring: pgbouncer, for the slow tests
	@if command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]; then \
		echo 'pgbouncer is there'; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends pgbouncer; \
	else \
		echo 'as root: apt-get install --no-install-recommends pgbouncer'; exit 1; \
	fi

check: setup docs-fresh ## format, lint, types, import contracts, guards of the house, locks
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(TYPED)
	@for part in $(TYPED_ALONE) $(TYPED_TESTS); do $(BIN)/mypy $$part || exit 1; done
	$(BIN)/mypy --explicit-package-bases tests
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q $(GUARDS)
	@if grep -n '://' requirements*.txt */requirements.txt worker-sandbox/packages.txt; then \
		echo 'a lock names no address'; exit 1; fi

fmt: setup ## format and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: setup ## write the tables of docs/ anew from the code
	$(BIN)/python docs/generate.py

docs-fresh: setup ## say which of these tables are stale
	$(BIN)/python docs/generate.py --check

lock: setup ## compile the hashed locks anew
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) api-service/pyproject.toml -o api-service/requirements.txt
	$(COMPILE) worker-service-aws/pyproject.toml -o worker-service-aws/requirements.txt
	$(COMPILE) worker-sandbox/pyproject.toml -o worker-sandbox/requirements.txt
	$(COMPILE) -c requirements-dev.txt worker-sandbox/packages.in -o worker-sandbox/packages.txt
	$(COMPILE) -c requirements-dev.txt --extra local worker-service-aws/pyproject.toml \
		-o worker-service-aws/requirements-local.txt
	$(COMPILE) -c requirements-dev.txt images/requirements.in -o images/requirements.txt
	$(COMPILE) -c requirements-dev.txt tests/deploy/requirements.in -o tests/deploy/requirements.txt
	$(COMPILE) .github/requirements.in -o .github/requirements.txt
	$(COMPILE) -c requirements-dev.txt bench/requirements.in -o bench/requirements.txt

bench: setup ## measure us beside yardsticks on this machine
	$(BIN)/python -m bench

chaos: setup ## kill processes for a long while and count what was lost
	$(BIN)/python -m pytest tests/chaos -m chaos

##@ Ship it

images: ## build the images with docker or buildah; IMAGES='api-service --tag x' gives images/build.py more
	@$(PYTHON) images/build.py $(IMAGES)

test-images: setup ## as root: build every image from a bare Debian with buildah, look at it, start it
	@command -v buildah >/dev/null && command -v debootstrap >/dev/null \
		|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends \
			buildah debootstrap debian-archive-keyring; }
	$(BIN)/python -m pytest tests/images -m images

check-pipelines: ## look at Dockerfiles, compose.yaml and workflows with hadolint, zizmor, actionlint, schemas
	@PYTHON=$(PYTHON) .github/check-pipelines.sh

tools: setup ## bring helm, linters, schemas and a search engine into .run/tools, at pinned versions
	@PYTHON=$(PYTHON) tests/deploy/tools.sh

chart-docs: tools ## write the READMEs of the charts anew from their values
	@PATH="$${CSB_TOOLS_DIR:-.run/tools}/bin:$$PATH" $(BIN)/python helm/readmes.py

check-deploy: tools ## look at charts, manifests, alerts and the way of logs with these
	@tests/deploy/check.sh

import-kibana: ## bring the log template and the saved searches to ES_URL and KIBANA_URL; docs/logs.md has the rest
	@$(PYTHON) helm/observability/files/search/install.py

clean: ## remove .run and what tools left; call down first
	@if [ -x $(BIN)/python ]; then $(LOCAL) down; fi
	rm -rf "$${CSB_RUN_DIR:-.run}" .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
