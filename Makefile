# `make` prints the targets that have a description after "##".

PORT      ?= 8080
FUZZTIME  ?= 30s
COUNT     ?= 6
RELEASES  ?= 1000
REVISIONS ?= 10
OPERATIONS ?= 50000
SEED      ?= 1
OUTAGES   ?= 5s,20s,60s,180s
CYCLES    ?= 200
SOAK      ?= 30m
IMAGE     ?= helm-state-metrics
# Recursive variables, because few targets use them. The tag is the one in the manifests.
ARCH      ?= $(shell $(GO) env GOARCH)
TAG       ?= $(shell awk '/^appVersion:/ { gsub(/"/, "", $$2); print $$2 }' manifests/chart/helm-state-metrics/Chart.yaml)
GO        ?= go

MAKEFLAGS += --no-print-directory
# The large builds use all cores.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

module   := github.com/helm-state-metrics/helm-state-metrics
# Static binaries, without cgo. -buildvcs=false, because the build would fail in a clone that is owned by another user, as
# in many CI systems; ldflags set the version.
go_build := CGO_ENABLED=0 $(GO) build -buildvcs=false

# The version comes from the git tags. In a source archive it comes from the file VERSION.
stamp    := github.com/prometheus/common/version
version  = $(shell git describe --tags --always --abbrev=12 --dirty 2>/dev/null || cat VERSION 2>/dev/null || echo unknown)
revision = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
branch   = $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null || echo unknown)
# The date of the commit, so that builds are reproducible.
date     = $(shell git log -1 --format=%cI 2>/dev/null)
ldflags  = -s -w -X $(stamp).Version=$(version:v%=%) -X $(stamp).Revision=$(revision) -X $(stamp).BuildDate=$(date)

# A file that changes with these, so that make rebuilds the binaries.
stamped := bin/.stamp
$(shell mkdir -p bin; echo '$(ldflags) $(branch)' | cmp -s - $(stamped) || echo '$(ldflags) $(branch)' >$(stamped))

# The exporter and its companion, each in a directory of cmd.
programs := helm-state-metrics helm-chart-versions
sources := $(shell find cmd internal -type f ! -name '*_test.go' ! -path '*/testdata/*' 2>/dev/null)

# each builds the given files in order and prints the progress.
each = @set -e; i=0; for file in $(1); do \
	i=$$((i+1)); step="[$$i/$(words $(1))]"; \
	if $(MAKE) -q $$file 2>/dev/null; then echo "$$step $$file is up to date"; \
	else $(MAKE) step="$$step " $$file; fi; done

# started prints a message, because some builds take minutes without output.
started = @mkdir -p bin; echo "$(step)building $(1)"

.PHONY: help
help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##### The programs

.PHONY: build
build: $(programs:%=bin/%) ## Build the exporter and helm-chart-versions into bin/

$(programs:%=bin/%): go.mod go.sum $(sources) $(stamped)
	$(call started,$(@F) (up to 2 minutes when nothing is cached))
	@$(go_build) -trimpath -ldflags='$(ldflags) -X $(stamp).Branch=$(branch)' -o $@ ./cmd/$(@F)

.PHONY: run
run: bin/helm-state-metrics ## Run the exporter against the cluster of your kubeconfig (ARGS="…" adds flags)
	@bin/helm-state-metrics $(ARGS)

##### The image and the release

# images returns the files of the images for the architectures $(1).
images = $(foreach arch,$(1),$(programs:%=bin/image/linux-$(arch)/%) bin/image/linux-$(arch)/LICENSES.txt)

# write_image writes the archive of the image $(2) for the architecture $(1) to stdout.
write_image = $(GO) run -C image . -arch $(1) -name $(2) -version '$(version:v%=%)' -revision '$(revision)' \
	$(addprefix -created ,$(date)) -licenses ../bin/image/linux-$(1)/LICENSES.txt $(programs:%=../bin/image/linux-$(1)/%)

# With several architectures each image gets its own tag: only a registry can combine them into one.
.PHONY: image
image: $(call images,$(ARCH)) ## Build the container image for this machine's architecture (ARCH="amd64 arm64" IMAGE=… TAG=…)
	@set -e; for arch in $(ARCH); do \
		name=$(IMAGE):$(TAG)$(if $(word 2,$(ARCH)),-$$arch); \
		$(call write_image,$$arch,$$name) | docker load --quiet >/dev/null; \
		echo "built $$name"; done

# It fails at a license that is not known. One of them for each image, because what is linked depends on the architecture.
bin/image/linux-%/LICENSES.txt: go.mod go.sum image/go.mod LICENSE image/licenses/main.go $(sources)
	@mkdir -p $(@D) && $(GO) run -C image ./licenses -arch $* >$@

# Without the branch, which is not the same in all clones of a commit: even the build ID depends on the flags.
bin/image/linux-%: go.mod go.sum $(sources) $(stamped)
	$(call started,$(*F) for $(*D))
	@GOOS=linux GOARCH=$(*D) $(go_build) -trimpath -ldflags='$(ldflags)' -o $@ ./cmd/$(*F)

release_archs := amd64 arm64
.PHONY: committed
committed:
	@case '$(version)' in *-dirty) echo "a release needs a clean work tree: commit first" >&2; exit 1;; esac

.PHONY: release
release: committed $(call images,$(release_archs)) bin/cyclonedx-gomod ## Write binaries, images, SBOMs, licenses and checksums for linux amd64 and arm64 into bin/release
	@rm -rf bin/release && mkdir -p bin/release
	@set -e; for arch in $(release_archs); do \
		suffix=-$(version:v%=%)-linux-$$arch; \
		$(call write_image,$$arch,$(IMAGE):$(version:v%=%)) >bin/release/helm-state-metrics$$suffix-image.tar; \
		install -m 644 bin/image/linux-$$arch/LICENSES.txt bin/release/helm-state-metrics$$suffix-licenses.txt; \
		for program in $(programs); do \
			name=bin/release/$$program$$suffix; \
			install -m 755 bin/image/linux-$$arch/$$program $$name; \
			bin/cyclonedx-gomod bin -json -std -noserial -notimestamp -version '$(version)' -output $$name.cdx.json $$name; done; done
	@cd bin/release && export LC_ALL=C && sha256sum helm-* >SHA256SUMS
	@cat bin/release/SHA256SUMS

# -trimpath, because the SBOM has the checksum of the program that wrote it.
bin/cyclonedx-gomod: test/tools/cyclonedx-gomod/go.mod test/tools/cyclonedx-gomod/go.sum
	$(call started,cyclonedx-gomod (about half a minute when nothing is cached))
	@cd test/tools/cyclonedx-gomod && $(go_build) -trimpath -ldflags='-s -w' -o ../../../$@ github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

##### Checks

# These kill the API server of all end-to-end tests, so they run alone. They mostly wait; the unit tests run meanwhile, and
# leave them the CPU that they need.
alone := ^(TestAgreement|TestFaults|TestOutages)$$
.PHONY: test
test: ## Run all tests, including end-to-end tests
	$(call each,$(programs:%=bin/%) $(test_image) $(test_tools))
	@echo "unit tests, and end-to-end tests of faults"
	@nice $(MAKE) unit & unit=$$!; $(MAKE) alone; code=$$?; wait $$unit && exit $$code
	@echo "all other end-to-end tests"
	@$(GO) test -count=1 -timeout 20m -parallel 4 -skip '$(alone)' ./test/e2e/...

.PHONY: alone
alone:
	@$(GO) test -count=1 -timeout 20m -run '$(alone)' ./test/e2e

.PHONY: unit
unit:
	@race=-race; $(GO) build -race runtime/cgo 2>/dev/null || race=; \
	[ "$$race" ] || echo "without the race detector: it needs a C compiler"; \
	$(GO) test $$race ./cmd/... ./internal/... ./test/support/...
	@$(GO) test $$($(GO) list ./test/... | grep -v '/test/e2e\|/test/support')
	@$(GO) test -C image ./...
	@cd test/cluster && CGO_ENABLED=0 $(GO) test -vet=off ./...

.PHONY: agree
agree: ## Compare metrics with records after random operations and outages (OPERATIONS=50000 SEED=1 OUTAGES=5s,20s,60s,180s OUT=docs/agreement.md)
	$(call each,$(programs:%=bin/%) $(test_tools))
	$(GO) test -count=1 -timeout 4h -v -run '^(TestAgreement|TestOutages)$$' ./test/e2e -operations=$(OPERATIONS) -seed=$(SEED) -outages=$(OUTAGES) \
		$(if $(OUT),-agreement-report=$(abspath $(OUT)))

.PHONY: chaos
chaos: ## Cause faults of the API server, the network and the exporter, and measure how long each takes to heal (CYCLES=200 SEED=1 OUT=docs/faults.md)
	$(call each,$(programs:%=bin/%) $(test_tools))
	$(GO) test -count=1 -timeout 4h -v -run '^(TestFaults|TestTermination|TestMemoryLimit|TestClock)$$' ./test/e2e -limited-releases=10000 -fault-times=3 -cycles=$(CYCLES) -seed=$(SEED) $(if $(OUT),-faults-report=$(abspath $(OUT)))

.PHONY: lint
lint: bin/golangci-lint ## Run the linters
	bin/golangci-lint run ./...
	cd image && ../bin/golangci-lint run ./...
# Format only: linting this module, which imports all of Kubernetes, takes many minutes.
	cd test/cluster && ../../bin/golangci-lint fmt --diff

.PHONY: generate
generate: bin/helm3 bin/helm4 bin/kubectl ## Regenerate the tables in docs/ and the objects in manifests/kustomize
	$(GO) generate ./...

.PHONY: verify
verify: generate ## Check that generated files and go.mod files are up to date
	@set -e; for mod in $(modules); do echo "go mod tidy in $$mod"; (cd $$mod && $(GO) mod tidy); done
	git diff --exit-code

# The database may be a mirror (https://…), or a directory with the files of https://vuln.go.dev/vulndb.zip (file:///…).
GOVULNDB ?= https://vuln.go.dev
.PHONY: vuln
vuln: bin/govulncheck ## Look for known vulnerabilities in what is released (GOVULNDB=https://vuln.go.dev or a mirror)
	@for what in '. ./cmd/...' 'image ./...'; do code=0; echo "vulnerabilities that $${what#* } in $${what% *} can reach"; \
		GOOS=linux bin/govulncheck -C $${what% *} -db '$(GOVULNDB)' $${what#* } || code=$$?; \
		case $$code in 0) ;; 3) echo "vulnerable: update the modules that are named above" >&2; exit 1;; \
		*) echo "NOT CHECKED for vulnerabilities: see above. If $(GOVULNDB) cannot be reached, set GOVULNDB to a mirror" >&2; exit 1;; esac; done

fuzz_targets = $(shell grep -ro --include=*_test.go '^func Fuzz[A-Za-z]*' internal | sed 's,^internal/\(.*\)/[^/]*:func ,\1/,' | sort)
# awk prints what go test does, adds a row to the table, and fails if go test did.
.PHONY: fuzz
fuzz: ## Fuzz all that reads what others write (FUZZTIME=30s each; FUZZ=-parallel=1 adds flags, OUT=docs/fuzzing.md counts)
	@rm -f bin/fuzz.md
	@for target in $(fuzz_targets); do echo $$target; \
		$(GO) test -toolexec $(CURDIR)/test/fuzz-compile ./internal/$${target%/*} -run '^$$' -fuzz "^$${target#*/}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $(FUZZ) 2>&1 | \
		awk -v target=$$target '{ print; fflush() } / execs: / { time = $$3; execs = $$5; inputs = $$NF } /^ok/ { ok = 1 } \
			END { sub(",", "", time); printf "| `%s` | %d | %s | %d |\n", target, execs, time, inputs >>"bin/fuzz.md"; exit !ok }' || exit 1; done
	@[ -z "$(OUT)" ] || { awk -f test/fuzz.awk bin/fuzz.md $(OUT) $(OUT) >bin/fuzz.new && mv bin/fuzz.new $(OUT); }

.PHONY: bench
bench: ## Run the benchmarks; for benchstat: make -s bench COUNT=6 > new.txt
	@$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) ./internal/... ./cmd/...

.PHONY: scale
scale: ## Measure with many releases (RELEASES=1000 REVISIONS=10; SCALE="-baseline=false …" adds flags)
	$(call each,bin/helm-state-metrics bin/cluster bin/helm4)
	$(GO) run ./test/scale -releases $(RELEASES) -revisions $(REVISIONS) $(SCALE) $(if $(OUT),-out $(OUT))

.PHONY: tenants
tenants: ## Measure shards, authorization, and a tenant who writes 50,000 releases (OUT=docs/tenants)
	$(call each,bin/helm-state-metrics bin/cluster bin/helm4)
	$(GO) run ./test/scale tenants -releases 10000 -templates 8 $(if $(OUT),-out $(OUT))

.PHONY: flood
flood: ## Measure floods of upgrades, deletions, other Secrets and scrapes (OUT=docs/flood FLOOD="-others=1000 …")
	$(call each,bin/helm-state-metrics bin/cluster bin/helm4)
	$(GO) run ./test/scale flood -releases 10000 -namespaces 1000 -templates 1 $(FLOOD) $(if $(OUT),-out $(OUT))

.PHONY: soak
soak: ## Change releases for a long time, and check that nothing grows (SOAK=30m OUT=docs/soak)
	$(call each,bin/helm-state-metrics bin/cluster bin/helm4)
	$(GO) run ./test/scale soak -releases 1000 -soak $(SOAK) $(if $(OUT),-out $(OUT))

.PHONY: load
load: ## Measure scrapes by Prometheus and by many clients at once
	$(call each,bin/prometheus)
	$(GO) run ./test/load $(if $(OUT),-out $(OUT))

.PHONY: demo
demo: ## Run a control plane, install releases with Helm 3 and 4, and run both programs (PORT=8080)
	@$(MAKE) -s bin/demo >/dev/null && bin/demo -port $(PORT) -check
	$(call each,$(programs:%=bin/%) bin/cluster bin/helm3 bin/helm4)
	@bin/demo -port $(PORT)

##### Programs for tests. The go.mod files have their versions.

modules    := . image test/cluster $(patsubst %/go.mod,%,$(wildcard test/tools/*/go.mod))
# Files for the tests of the image and the release. Built before the tests, because a build for a new architecture takes
# minutes.
test_image := $(call images,$(release_archs)) bin/cyclonedx-gomod
test_tools := bin/cluster bin/kubectl bin/crds bin/helm3 bin/helm4 bin/promtool bin/prometheus

.PHONY: cluster
cluster: bin/cluster ## Build the local control plane: etcd and kube-apiserver in one process

.PHONY: tools
tools: ## Build every program that the tests need
	$(call each,$(test_tools) bin/golangci-lint)

# version_of prints the version of module $(2) in the go.mod of directory $(1).
version_of = $$(cd $(1) && $(GO) list -m -f '{{.Version}}' $(2))

bin/cluster: $(wildcard test/cluster/*.go) test/cluster/go.mod test/cluster/go.sum
	$(call started,the control plane (about 10 minutes when nothing is cached))
	@v=$(call version_of,test/cluster,k8s.io/kubernetes) && cd test/cluster && \
		$(go_build) -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$$v" -o ../../$@ .

# In the same module as the control plane, so they have the same version and share most of the build.
bin/kubectl: test/cluster/go.mod test/cluster/go.sum
	$(call started,kubectl (about 2 minutes when nothing is cached))
	@v=$(call version_of,test/cluster,k8s.io/kubernetes) && cd test/cluster && \
		$(go_build) -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$$v" -o ../../$@ k8s.io/kubernetes/cmd/kubectl

# The CRDs of the Prometheus operator, copied from its module.
operator := github.com/prometheus-operator/prometheus-operator
bin/crds: test/tools/prometheus-operator/go.mod test/tools/prometheus-operator/go.sum
	@cd test/tools/prometheus-operator && $(GO) mod download $(operator)
	@rm -rf $@ && mkdir -p $@
	@crds=$$(cd test/tools/prometheus-operator && $(GO) list -m -f '{{.Dir}}' $(operator))/example/prometheus-operator-crd; \
		for kind in servicemonitors podmonitors prometheusrules; do \
			install -m 644 $$crds/monitoring.coreos.com_$$kind.yaml $@/$$kind.yaml; done

bin/helm%: test/tools/helm%/go.mod test/tools/helm%/go.sum
	$(call started,Helm $* (about 3 minutes when nothing is cached))
	@v=$(call version_of,test/tools/helm$*,helm.sh/helm/v$*) && cd test/tools/helm$* && \
		$(go_build) -ldflags="-s -w -X helm.sh/helm/v$*/internal/version.version=$$v" -o ../../../$@ helm.sh/helm/v$*/cmd/helm

# The two share most of their code, so the second build is quick.
bin/promtool:   prometheus_time = about 7 minutes when nothing is cached
bin/prometheus: prometheus_time = about 1 minute more
bin/promtool bin/prometheus: test/tools/prometheus/go.mod test/tools/prometheus/go.sum
	$(call started,$(@F) ($(prometheus_time)))
	@cd test/tools/prometheus && $(go_build) -ldflags='-s -w' -o ../../../$@ github.com/prometheus/prometheus/cmd/$(@F)

bin/golangci-lint: test/tools/golangci-lint/go.mod test/tools/golangci-lint/go.sum
	$(call started,golangci-lint (about 2 minutes when nothing is cached))
	@cd test/tools/golangci-lint && $(go_build) -ldflags='-s -w' -o ../../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/govulncheck: test/tools/govulncheck/go.mod test/tools/govulncheck/go.sum
	$(call started,govulncheck)
	@cd test/tools/govulncheck && $(go_build) -ldflags='-s -w' -o ../../../$@ golang.org/x/vuln/cmd/govulncheck

bin/demo: $(wildcard test/demo/*.go test/support/process/*.go test/support/charts/*.go) go.mod
	$(call started,the demo)
	@$(go_build) -o $@ ./test/demo
