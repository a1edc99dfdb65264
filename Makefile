# Building and running need Rust and a C compiler. The tests also need Python 3 with pip, kcat, Java 17 with Maven, Node.js with
# npm, and Go; they say what they skip.

PYTHON ?= python3
VENV := .venv
DATA ?= ./data

.PHONY: run build cluster cluster-stop clients test test-long test-exactly-once test-models test-reference compatibility \
	kubernetes-dry-run check bench clean

run: build
	target/release/tailwater standalone --data-dir $(DATA)

build:
	cargo build --release --locked --package tailwater-node

# Every role a process of its own, on loopback, under CLUSTER_DIR: see deploy/local/cluster for all settings.
cluster: build
	@deploy/local/cluster start

cluster-stop:
	@deploy/local/cluster stop

# Python with the clients, and what the checks of deploy/ need.
$(VENV)/.ready: tests/clients/requirements.txt tests/deploy/requirements.txt
	PYTHON=$(PYTHON) tests/clients/prepare python

# The Kafka clients that the tests drive, as far as their runtimes are here.
clients: $(VENV)/.ready
	PYTHON=$(PYTHON) tests/clients/prepare

# Everything: 10,000 records a client, 3 rounds of kill -9, one of each process of a cluster.
test: clients
	cargo test --workspace --locked --no-fail-fast

# The same with 100,000 records a client and many more kills: 20 rounds of the server and of each process of a cluster.
test-long: clients
	TAILWATER_TEST_LONG=1 cargo test --workspace --locked --test clients --test kill9 --test cluster --test coordinators --test transactions -- --nocapture

# Transactions in a model of coordinators, leaders, producers and the network between them: SEEDS runs, from FIRST on.
SEEDS ?= 20000
FIRST ?= 0
test-models:
	TAILWATER_TEST_SEEDS=$(SEEDS) TAILWATER_TEST_FIRST_SEED=$(FIRST) \
		cargo test --workspace --locked --lib txn::tests::joint -- --nocapture

# A million records that a worker passes on in transactions, killed ten times meanwhile, and once replaced while it stands still.
test-exactly-once: $(VENV)/.ready
	TAILWATER_TEST_LONG=1 cargo test --workspace --locked --test transactions -- --nocapture --exact killed_workers_pass_each_record_on_once

# The client tests, Kafka's tools and our admin commands against Apache Kafka 4.3.0, which tests/reference/kafka starts: they are right about Kafka.
test-reference: clients
	cargo test --workspace --locked --test clients --test admin --test transactions --test migration -- --ignored --nocapture --test-threads 1

# Writes docs/compatibility.md anew, out of a run of the client tests.
compatibility: clients
	-cargo test --workspace --locked --test clients
	$(VENV)/bin/python tests/clients/compatibility.py update --server tailwater \
		--clients target/compatibility/clients-tailwater.json --tools target/compatibility/tools-tailwater.json

# Asks the API server of KUBECONFIG whether it would take the manifests; creates nothing. FOLDER: which ones.
kubernetes-dry-run: $(VENV)/.ready
	$(VENV)/bin/python tests/deploy/dry-run $(FOLDER)

check:
	cargo fmt --all -- --check
	rustfmt --check --edition 2024 --config-path rustfmt.toml tests/clients/rust/src/main.rs
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked --quiet
	cargo test --workspace --locked --test tidy
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; \
	else echo "SKIPPED cargo deny: it is not installed (cargo install cargo-deny)" >&2; fi

# What it costs and how fast it is, beside the machine's limits and Apache Kafka, and Nisshi if it is installed
# (tests/reference/nisshi says how): docs/performance.md, target/bench.json.
# BENCH="--only standalone,kafka --records 500000" measures less; BENCH="--only groups" the groups, and keeps the other figures.
bench: $(VENV)/.ready
	cargo build --release --locked --package tailwater-node --package tailwater-tests
	target/release/bench --binary target/release/tailwater --python $(VENV)/bin/python --json target/bench.json \
		--document docs/performance.md $(BENCH)

clean:
	cargo clean
	rm -rf $(VENV) .clients
