# For those who type `make`: each target is a line or two of cargo. `cargo xtask help` lists what is behind them.

CONFIG ?= config/config.yaml
IMAGE  ?= llmux

.DEFAULT_GOAL := help
.PHONY: build test coverage lint fmt check run demo clean docker-build help

build: ## the release binary, in bin/llmux
	cargo build --locked --profile dist --package llmux-server
	mkdir -p bin
	echo '*' > bin/.gitignore
	install -m 0755 "$${CARGO_TARGET_DIR:-target}/dist/llmux-server" bin/llmux

test: ## all checks and all tests; the last line is `N passed, N failed`
	cargo xtask test

# The default limit of a minute is too short for a test program, and a folder of its own keeps target/debug from being emptied.
coverage: ## a report in target/tarpaulin/tarpaulin-report.html (needs `cargo install cargo-tarpaulin`)
	cargo xtask with-services cargo tarpaulin --workspace --exclude xtask --engine llvm --locked --timeout 3600 \
	  --exclude-files 'xtask/*' '*/benches/*' '*/examples/*' '*/fuzz/*' \
	  --target-dir target/tarpaulin --out Html --output-dir target/tarpaulin

lint: ## clippy, and the project's own rules
	cargo xtask test --only clippy
	cargo xtask tidy

fmt: ## formats the sources
	cargo fmt --all

check: fmt test ## formats, then everything that `test` does, clippy and the rules included

run: build ## runs bin/llmux with $(CONFIG)
	./bin/llmux --config $(CONFIG)

demo: ## runs with a fake vendor, without any key
	cargo run -- demo

clean: ## removes what was built
	cargo clean
	rm -rf bin

docker-build: ## the container image $(IMAGE)
	docker build -t $(IMAGE) .

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
