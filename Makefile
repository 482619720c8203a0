# One way to run anything. `make help` lists it; CI calls the same targets.
SHELL := /bin/bash
PY    := .venv/bin/python
UV    := uv==0.13.9

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit lint bench docs packages s3 lock

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.synced  ## .venv with the locked packages, broker jars, Java; nothing twice
	@$(PY) -m engagement.stack.jars

# uv leaves only what the lock names, itself not; `python3 -m venv` brings pip back for the next time.
.venv/.synced: requirements.lock
	@echo "setup: installing the locked packages into .venv" >&2
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: python3 is older than 3.11" >&2; exit 1; }
	@python3 -m venv .venv
	@$(PY) -m pip install -q --disable-pip-version-check $(UV)
	@$(PY) -m uv pip sync -q --python $(PY) --require-hashes requirements.lock
	@printf '#!/bin/sh\nexec "%s/.venv/bin/python" -m engagement "$$@"\n' "$(CURDIR)" > .venv/bin/engagement
	@chmod +x .venv/bin/engagement
	@printf '%s\n' "$(CURDIR)" > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/engagement-checkout.pth"
	@touch $@

demo: setup  ## the whole product on this machine with live data; prints the addresses
	@.venv/bin/engagement demo

# Integration tests wait for most of their time: three at once, each worker with a broker of its own.
# The demo is alone: its test looks at what is live as long as it is.
test: setup packages s3  ## every test: unit, integration (real broker, real Dagster), end to end (real page)
	@$(PY) -m pytest tests/e2e/test_demo.py tests/e2e/test_monitoring.py
	@$(PY) -m pytest -n 3 --dist worksteal tests/e2e/test_page.py tests/e2e/test_demo_on_s3.py tests/integration
	@$(PY) -m pytest -n auto --dist worksteal tests/unit

test-unit: .venv/.synced  ## the fast tests: no broker, no daemon, no browser
	@$(PY) -m pytest -n auto --dist worksteal tests/unit

lint: .venv/.synced  ## ruff and mypy
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

bench: setup  ## measurements quoted in the docs; prints them with machine and date (some hours)
	@$(PY) bench/sessions.py
	@$(PY) bench/tick.py
	@$(PY) bench/checks.py
	@$(PY) bench/anomalies.py
	@$(PY) bench/backfill.py
	@$(PY) bench/queries.py
	@$(PY) bench/listing.py
	@$(PY) bench/law.py
	@$(PY) bench/archive.py
	@$(PY) bench/readers.py
	@$(PY) bench/erasure.py
	@$(PY) bench/privacy.py
	@$(PY) bench/import_history.py
	@$(PY) bench/latency.py
	@$(PY) bench/beside.py
	@$(PY) bench/ingest.py
	@$(PY) bench/catch_up.py
	@$(PY) bench/model.py
	@$(PY) bench/faults.py
	@$(PY) bench/instance.py
	@$(PY) bench/game_day.py

# The drawing needs Debian's graphviz; the pages are made from the code.
docs: .venv/.synced  ## draw docs/images/architecture.svg and write the generated parts of the pages anew
	@command -v dot >/dev/null || { echo "make docs needs graphviz: apt-get install --no-install-recommends graphviz" >&2; exit 1; }
	@{ dot -Tsvg docs/architecture.dot && echo "<!-- drawn from $$(sha256sum < docs/architecture.dot | cut -c1-64) -->"; } > docs/images/architecture.svg
	@UPDATE_GOLDEN=1 $(PY) -m pytest -q tests/unit/test_monitoring.py tests/unit/test_quality_page.py tests/unit/test_data_schema_page.py

s3: .venv/.synced  ## build versitygw once, the S3 server of the tests; needs no Go on the machine
	@$(PY) -m engagement.stack.s3

packages:
	@.ci/packages

lock:  ## write requirements.lock anew from pyproject.toml
	@python3 -m venv .venv && $(PY) -m pip install -q --disable-pip-version-check $(UV)
	@$(PY) -m uv pip compile -q pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-strip-extras -o requirements.lock
