# catflap: `make run` to see it work, `make test` before a commit, `make help` for the rest.

GO      ?= go
BIN     := bin/catflap
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/catflap
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(BIN) ./cmd/catflap

.PHONY: run
run: build ## a real curl fetches a cat's greeting through a real TUN device; ends by itself
	@test/run.sh $(BIN)

.PHONY: deps
deps: ## install what the tests need (as root, with apt-get), or say what is missing
	@test/deps.sh

# The packages that take longest come first. What waits for others runs beside what computes.
LONGEST := ./test/e2e ./test/lab ./test/browser

.PHONY: test
test: deps ## all tests, with the race detector; the longest ones without
	@$(MAKE) --no-print-directory -j2 test-race test-whole

.PHONY: test-race
test-race:
	CATFLAP_REQUIRE=$(CATFLAP_REQUIRE) $(GO) test -race -timeout 20m $(LONGEST) ./...

.PHONY: test-whole
test-whole: # the race detector makes these ten times as long: with it they do a part of their work
	$(GO) test -timeout 20m -run '^(TestGoodput|TestDeterminism|TestIntegrity|TestLossyLink|TestMemoryIsBounded|TestPassSums|TestShortConnections|TestEgressGibibyte|TestForwardOffload)$$' ./test/lab ./app/dashboard ./test/e2e

.PHONY: lint
lint: ## gofmt, go vet on three systems, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "gofmt wants to change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s)
	@test/fuzz.sh $(FUZZTIME)

.PHONY: conformance
conformance: ## the RFC conformance table, measured: netstack and (as root) Linux
	$(GO) test -count=1 -run '^TestTable$$' ./test/conformance -update

.PHONY: mutants
mutants: ## stacks that break a rule each: some script must find every one (under 10 minutes)
	$(GO) test -count=1 -timeout 20m -run '^TestMutants$$' ./test/conformance -mutants

.PHONY: clients
clients: ## what takes too much to install for every test: podman; Toxiproxy's client for Node, from the npm registry
	@test/deps.sh clients
	CATFLAP_REQUIRE=all $(GO) test -count=1 -tags clients -run '^(TestToxiproxyNode|TestPodman)$$' ./test/e2e

.PHONY: bench
bench: ## the full side-by-side benchmark (root; 22 minutes)
	$(GO) run ./test/bench -json test/bench/results/full.json -svg test/bench/results/full.svg

.PHONY: bench-quick
bench-quick: ## the main ratios to the kernel (root; under 3 minutes)
	$(GO) run ./test/bench -quick -json test/bench/results/quick.json -svg test/bench/results/quick.svg

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
