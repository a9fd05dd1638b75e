SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# By the shell: make's own functions take a path with spaces for several.
ROOT := $(shell file='$(MAKEFILE_LIST)'; cd "$$(dirname "$${file# }")" && pwd -P)/
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mesh-aws
export CARGO_TARGET_DIR ?= $(CACHE)/target
# Terraform fails on a configuration file that does not exist.
ifeq ($(shell [[ -e $${TF_CLI_CONFIG_FILE:-} ]] && echo there),)
unexport TF_CLI_CONFIG_FILE
endif
# Python's HTTP clients would ask a proxy for the local stack, and boto3 for a profile that the tests don't use.
export NO_PROXY := localhost,127.0.0.1,$(NO_PROXY)
export no_proxy := $(NO_PROXY)
unexport AWS_PROFILE AWS_DEFAULT_PROFILE
PYTHON_OF_TESTS = $$("$(ROOT)scripts/venv")

.PHONY: help build package release demo up down test lint unit e2e nightly bench bench-quick docs clean

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*##' "$(ROOT)Makefile" | sed -E 's/:[^#]*## /\t/' | expand -t 13

build: ## The Lambdas' zips in dist/, the same bytes from the same sources and toolchain; ARCH=arm64 for arm64
	@"$(ROOT)scripts/need" cargo python3 cc
	@python3 "$(ROOT)scripts/build.py"

package: build ## The zips, checked as a release needs them
	@"$(ROOT)scripts/need" objdump
	@cd "$(ROOT)tests" && "$(PYTHON_OF_TESTS)" -m pytest -q test_package.py

release: ## One archive of module, zips and bill of materials in dist/release/; checks advisories first
	@"$(ROOT)scripts/need" cargo git python3 cc
	@python3 "$(ROOT)scripts/release.py"

demo: build ## The main job on real input, from servers to a checked table; stops everything at the end
	@"$(ROOT)scripts/need" terraform
	@cd "$(ROOT)tests" && "$(PYTHON_OF_TESTS)" demo.py

up: build ## A local stack that stays, with commands to try
	@"$(ROOT)scripts/need" terraform
	@cd "$(ROOT)tests" && "$(PYTHON_OF_TESTS)" demo.py --up

down: ## Stops what `make up` started
	@cd "$(ROOT)tests" && "$(PYTHON_OF_TESTS)" demo.py --down

test: lint unit e2e ## Everything that CI runs

lint: ## Formatting, clippy, dependencies, Terraform and state machine definitions
	@"$(ROOT)scripts/need" cargo terraform node npm
	cd "$(ROOT)" && cargo fmt --all --check
	cd "$(ROOT)" && cargo clippy --workspace --all-targets --locked -- -D warnings
	cd "$(ROOT)" && "$$(scripts/cargo-tool cargo-deny)" --locked check --deny warnings licenses bans sources
	cd "$(ROOT)" && terraform fmt -check -recursive -diff terraform
	"$(ROOT)tests/terraform-validate.sh"
	"$(PYTHON_OF_TESTS)" "$(ROOT)scripts/module_docs.py" --check
	"$(PYTHON_OF_TESTS)" "$(ROOT)scripts/costs.py" --check
	"$$("$(ROOT)scripts/venv" tests/checkov)" "$(ROOT)tests/checkov/run.py"
	"$(ROOT)tests/asl/lint.sh"

unit: ## Rust's unit and documentation tests
	@"$(ROOT)scripts/need" cargo
	cd "$(ROOT)" && cargo test --workspace --locked

e2e: build ## The pytest suite: the local stack's own tests and the pipeline end to end
	@"$(ROOT)scripts/need" objdump terraform
	cd "$(ROOT)tests" && "$(PYTHON_OF_TESTS)" -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder --durations 10 .

# What takes the longest first, since each worker takes a file at a time; pytest keeps the order of files, but not that of a file before its folder.
NIGHTLY = e2e/test_soak.py e2e/test_large.py test_release.py e2e/test_matrix.py e2e/test_moving_in.py

nightly: test ## What takes longer than CI may
	cd "$(ROOT)tests" && "$(PYTHON_OF_TESTS)" -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m nightly --durations 0 $(NIGHTLY)
	"$(ROOT)scripts/fuzz"

bench: build ## Measures the functions beside the NHS's Python client and curl; leave the machine alone meanwhile
	@"$(ROOT)scripts/need" curl
	cd "$(ROOT)" && PYTHONPATH=tests "$(PYTHON_OF_TESTS)" -m bench
	@"$$("$(ROOT)scripts/venv" bench)" "$(ROOT)bench/plot.py" "$(ROOT)bench/results/latest.json"

bench-quick: build ## The same with less of all, in under three minutes
	@"$(ROOT)scripts/need" curl
	cd "$(ROOT)" && PYTHONPATH=tests "$(PYTHON_OF_TESTS)" -m bench --size quick

docs: ## The tables of terraform/README.md, from the module's variables and outputs
	@"$(PYTHON_OF_TESTS)" "$(ROOT)scripts/module_docs.py"

clean: down ## Removes dist/ and the caches of this project
	rm -rf "$(ROOT)dist" "$(CACHE)"
