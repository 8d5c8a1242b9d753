# Everything a person or a CI does here has a name here. `make help` explains.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The scanners' own: their dependencies are not ours.
SCAN_VENV := .venv-scan
SCAN_STAMP := $(SCAN_VENV)/.installed
CLUSTER_TOOL := hack/cluster/cluster
# The demo's cluster is yours to play with; the tests have one of their own, so that neither disturbs the other.
DEMO_CLUSTER := mabeam
TEST_CLUSTER := mabeam-test
TEST_NODES ?= 2
TEST_FAKE_NODES ?= 4
# A line now and then of pip's many: a build shows that it is alive.
PIP_PROGRESS := awk '/^Collecting/ && ++n % 20 == 0 {print "    " n " packages fetched"; fflush()} /^Installing collected/ {print "    " n " packages: installing"; fflush()}'
PYTEST ?= $(BIN)/pytest -q

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^## / {printf "\n\033[1m%s\033[0m\n", substr($$0, 4)} /^[a-z0-9-]+:.*## / {printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## First things first
.PHONY: demo
demo: $(STAMP) ## Start a real Kubernetes, install the operator with helm, run a team of agents, and watch it work and fail
	@$(BIN)/python -m examples.demo --cluster $(DEMO_CLUSTER)

.PHONY: demo-down
demo-down: ## End the demo's cluster; nothing of it stays on the machine but the cache of built tools
	@$(CLUSTER_TOOL) down --name $(DEMO_CLUSTER)

ON_A_CLUSTER := api or e2e or chart or faults or prometheus
# They share a cluster and mostly wait: each file has a process and namespaces to itself, and the files run side by side.
BY_FILE := --dist loadfile --no-loadscope-reorder
ENTER_CLUSTER = eval "$$($(BIN)/python -m tests.support.cluster_env --cluster $(TEST_CLUSTER))"

.PHONY: test
test: $(STAMP) check scan-offline test-cluster ## Run every check and every test: unit, property, golden, contract, api and e2e
	@$(MAKE) --no-print-directory test-fast
	@$(ENTER_CLUSTER) && $(PYTEST) -n 2 $(BY_FILE) -m "($(ON_A_CLUSTER)) and not e2e" tests
	@$(MAKE) --no-print-directory test-e2e

## Every day
.PHONY: venv
venv: $(STAMP) ## Make the virtual environment with the locked dependencies

$(STAMP): requirements/dev.txt pyproject.toml packages/mabeam-agent/pyproject.toml
	@echo "· the virtual environment, from requirements/dev.txt"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --progress-bar off --disable-pip-version-check --require-hashes -r requirements/dev.txt | $(PIP_PROGRESS)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable packages/mabeam-agent
	@touch $@

.PHONY: check
check: $(STAMP) lint types rooms verify ## Run every check that runs nothing: lint, types, rooms, generated files

.PHONY: fmt
fmt: $(STAMP) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lint
lint: $(STAMP) ## Lint (ruff)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

.PHONY: types
types: $(STAMP) ## Check types (mypy --strict)
	@$(BIN)/mypy
	@cd hack/cluster && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p embedded
	@MYPYPATH=operator:examples/annealers $(BIN)/mypy -p annealers
	@MYPYPATH=hack/cluster $(BIN)/mypy --follow-imports=silent -p examples.demo
	@MYPYPATH=operator:tests $(BIN)/mypy --follow-imports=silent -p benchmarks
	@MYPYPATH=operator:tests $(BIN)/mypy --follow-imports=silent -p faults

.PHONY: rooms
rooms: $(STAMP) ## Check who may import whom (import-linter)
	@$(BIN)/lint-imports

.PHONY: test-fast
test-fast: $(STAMP) ## Run the tests that need no cluster, in about two minutes
	@$(PYTEST) -n 2 -m "not ($(ON_A_CLUSTER))"

.PHONY: test-api
test-api: $(STAMP) test-cluster ## Run the tests against a real apiserver only
	@$(ENTER_CLUSTER) && $(PYTEST) -n 2 $(BY_FILE) -m api tests

.PHONY: test-e2e
test-e2e: $(STAMP) test-cluster ## Run the tests on real nodes and containers only
	@$(ENTER_CLUSTER) && $(PYTEST) -n 3 $(BY_FILE) -m "e2e and not alone" tests/contract tests/e2e && \
	  $(PYTEST) -m alone tests/e2e

.PHONY: generate
generate: $(STAMP) ## Regenerate what comes from code: CRDs, RBAC, the chart's and the manifests' copies
	@$(BIN)/python hack/generate.py

.PHONY: verify
verify: $(STAMP) ## Check that the generated files are current
	@$(BIN)/python hack/generate.py --check

$(SCAN_STAMP): requirements/scan.txt
	@echo "· the scanners, from requirements/scan.txt"
	@$(PYTHON) -m venv --clear $(SCAN_VENV)
	@$(SCAN_VENV)/bin/pip install --progress-bar off --disable-pip-version-check --require-hashes -r requirements/scan.txt | $(PIP_PROGRESS)
	@touch $@

.PHONY: scan
scan: $(STAMP) $(SCAN_STAMP) ## Scan for security: bandit, checkov, pip-audit (docs/security.md)
	@$(BIN)/python hack/scan.py $(SCAN_ARGS)

.PHONY: scan-offline
scan-offline: $(STAMP) $(SCAN_STAMP) ## The same without asking an advisory service
	@$(BIN)/python hack/scan.py --offline

# The SDK's wheel is on no index: it is looked for in dist/, and left out of the locks, because it is installed from this tree.
.PHONY: lock
lock: $(STAMP) dist ## Lock the dependencies anew (requirements/*.txt)
	@$(BIN)/pip install --quiet pip-tools==7.6.2
	@for set in run dev; do \
	  $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --unsafe-package mabeam-agent --no-header \
	    --no-emit-find-links --no-emit-index-url --no-emit-trusted-host --find-links dist \
	    $$([ $$set = dev ] && echo "--extra dev --all-build-deps") --output-file requirements/$$set.txt pyproject.toml; \
	done
	@for set in sbom scan; do \
	  $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	    --no-emit-find-links --no-emit-index-url --no-emit-trusted-host \
	    --output-file requirements/$$set.txt requirements/$$set.in; \
	done

.PHONY: dist
dist: $(STAMP) ## Build the wheels of mabeam-agent (the SDK) and mabeam (the operator) into dist/
	@$(BIN)/python hack/dist.py

## Clusters and images
.PHONY: cluster-up
cluster-up: ## Start the demo's cluster: a real Kubernetes on this machine (or use yours: CLUSTER=current)
	@$(CLUSTER_TOOL) up --name $(DEMO_CLUSTER)

.PHONY: cluster-down
cluster-down: demo-down ## The same as demo-down

.PHONY: test-cluster
test-cluster: ## Start the tests' cluster
	@$(CLUSTER_TOOL) up --name $(TEST_CLUSTER) --nodes $(TEST_NODES) --kwok $(TEST_FAKE_NODES) --with helm

.PHONY: test-down
test-down: ## End the tests' cluster
	@$(CLUSTER_TOOL) down --name $(TEST_CLUSTER)

.PHONY: image
image: ## Build the image (with docker where there is one, else without)
	@hack/image/build

## Figures
.PHONY: bench-nodes
bench-nodes: $(STAMP) test-cluster ## Measure latencies, writes and memory on the tests' cluster (benchmarks/README.md)
	@$(ENTER_CLUSTER) && $(BIN)/python -m benchmarks.real_nodes

BENCH := $(BIN)/python -m benchmarks.bench --cluster mabeam-bench --down

.PHONY: bench
bench: $(STAMP) ## Measure side by side with Jobs and ReplicaSets, up to 10,000 agents; goes on where it was ended (docs/performance.md)
	@$(BENCH) $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: $(STAMP) ## The same with smaller sizes and fewer repeats, in about ten minutes
	@$(BENCH) --quick $(BENCH_ARGS)

## Faults
.PHONY: faults
faults: $(STAMP) ## Try every fault at every place on a cluster of its own, in about an hour and a half (FAULTS_ARGS="--only R1" for a part)
	@$(CLUSTER_TOOL) up --name mabeam-faults --control-plane-only --kwok 20
	@trap '$(CLUSTER_TOOL) down --name mabeam-faults' EXIT; PYTHONPATH=tests:operator \
	  $(BIN)/python -m faults.campaign --cluster mabeam-faults --results tests/faults/results $(FAULTS_ARGS)

HISTORIES ?= 100000

.PHONY: decisions
decisions: $(STAMP) ## Measure how long the pure core takes to decide, by type and number of agents (benchmarks/README.md)
	@PYTHONPATH=operator:. $(BIN)/python -m benchmarks.decisions --keep

.PHONY: histories
histories: $(STAMP) ## Hold trees against a literal supervisor.erl in 100,000 random histories, in about half an hour (HISTORIES=1000 for fewer)
	@PYTHONPATH=operator:tests $(BIN)/python -m support.many_histories --count $(HISTORIES) --jobs 2

.PHONY: matrix
matrix: $(STAMP) test-cluster ## Try every cause with every strategy on real containers, in about ten minutes, and keep the table (docs/supervision.md)
	@$(ENTER_CLUSTER) && MABEAM_MATRIX=full MABEAM_KEEP_MATRIX=1 $(PYTEST) tests/e2e/test_matrix.py

## Tidying
.PHONY: clean
clean: ## Remove the virtual environment and the caches in this folder
	@rm -rf $(VENV) $(SCAN_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist operator/*.egg-info
