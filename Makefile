# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
BUILD := .build
BIN := .venv/bin
LOCK_HASH = $(shell sha256sum requirements.lock | cut -c1-16)
VENV_STAMP = .venv/installed-$(LOCK_HASH)
KAFKA := $(BUILD)/kafka/installed
MONGODB := $(BUILD)/mongodb
MODEL := $(BUILD)/inference_server/prepared

.DEFAULT_GOAL := help
.PHONY: help run test test-notebooks test-cluster test-machines lint calibrate bench figures setup images clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV_STAMP) $(KAFKA) $(MONGODB) $(MODEL)  ## install everything below this folder (.venv and .build)

run: setup  ## the default sweep on this machine, from the first frame to the CDF
	@$(BIN)/latencylab sweep --new experiments/default.yaml

test: setup lint  ## lint, types, all tests, and the notebooks as they are committed
	$(BIN)/pytest
	$(MAKE) --no-print-directory test-notebooks

test-notebooks: setup  ## run the notebooks that need no cloud and compare the outputs that must not change
	@rm -rf $(BUILD)/nbval
	@trap 'LATENCYLAB_DATA=$(CURDIR)/$(BUILD)/nbval $(BIN)/latencylab down > /dev/null' EXIT; \
	  LATENCYLAB_DATA=$(CURDIR)/$(BUILD)/nbval $(BIN)/pytest --nbval-lax --nbval-kernel-name python3 notebooks/0[1-9]*.ipynb

test-cluster: setup  ## the tests on the cluster that KUBECONFIG names
	$(BIN)/pytest tests/cluster

test-machines: setup  ## the tests on the machines that LATENCYLAB_MACHINES names
	$(BIN)/pytest tests/machines

lint: $(VENV_STAMP)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

calibrate: setup  ## measure all forms of the network on this machine (2 minutes), and use the fastest from then on
	@CACHE_DIRECTORY=$(dir $(MODEL)) TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m services.inference_server.calibrate

bench: setup  ## benchmarks: ratios against baselines of the same run, with spread
	$(BIN)/python -m benchmarks

images: $(VENV_STAMP)  ## build all images with docker, podman or buildah, whichever is there
	@scripts/images.sh build

figures: $(VENV_STAMP)  ## rebuild figures/ and the outputs of notebooks 03 to 05 from data/sample
	$(BIN)/latencylab figures data/sample --output figures
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
	  --ExecutePreprocessor.extra_arguments=--log-level=ERROR \
	  notebooks/0[3-5]*.ipynb

clean:  ## remove what these targets made (not data/runs)
	rm -rf .venv $(BUILD) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_STAMP): requirements.lock pyproject.toml
	@$(PYTHON) scripts/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install 'uv>=0.5,<1'
	@echo 'installing $(shell grep -cE "^[a-z0-9]" requirements.lock) pinned packages into .venv'
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirement requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q latencylab services
	@rm -f .venv/installed-*; touch $@

$(KAFKA): services/kafka/pom.xml | $(VENV_STAMP)
	@$(BIN)/latencylab doctor --only kafka
	@echo 'fetching Apache Kafka by Maven'
	@rm -rf $(@D)/libs && mvn -q -B -f services/kafka/pom.xml dependency:copy-dependencies \
	  -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(@D)/libs
	@$(BIN)/python -m latencylab.backends.local_kafka
	@touch $@

# A mongod on PATH (or MONGODB_URI) is used as it is; otherwise FerretDB is built.
$(MONGODB): $(wildcard services/mongodb/ferretdb/*) | $(VENV_STAMP)
	@$(BIN)/latencylab doctor --only mongodb
	@mkdir -p $(BUILD)
	@if [ -z "$$MONGODB_URI" ] && ! command -v mongod > /dev/null; then \
	  echo 'building FerretDB (about 2 minutes the first time)'; \
	  services/mongodb/ferretdb/build.sh $(BUILD)/ferretdb; fi
	@touch $@

$(MODEL): $(wildcard services/inference_server/*.py) | $(VENV_STAMP)
	@echo 'exporting ResNet50 for the inference server and finding its fastest form on this machine (a minute or so)'
	@mkdir -p $(@D); CACHE_DIRECTORY=$(@D) CALIBRATION_S=40 TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m services.inference_server.prepare
	@touch $@
