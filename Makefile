# Needs make, python3 (3.11 or newer) and python3-venv; everything else is set up in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TYPED = kdc tests .ci/summary.py .ci/container_check.py $(wildcard bench/*.py docs/*/*.py twisted/plugins/*.py)
# Test processes at a time.
JOBS ?= 2
# What `make coverage` runs.
COVERED ?= tests
# Options of the measurements: `python -m bench --help`.
BENCH ?=
# Options of `python -m bench.cluster_scale --help`.
CLUSTER ?=
PIP_INSTALL = $(BIN)/python -m pip --disable-pip-version-check install --quiet \
	--no-warn-script-location --constraint constraints.txt

# Paths inside the environment are absolute, and it belongs to one Python: a moved or copied
# checkout, or another interpreter, needs a new one.
IDENTITY := $(CURDIR) $(shell { $(PYTHON) --version; } 2>&1)
ifneq ($(shell cat $(READY) 2>/dev/null),$(IDENTITY))
.PHONY: $(READY)
endif

.PHONY: help
help:
	@echo 'make demo         a KDC, a receiver and a sender on this machine, and what each of them sees'
	@echo 'make demo-cluster three KDCs of one realm on etcd, some of it killed while files go; nothing is lost'
	@echo 'make test         all tests'
	@echo 'make lint         style and types'
	@echo 'make format       put the source into its form'
	@echo 'make coverage     all tests, and the branches that none of them takes'
	@echo 'make bench        measurements beside other programs; docs/performance.md, in half an hour'
	@echo 'make bench-quick  what each operation costs, in units of a fixed load; a minute'
	@echo 'make store-kill9  kill the store at random moments, 200 times; nothing may be lost'
	@echo 'make store-faults fail each system call of the store, and damage each byte of its files'
	@echo 'make store-scale  the store with a million principals'
	@echo 'make cluster-faults  with FAULTS="--rounds 20": harm to several KDCs on etcd; the table in docs/cluster.md'
	@echo 'make cluster-scale  a million principals in etcd, and what etcd costs whoever has none'
	@echo 'make test-oldest  the tests of what runs, with the oldest versions that are good enough'
	@echo 'make kerberos-suites  python-gssapi, pykrb5, pyspnego test themselves with our realm'
	@echo 'make heimdal      unpack the clients of Heimdal from Debian, for the tests that use them'
	@echo 'make kerberos-oracles  our Kerberos messages beside those of asn1tools and impacket'
	@echo 'make wheel-check  build the distribution, install it elsewhere, find both plugins'
	@echo 'make container-check  build the image of etc/Containerfile, use it, start it again'
	@echo 'make docs         the API reference, build/docs/index.html'
	@echo 'make slow-tests   all tests, and the ten that take longest'
	@echo 'make fuzz         with SECONDS=60: inputs that are almost right, for all that reads from outside'
	@echo 'make between      every attack at every byte between a client and its KDC'
	@echo 'make simulate     with SEEDS=1000: a realm on a network and disks that fail'
	@echo 'make mutants      take out each defence of a list: a test must notice; goes on where it stopped'
	@echo 'make soak         with SCALE=1: a million requests; memory, descriptors and objects stay flat'
	@echo 'make release      with VERSION=X.Y.Z: news, version, checks, commit and tag; uploads nothing'
	@echo 'make clean        remove whatever these made'

.PHONY: demo
demo: $(READY)
	@$(BIN)/python docs/recorders/demo.py

.PHONY: demo-cluster
demo-cluster: $(READY)
	@$(BIN)/python docs/recorders/demo_cluster.py

.PHONY: test
test: $(READY)
	@$(BIN)/python -m twisted.trial --rterrors -j$(JOBS) tests

.PHONY: coverage
coverage: $(READY)
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m twisted.trial --rterrors $(COVERED)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

.PHONY: lint
lint: $(READY)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet --diff
	@$(BIN)/mypy --no-error-summary $(TYPED)

.PHONY: format
format: $(READY)
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/ruff format --quiet

# In an environment of its own, of the distribution's Python: the one that people have.
.PHONY: bench
bench:
	@$(MAKE) --no-print-directory PYTHON=/usr/bin/python3 VENV=build/bench-venv measure

.PHONY: measure
measure: $(READY)
	@$(PIP_INSTALL) --no-build-isolation --editable '.[bench]'
	@$(BIN)/python -m bench $(BENCH)

.PHONY: bench-quick measure-quick
bench-quick:
	@$(MAKE) --no-print-directory PYTHON=/usr/bin/python3 VENV=build/bench-venv measure-quick

measure-quick: $(READY)
	@$(BIN)/python -m bench --quick $(BENCH)

# What the principal store must stand: docs/store-runs.md shows what these printed.
.PHONY: store-kill9 store-faults store-scale
store-kill9: $(READY)
	@$(BIN)/python bench/store_kill9.py

store-faults: $(READY)
	@$(BIN)/python -m twisted.trial --rterrors tests.store.test_faults tests.store.test_damage

store-scale: $(READY)
	@$(BIN)/python bench/store_scale.py

# What several KDCs must stand; without --write only the table is printed.
.PHONY: cluster-scale
cluster-scale: $(READY)
	@$(BIN)/python -m bench.cluster_scale $(CLUSTER)

.PHONY: cluster-faults cluster-faults-short
FAULTS ?= --write
cluster-faults: $(READY)
	@$(BIN)/python -m bench.cluster_faults $(FAULTS)

cluster-faults-short: $(READY)
	@$(BIN)/python -m bench.cluster_faults --short

.PHONY: wheel-check
wheel-check: $(READY)
	@.ci/wheel-check $(BIN)/python

.PHONY: container-check
container-check: $(READY)
	@$(BIN)/python .ci/container_check.py $(BIN)/kdcclient

.PHONY: kerberos-suites
kerberos-suites: $(READY)
	@.ci/kerberos $(BIN)/python

.PHONY: heimdal
heimdal:
	@.ci/heimdal

.PHONY: kerberos-oracles
kerberos-oracles: $(READY)
	@.ci/oracles $(BIN)/python

.PHONY: test-oldest
test-oldest: $(READY)
	@JOBS=$(JOBS) .ci/oldest $(BIN)/python

# What is promised (kdc.api, kdc.aio, kdc.errors); what it warns of is an error.
.PHONY: docs
docs: $(READY)
	@$(BIN)/pydoctor --quiet --html-output build/docs kdc
	@echo 'build/docs/index.html'

.PHONY: slow-tests
slow-tests: $(READY)
	@$(BIN)/python -m tests.support.slowest tests

# Attacks, docs/security.md: each prints the seed that shows a fault again.
.PHONY: fuzz between simulate mutants soak
SECONDS ?= 60
fuzz: $(READY)
	@$(BIN)/python -m tests.hostile.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

between: $(READY)
	@EVERY_ATTACK=1 $(BIN)/python -m twisted.trial --rterrors tests.hostile.test_between

SEEDS ?= 1000
simulate: $(READY)
	@$(BIN)/python -m tests.hostile.simulate --seeds $(SEEDS)

mutants: $(READY)
	@$(BIN)/python -m tests.hostile.mutants

SCALE ?= 1
soak: $(READY)
	@$(BIN)/python -m tests.hostile.soak --scale $(SCALE)

.PHONY: release
release: $(READY)
	@.ci/release $(BIN)/python '$(VERSION)'

.PHONY: clean
clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp* .coverage* htmlcov \
		.hypothesis .mypy_cache .ruff_cache twisted/plugins/dropin.cache
	find bench docs etc kdc tests twisted -name __pycache__ -type d -prune -exec rm -rf {} +

# setuptools comes first, and the build uses it: its version is then a tested one as well.
$(READY): setup.py pyproject.toml constraints.txt
	@{ $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; } 2>/dev/null || { \
		echo 'make: $(PYTHON) is missing or older than 3.11; install a newer one' >&2; \
		echo '      (Debian: apt-get install python3), or name it: make PYTHON=python3.12 ...' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'make: $(PYTHON) cannot make virtual environments' >&2; \
		echo '      (Debian: apt-get install python3-venv), then run make again' >&2; \
		exit 1; }
	@echo 'setting up $(VENV) ...'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@{ $(PIP_INSTALL) setuptools && \
		$(PIP_INSTALL) --no-build-isolation --editable '.[dev]'; } >$(VENV)/log 2>&1 || { \
		cat $(VENV)/log >&2; \
		echo 'make: the packages of constraints.txt could not be installed, see above; they come' >&2; \
		echo '      from the Python package index: once it can be reached, run make again' >&2; \
		exit 1; }
	@echo '$(IDENTITY)' > $@
