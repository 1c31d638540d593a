# What people and CI both run. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test check deb twice bench chaos lab fmt lint deny doc setup images clean
SHELL := /bin/bash

CARGO ?= cargo
CACHE ?= .cache
export DEWPOINT_CACHE := $(abspath $(CACHE))
# Where rustup puts cargo, also before the next login.
export PATH := $(PATH):$(HOME)/.cargo/bin
PROFILE ?= dev
MINUTES ?= 5
SUITE ?= bookworm
ONLY ?=
SEED ?=

help: ## This list.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: ## A VM's whole life on this machine, from create to destroy (KEEP=1 leaves it running).
	@scripts/setup --demo
	@scripts/libvirt-up
	@echo "demo: building"
	@$(CARGO) build --locked --profile $(PROFILE) -p dewpoint-agent -p dewpoint-coordinator -p dewpoint
	@KEEP=$(KEEP) PROFILE=$(PROFILE) scripts/demo

test: setup images ## Everything that CI runs.
	@scripts/libvirt-up
	@$(MAKE) --no-print-directory lint doc
	@$(CARGO) build --locked --workspace --all-targets
	@scripts/check-guide
	@scripts/deb --bin target/debug --out target/debian/trial
	@scripts/host-tree $(SUITE)
	@QUICK=1 SUITE=$(SUITE) DEBS=target/debian/trial tests/lab/run
	@target/debug/dewpoint-chaos $(MINUTES) $(SEED)
	@scripts/test

check: ## The quick inner loop: format, lints, and the tests that need no VM.
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@$(CARGO) nextest run --locked --workspace --exclude dewpoint-tests

deb: setup ## The packages, into target/debian (ARCH=arm64 for the other architecture; scripts/deb --help).
	@scripts/deb $(if $(ARCH),--arch $(ARCH))

twice: setup ## Builds the packages twice and compares every byte.
	@scripts/deb-twice

bench: setup images ## Figures as JSON lines, medians of paired runs (QUICK=1: within 60 s once built).
	@scripts/libvirt-up
	@$(CARGO) build --locked --release -p dewpoint-agent -p dewpoint-coordinator -p dewpoint -p dewpoint-tests
	@QUICK=$(QUICK) target/release/dewpoint-bench

chaos: setup images ## Random events and faults on real VMs, then the promises (MINUTES=5, SEED=random).
	@scripts/libvirt-up
	@$(CARGO) build --locked --profile $(PROFILE) -p dewpoint-agent -p dewpoint-coordinator -p dewpoint-tests
	@target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/dewpoint-chaos $(MINUTES) $(SEED)

lab: setup images ## A fleet of hosts in a box, from packages on: real systemd, journald, libvirtd (QUICK=1: the short form).
	@scripts/host-tree $(SUITE)
	@$(if $(filter dev,$(PROFILE)),$(CARGO) build --locked --workspace --all-targets)
	@scripts/deb --no-lintian --out target/debian/lab $(if $(filter dev,$(PROFILE)),--bin target/debug,--profile $(PROFILE))
	@QUICK=$(QUICK) KEEP=$(KEEP) SUITE=$(SUITE) DEBS=target/debian/lab tests/lab/run $(ONLY)

fmt: ## Formats all Rust code.
	@$(CARGO) fmt --all

lint: deny
	@$(CARGO) fmt --all --check
	@scripts/lint-sizes
	@scripts/check-docs
	@scripts/check-units
	@scripts/check-scripts
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check --hide-inclusion-graph licenses bans sources; \
	else echo "deny: cargo-deny is not installed, so licences and sources are not checked (cargo install cargo-deny --locked)"; fi

doc:
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

setup:
	@scripts/setup

images:
	@scripts/image-tiny $(DEWPOINT_CACHE)/images/tiny.qcow2

clean: ## Removes what was built; images in .cache stay.
	@$(CARGO) clean
