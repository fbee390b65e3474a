# The front panel. Each target is a line or two; what they need is in .ci/setup.
.PHONY: demo test lint miri bench cost silence scale fuzz sim torment crash cross cross-twice cross-test lab lab-setup lab-systemd packages setup build

IMAGE := target/demo/testing-service.tar
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

demo: build $(IMAGE) ## the quick start: a control plane, an agent, a Deployment
	$(SUDO) ./.ci/demo $(IMAGE)

test: setup $(IMAGE) ## everything that must hold; nothing is skipped
	cargo build --workspace
	$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" cargo test --workspace --all-features --no-fail-fast
	./.ci/sim
	./cross/lab/run

lab: lab-setup build $(IMAGE) ## machines with real kernels in QEMU: the whole flow on x86-64 and ARM, no clock, disk full, slow, power cuts
	cargo build -p xtask
	./cross/build aarch64-unknown-linux-musl
	./cross/build --service
	-./cross/lab/run amd64 arm64 no-memory clock slow-disk
	-./cross/lab/power-cut
	./cross/lab/report

lab-systemd: lab-setup build $(IMAGE) ## the package on a machine with systemd: install, use, restart, upgrade, purge; wants root
	cargo build -p xtask
	./cross/lab/systemd

lab-setup: setup
	./.ci/setup lab

cost: setup build $(IMAGE) ## each budget beside its number; COST_IDLE_SECONDS=60 is quicker
	cargo build --release -p coracle-benches --bin cost
	$(SUDO) env "PATH=$$PATH" "COST_IDLE_SECONDS=$${COST_IDLE_SECONDS:-600}" target/release/cost

silence: setup build $(IMAGE) ## an idle cluster writes nothing and wakes rarely: simulated for an hour, measured for SILENCE_SECONDS (600)
	cargo run --profile sim -p coracle-sim -- silence
	cargo build --release -p coracle-benches --bin silence
	$(SUDO) env "PATH=$$PATH" "SILENCE_SECONDS=$${SILENCE_SECONDS:-600}" target/release/silence

scale: setup build ## 1,000 pods on 100 fake nodes, end to end: bound a second, times, memory, flash
	cargo build --release -p coracle-benches --bin cluster-scale
	target/release/cluster-scale

lint: ## format, clippy, pure crates alone, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	cargo clippy -p sched-core -p coracle-control-logic -p coracle-agent-logic -p coracle-sim -- -D warnings
	command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
	cargo fetch --quiet
	cargo deny --offline --all-features --config .deny.toml check bans licenses sources

build: ## the release binaries, each with its own features of what they share: control/seldom.txt knows those
	cargo build --release -p coracle-control
	cargo build --release -p coracle-agent

setup: ## what the tests need: packages, kubectl in two versions
	./.ci/setup

# Static, so that the image holds one file.
$(IMAGE): $(wildcard control/examples/testing-service/src/*.rs)
	cargo rustc --release -p testing-service --target x86_64-unknown-linux-gnu -- -C target-feature=+crt-static
	cargo run -q -p xtask -- image docker.io/jagadesh1982/testing-service:latest \
	  target/x86_64-unknown-linux-gnu/release/testing-service $@

sim: ## whole clusters, one from each seed, for SIM_MINUTES (10): the seed is printed with what it broke
	cargo run --profile sim -p coracle-sim -- soak "$${SIM_MINUTES:-10}"

torment: setup build $(IMAGE) ## the real programs, killed, stopped, cut off, on full disks, for TORMENT_MINUTES (10); wants root
	cargo build --profile sim -p coracle-sim -p coracle-benches --bin coracle-sim --bin torment
	$(SUDO) target/sim/coracle-sim torment "$${TORMENT_MINUTES:-10}" --bin-dir target/release

crash: ## power cuts at 200,000 points of what redb writes, and at 100,000 of what an agent writes
	cargo run --profile sim -p coracle-store --features redb --example crash -- 200000
	cargo run --profile sim -p coracle-agent --features crash -- crash 100000

fuzz: ## each fuzz target for FUZZ_SECONDS (30), with the nightly toolchain; their bodies run in `make test` too
	./.ci/fuzz

bench: ## placement: rates beside their limits and a plain scan, a plot, criterion, instructions by shape
	cargo build --release -p coracle-benches --bin placement
	target/release/placement --table
	cargo bench -p coracle-benches --bench placement
	./.ci/instructions

miri: ## the placement core's unit tests and its example in an interpreter that knows undefined behaviour
	rustup component add miri rust-src --toolchain nightly
	cargo +nightly miri test -p sched-core --lib --target-dir target/miri
	cargo +nightly miri run -p sched-core --example ten_pods --target-dir target/miri

cross: ## ARM: three targets, static, each binary's size beside its budget and its hash; sched-core on bare metal
	./cross/build
	./cross/build --bare-metal

cross-twice: ## two builds for aarch64 from two directories: the same bytes
	./cross/build --twice aarch64-unknown-linux-musl

cross-test: ## unit tests of what decides on ARM under qemu-user, and both programs: BOARDS=aarch64, armv7, or both
	./.ci/setup arm
	./cross/test $(BOARDS)

packages: build cross ## .deb and tar for each architecture, in target/packages
	./cross/package
