# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
BUILD := .build
BIN := .venv/bin
LOCK_HASH = $(shell sha256sum requirements.lock | cut -c1-16)
VENV_STAMP = .venv/installed-$(LOCK_HASH)
KAFKA := $(BUILD)/kafka/installed
MONGODB := $(BUILD)/mongodb

.DEFAULT_GOAL := help
.PHONY: help run test lint bench figures setup images clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV_STAMP) $(KAFKA) $(MONGODB)  ## install everything below this folder (.venv and .build)

run: setup  ## the default sweep on this machine, from the first frame to the CDF
	@$(BIN)/latencylab sweep experiments/default.yaml

test: setup  ## lint, types and all tests
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest

lint: $(VENV_STAMP)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup  ## benchmarks: ratios against baselines of the same run, with spread
	$(BIN)/python -m benchmarks

figures: $(VENV_STAMP)  ## rebuild figures/ and the outputs of 03_analyse from data/sample
	$(BIN)/latencylab figures data/sample --output figures

clean:  ## remove what these targets made (not data/runs)
	rm -rf .venv $(BUILD) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_STAMP): requirements.lock pyproject.toml
	@$(PYTHON) scripts/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install 'uv>=0.5,<1'
	@echo 'installing $(shell grep -cE "^[a-z0-9]" requirements.lock) pinned packages into .venv'
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@rm -f .venv/installed-*; touch $@

$(KAFKA): services/kafka/pom.xml | $(VENV_STAMP)
	@$(BIN)/latencylab doctor --only kafka
	@echo 'fetching Apache Kafka by Maven'
	@rm -rf $(@D)/libs && mvn -q -B -f services/kafka/pom.xml dependency:copy-dependencies \
	  -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(@D)/libs
	@touch $@

# A mongod on PATH (or MONGODB_URI) is used as it is; otherwise FerretDB is built.
$(MONGODB): $(wildcard services/mongodb/ferretdb/*) | $(VENV_STAMP)
	@$(BIN)/latencylab doctor --only mongodb
	@mkdir -p $(BUILD)
	@if [ -z "$$MONGODB_URI" ] && ! command -v mongod > /dev/null; then \
	  echo 'building FerretDB (about 2 minutes the first time)'; \
	  cd services/mongodb/ferretdb && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' \
	    -o $(CURDIR)/$(BUILD)/ferretdb .; fi
	@touch $@
