# Each target is what CI calls; see .ci/run.
CARGO ?= cargo
TOOLS := tests/tools/bin
IMAGE ?= podseal:latest

.PHONY: all demo test e2e unit image tools lint fmt deny generate bench build clean

all: build

build: ## the release binary, target/release/podseal
	$(CARGO) build --locked --release

image: ## the image, by docker, podman or buildah: make image IMAGE=registry.example.com/podseal:1
	deploy/image/build $(IMAGE)

demo: ## the whole story on this machine, with nothing installed
	$(CARGO) run --locked --quiet -- demo

test: tools ## everything, with the real servers; fails if anything was skipped
	PODSEAL_REQUIRE_SERVERS=1 $(CARGO) test --locked

e2e: tools ## of these, the image and the chart on a node that runs Pods
	PODSEAL_REQUIRE_SERVERS=1 $(CARGO) test --locked --test it -- e2e

unit: ## what needs no servers; the rest is skipped and says so
	$(CARGO) test --locked

tools: ## installs and builds the real servers that the tests drive
	tests/tools/install.sh

lint: fmt deny ## format, lints, licences
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --check

deny: tools ## licences, sources, bans; advisories where the advisory database can be had
	$(TOOLS)/cargo-deny --offline check bans licenses sources

generate: ## writes the generated files anew
	UPDATE_GENERATED=1 $(CARGO) test --locked --lib generated
	UPDATE_GENERATED=1 PODSEAL_REQUIRE_SERVERS=1 $(CARGO) test --locked --test it -- chart::generated

bench: tools ## speed and memory side by side, as ratios
	$(CARGO) bench --locked --bench webhook
	$(CARGO) bench --locked --bench store
	$(CARGO) bench --locked --bench signing
	$(CARGO) test --locked --release --lib -- --ignored --nocapture cost_beside_the_bare

clean:
	$(CARGO) clean
