# Every command a person types. Thin: it installs what is missing, calls cargo, kedge-image and the tests in qemu-tests/.

BOARD   ?= qemu-x86_64
MEMORY  ?= 256M
# Seconds that the demo watches the resting machine for what it writes to its disk.
AT_REST ?= 300
# `boot` links quickly and is what tests boot; `release` is smaller and is what ships.
PROFILE ?= release

CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kedge
OUT     ?= out/$(BOARD)
SUDO    := $(if $(filter-out 0,$(shell id -u)),sudo)
HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
export CARGO_TARGET_DIR ?= $(CACHE)/target
# The host's tools, and the device's programs.
BIN      = $(CARGO_TARGET_DIR)/$(HOST)/$(PROFILE)
PROGRAMS = $(CARGO_TARGET_DIR)/$(TARGET)/$(PROFILE)

# What a board's architecture asks for: Rust's name of it, Debian's, and packages that the host needs on top.
ARCH    := $(shell sed -n 's/^architecture: //p' board-configs/$(BOARD).yaml)
TARGET   = $(TARGET.$(ARCH))
TARGET.x86_64    = x86_64-unknown-linux-gnu
TARGET.aarch64   = aarch64-unknown-linux-gnu
TARGET.armv7     = armv7-unknown-linux-gnueabihf
DEBIAN.x86_64    = amd64
DEBIAN.aarch64   = arm64
DEBIAN.armv7     = armhf
PACKAGES.x86_64  = $(if $(FOREIGN),mmdebstrap gcc-x86-64-linux-gnu libc6-dev-amd64-cross) qemu-system-x86 ovmf
PACKAGES.aarch64 = $(if $(FOREIGN),mmdebstrap gcc-aarch64-linux-gnu libc6-dev-arm64-cross) qemu-system-arm qemu-efi-aarch64
PACKAGES.armv7   = $(if $(FOREIGN),mmdebstrap lld gcc-arm-linux-gnueabihf libc6-dev-armhf-cross) qemu-system-arm qemu-efi-arm
# cargo for the board; empty where its architecture is this machine's. CROSS=debian says which compiler, see there.
FOREIGN  = $(if $(filter $(HOST),$(TARGET)),,.ci/cross $(TARGET))
BUSYBOX  = $(if $(FOREIGN),$(CACHE)/cross-$(DEBIAN.$(ARCH))/bin/busybox,/bin/busybox)
WHERE    = --board $(BOARD) --bin $(BIN) --programs $(PROGRAMS) --busybox $(BUSYBOX) --out $(OUT)

# What `kedge` links statically, and the rustc flags that make it so: relocations packed (DT_RELR, which glibc has known since 2.36) are 0.9 MB less.
# Not in .cargo/config.toml: there they would reach proc-macros.
TRIPLE  := $(shell uname -m)-linux-gnu
STATIC   = LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=/usr/lib/$(TRIPLE) \
           CARGO_TARGET_$(shell echo '$(HOST)' | tr a-z- A-Z_)_RUSTFLAGS='-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs'

# Needed to build, to bake, to boot and to test; nothing here is needed on the device.
PACKAGES = build-essential ca-certificates libseccomp-dev e2fsprogs qemu-utils $(PACKAGES.$(ARCH)) python3-pip busybox-static iproute2 nftables dnsmasq-base bind9-dnsutils bmap-tools dosfstools cryptsetup-bin openssl sbsigntool docker-registry skopeo git curl

.PHONY: help
help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: setup
setup: ## install what building and testing need (apt; asks sudo when not root)
	@command -v rustc >/dev/null || { echo "rustc is missing: install Rust 1.95 or newer (rustup, or Debian's rustc and cargo)"; exit 1; }
	@missing=""; for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; \
	  $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; fi

.PHONY: build
build: setup ## build kedge (static), its stage 1 and the host tools
	$(if $(FOREIGN),$(FOREIGN) build,$(STATIC) cargo build --target $(TARGET)) --locked --profile $(PROFILE) -p kedge -p kedge-stage1
	$(STATIC) cargo build --locked --target $(HOST) --profile $(PROFILE) -p kedge-image -p kedge-qemu-tests

.PHONY: image
image: build ## bake the image of BOARD into OUT, with a busybox image in it
	$(BIN)/kedge-qemu bake $(WHERE)

.PHONY: run
run: image ## boot the image and stay attached to its console
	$(BIN)/kedge-image run --board $(BOARD) --out $(OUT) --memory $(MEMORY)

.PHONY: demo
demo: image ## boot the image, run a workload on it with kubectl, show what was measured
	$(BIN)/kedge-qemu demo $(WHERE) --memory $(MEMORY) --at-rest $(AT_REST)

.PHONY: test
test: ## everything CI runs: unit tests, API tests with kubectl, the boot test
test: PROFILE = boot
test: unit-test boot-test

.PHONY: unit-test
unit-test: setup ## unit and API tests; those that need root run under sudo
	cargo test --locked --workspace --no-run
	$(if $(SUDO),CARGO_TARGET_$(shell echo '$(HOST)' | tr a-z- A-Z_)_RUNNER='$(CURDIR)/.ci/root-where-needed') cargo test --locked --workspace

.PHONY: boot-test
boot-test: PROFILE = boot
boot-test: image ## boot the image under QEMU, as firmware and as QEMU start it, and drive it with kubectl; ONLY=NAME for one test
	$(BIN)/kedge-qemu test $(WHERE) --memory $(MEMORY) $(ONLY)

# Boards of other architectures. CI does not run it: it has no time to compile for each of them. What fits there is among the unit tests:
# `cargo test -p kedge-image raspberry_pi` lays every Raspberry Pi's card out and reads it back as the firmware does.
BOARDS ?= qemu-arm64 qemu-armv7 rpi2 rpi3 rpi-zero2w rpi4 rpi5
.PHONY: test-boards
test-boards: ## the boot test on every board of BOARDS, each with its own cross build
	for board in $(BOARDS); do $(MAKE) boot-test BOARD=$$board || exit 1; done

.PHONY: powercut-test
powercut-test: PROFILE = boot
powercut-test: image ## kill QEMU twenty times during writes; every acknowledged write must be there
	$(BIN)/kedge-qemu powercut $(WHERE) --memory $(MEMORY) --times 20

.PHONY: upgrade-test
upgrade-test: PROFILE = boot
upgrade-test: image ## every boot test of upgrades, and QEMU killed fifty times in the middle of one
	$(BIN)/kedge-qemu test $(WHERE) --memory $(MEMORY) upgrade
	$(BIN)/kedge-qemu upgrade-cuts $(WHERE) --memory $(MEMORY) --times 50

.PHONY: api-bench
api-bench: setup ## the API server's speed and size with 21,000 objects and 1,000 watchers, beside their bars and upstream
	cargo bench --locked -p kedge --bench api

.PHONY: bench
bench: api-bench ## the same, and what containers and services cost, beside runc and crun where they are installed; needs root
	cargo build --locked --release -p kedge-runtime --examples
	cargo build --locked --release -p kedge-net --benches
	$(SUDO) $(CARGO_TARGET_DIR)/release/examples/bench
	$(if $(SUDO),CARGO_TARGET_$(shell echo '$(HOST)' | tr a-z- A-Z_)_RUNNER='sudo -E') cargo bench --locked -p kedge-net

# What makes a build tell libFuzzer where it has been; as cargo-fuzz does it, with flags of the stable compiler.
COVERAGE = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
           -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
SECONDS ?= 60

.PHONY: fuzz
fuzz: setup ## throw inputs at one reader, guided by coverage: FUZZ=NAME SECONDS=60; without a name it lists them
	cargo run --locked --quiet -p kedge-fuzz --bin kedge-fuzz-seeds -- $(FUZZ) $(if $(FUZZ),$(CACHE)/fuzz/$(FUZZ))
	$(if $(FUZZ),CARGO_TARGET_$(shell echo '$(HOST)' | tr a-z- A-Z_)_RUSTFLAGS='$(COVERAGE)' \
	  cargo build --locked --target $(HOST) --profile fuzz -p kedge-fuzz --features libfuzzer --bin kedge-fuzz)
	$(if $(FUZZ),KEDGE_TARGET=$(FUZZ) $(CARGO_TARGET_DIR)/$(HOST)/fuzz/kedge-fuzz $(CACHE)/fuzz/$(FUZZ) \
	  -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -max_len=16384)

.PHONY: lint
lint: setup ## rustfmt and clippy, no warnings
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: clean
clean: ## remove what was baked; the cargo cache stays in $(CACHE)
	rm -rf out
