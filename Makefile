# Building and running need Rust and a C compiler; the tests also Python 3 with pip, and kcat.

PYTHON ?= python3
VENV := .venv
DATA ?= ./data

.PHONY: run build test test-long check figures clean

run: build
	target/release/tailwater standalone --data-dir $(DATA)

build:
	cargo build --release --locked --package tailwater-node

# The Kafka clients that the tests drive.
$(VENV)/.ready: tests/clients/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt
	touch $@

# Everything, 10,000 records a client and 3 rounds of kill -9.
test: $(VENV)/.ready
	cargo test --workspace --locked --no-fail-fast

# The same clients and kills with 100,000 records and 20 rounds.
test-long: $(VENV)/.ready
	TAILWATER_TEST_LONG=1 cargo test --workspace --locked --test clients --test kill9 -- --nocapture

check:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked --quiet
	cargo test --package tailwater-tests --locked --test tidy
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; \
	else echo "SKIPPED cargo deny: it is not installed (cargo install cargo-deny)" >&2; fi

# First figures of this machine and the server on it: a table, and target/figures.json.
figures: $(VENV)/.ready
	cargo build --release --locked --package tailwater-node --package tailwater-tests
	target/release/figures --binary target/release/tailwater --python $(VENV)/bin/python --json target/figures.json

clean:
	cargo clean
	rm -rf $(VENV)
