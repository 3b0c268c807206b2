# `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON ?= python3
STAMP := target/venv.stamp
COVERAGE_VENV := target/coverage-venv
COVERAGE_STAMP := $(COVERAGE_VENV)/.stamp
BENCH_VENV := target/bench-venv
BENCH_STAMP := $(BENCH_VENV)/.stamp
BENCH_BUILD := target/bench-build
SUPPLY_VENV := target/supply-venv
SUPPLY_STAMP := $(SUPPLY_VENV)/.stamp
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY_ROOT := target/cargo-deny-$(CARGO_DENY_VERSION)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0
# sam and cfn-lint want a region even where they call nobody.
export AWS_DEFAULT_REGION ?= us-east-1

FUZZ_TARGETS ?= event expression manifests keys parquet
FUZZ_SECONDS ?= 60

MEMORY_POINTS ?= 100000000

# x86_64 or arm64; the latter needs `rustup target add aarch64-unknown-linux-gnu`.
ARCH ?= x86_64
LAMBDA_TARGET := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-gnu
BUILD_DIR := target/lambda/$(ARCH)
STACK ?= metrics-engine
# worker or control
FUNCTION ?= worker
EVENT ?= events/01-cross-rate.json
SAMPLE_DATA := sample-data/eurofxref-hist.csv
SAMPLE_BUCKET := target/invoke/bucket
DOCKER ?= docker
IMAGE ?= metrics-engine-worker
UP_PORT ?= 3000

.PHONY: help up change venv fmt lint test coverage fuzz soak memory bench bench-control schemas errors pictures queries queries-check FORCE demo invoke poll image build deploy deploy-cargo validate scan deny supply-venv

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

venv: $(STAMP) ## Install the Python tools of tools/requirements.txt into .venv

$(STAMP): tools/requirements.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tools/requirements.txt
	@mkdir -p $(@D) && touch $@

fmt: ## Format the code
	cargo fmt

lint: ## Check format and lints; a warning is an error
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

test: venv ## Run every test, the doc tests too
	@if cargo nextest --version > /dev/null 2>&1; then cargo nextest run && cargo test --doc; else cargo test; fi

coverage: venv $(COVERAGE_STAMP) ## Measure line coverage into target/coverage (installs cargo-llvm-cov and LLVM tools into target)
	@export PATH="$(CURDIR)/$(COVERAGE_VENV)/bin:$$PATH"; llvm=$$(echo $(CURDIR)/$(COVERAGE_VENV)/lib/python3*/site-packages/llvm/bin); \
	: "these LLVM tools cannot read compressed names"; \
	export RUSTFLAGS="-C llvm-args=-enable-name-compression=false"; \
	export LLVM_COV=$$llvm/llvm-cov LLVM_PROFDATA=$$llvm/llvm-profdata; \
	cargo llvm-cov --html --output-dir target/coverage $(COVERAGE_ARGS); \
	cargo llvm-cov report --summary-only

$(COVERAGE_STAMP): tools/requirements-coverage.txt
	@test -x $(COVERAGE_VENV)/bin/python || $(PYTHON) -m venv $(COVERAGE_VENV)
	$(COVERAGE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

schemas: ## Write the contracts as JSON Schemas and an AsyncAPI document into schemas/
	cargo run --bin metrics -- schemas --into schemas

errors: ## Write the error catalogue docs/errors.md
	UPDATE_DOCS=1 cargo test --test errors the_catalogue

pictures: venv ## Draw the pictures of docs/expressions.md
	UPDATE_DOCS=1 cargo test --test guide the_pictures

# A query macro asks the database of DATABASE_URL, and writes what it was told where SQLX_OFFLINE_DIR says.
target/queries: FORCE | venv
	@rm -rf $@ && mkdir -p $@
	@touch src/lib.rs
	SQLX_OFFLINE_DIR=$(CURDIR)/$@ $(VENV)/bin/python tools/postgres.py -- bash -ec \
		'for step in migrations/*.up.sql; do psql -qv ON_ERROR_STOP=1 -f $$step "$$DATABASE_URL"; done; cargo check --lib'

FORCE:

queries: target/queries ## Check the control plane's queries against a private Postgres, and write what a build without one needs into .sqlx
	@rm -rf .sqlx && cp -r $< .sqlx

queries-check: target/queries ## Fail where .sqlx is not what the queries and the migrations say
	@diff -r .sqlx $< || { echo "run make queries"; exit 1; }

fuzz: ## Fuzz each target for FUZZ_SECONDS (needs a nightly toolchain; installs cargo-fuzz)
	@rustup run nightly rustc --version > /dev/null 2>&1 || { echo "fuzzing needs a nightly compiler: rustup toolchain install nightly"; exit 1; }
	@cargo fuzz --version > /dev/null 2>&1 || cargo +nightly install cargo-fuzz --locked
	FUZZ_SEEDS=$(CURDIR)/fuzz/seeds/parquet cargo test --quiet --test hostile -- --ignored --exact parquet_files::seeds_of_the_fuzz_target
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/corpus/$$target; echo "== $$target, $(FUZZ_SECONDS) s"; \
		cargo +nightly fuzz run --sanitizer none --target-dir target/fuzz $$target fuzz/corpus/$$target fuzz/seeds/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0; \
	done

soak: venv ## Run for hours what the tests run for seconds
	KILLS=500 cargo test --test kill -- --nocapture
	SOAK_SEEDS=100000 cargo test --test faults -- --exact seeds --nocapture
	SOAK_BATCHES=1000000 cargo test --test batch_laws -- --nocapture
	SOAK_EVENTS=1000000 cargo test --test control many:: -- --nocapture

memory: ## Measure the memory of runs over MEMORY_POINTS points, optimised (10^8 take 12 GB of disk for a while)
	MEMORY_POINTS=$(MEMORY_POINTS) cargo test --profile bench --test memory -- --nocapture --test-threads=1

# As cargo-lambda builds functions: what is measured is what is deployed.
bench: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-cpu=haswell
bench: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-cpu=neoverse-n1
bench: $(BENCH_STAMP) ## Compare with pandas, polars, DuckDB and DataFusion (SECTIONS, ROUNDS; 15 GB of memory, 6 GB of disk for all)
	cargo build --release --bins --manifest-path benches/harness/Cargo.toml --target-dir $(BENCH_BUILD)
	cargo build --release --no-default-features --bin worker --target-dir $(BENCH_BUILD)
	BENCH_BIN=$(BENCH_BUILD)/release $(BENCH_VENV)/bin/python benches/bench.py target/bench-data $(SECTIONS) --rounds $(or $(ROUNDS),5)

bench-control: venv ## Measure the control plane on a private Postgres: events per second and latencies at 1, 100 and 10,000 metrics
	cargo test --profile bench --test control speed:: -- --ignored --nocapture --test-threads 1

$(BENCH_STAMP): tools/requirements-bench.txt
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

demo: ## Run the demo on the sample data
	cargo run --bin metrics -- demo

invoke: venv $(SAMPLE_BUCKET)/datasets ## Send EVENT=events/….json, or several, to the worker against a local S3, SNS and SQS
	@$(VENV)/bin/python tools/invoke.py $(SAMPLE_BUCKET) $(EVENT)

$(SAMPLE_BUCKET)/datasets: $(SAMPLE_DATA)
	cargo run --bin metrics -- dataset build --columns rates --csv $< --into $(SAMPLE_BUCKET)
	@touch $@

up: venv ## Run the whole engine on this machine: Postgres, S3, SNS, SQS, worker, control plane, sample data (UP_PORT; Ctrl-C ends it)
	@exec $(VENV)/bin/python tools/up.py --port $(UP_PORT)

change: venv ## Add a day to the dataset of the engine that `make up` runs: every metric gets a new version
	@$(VENV)/bin/python tools/up.py change

poll: ## Run the worker on this machine over AWS_SQS_RUN_REQUEST_QUEUE_URL; settings from .env, Ctrl-C ends it
	cargo run --release --bin worker -- --poll

image: ## Build the container image of the polling mode (IMAGE; needs docker or podman as DOCKER)
	$(DOCKER) build --tag $(IMAGE) .

build: venv ## Build a function with cargo-lambda (FUNCTION=worker or control, ARCH=x86_64 or arm64)
	cargo lambda build --release $(if $(filter worker,$(FUNCTION)),--no-default-features )--bin $(FUNCTION) --target $(LAMBDA_TARGET) --skip-target-check --lambda-dir $(BUILD_DIR)

deploy: venv ## Build and deploy the stack with SAM (STACK, ARCH)
	sam build --parameter-overrides Architecture=$(ARCH)
	sam deploy --stack-name $(STACK) --parameter-overrides Architecture=$(ARCH)

deploy-cargo: build ## Replace only the code of a deployed function (FUNCTION, STACK, ARCH)
	cargo lambda deploy --lambda-dir $(BUILD_DIR) --binary-name $(FUNCTION) $(STACK)-$(FUNCTION)

validate: venv ## Lint the template as it stands and as SAM expands it
	sam validate --lint
	$(VENV)/bin/python tools/template.py lint

scan: venv supply-venv ## Look for what is insecure in the template
	$(VENV)/bin/python tools/template.py scan

supply-venv: $(SUPPLY_STAMP)

$(SUPPLY_STAMP): tools/requirements-supply.txt
	@test -x $(SUPPLY_VENV)/bin/python || $(PYTHON) -m venv $(SUPPLY_VENV)
	$(SUPPLY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

deny: $(CARGO_DENY_ROOT)/bin/cargo-deny ## Check licences, bans and sources of the dependencies (DENY=advisories needs the network)
	$< --locked check $(or $(DENY),licenses bans sources)

# Unoptimised it is built in a minute, and checks as much.
$(CARGO_DENY_ROOT)/bin/cargo-deny:
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --debug --quiet --root $(CARGO_DENY_ROOT) \
		--target-dir target/cargo-deny-build --config profile.dev.debug=0
	@rm -rf target/cargo-deny-build
