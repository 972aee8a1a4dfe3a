# Everything here needs python3 and pip, and makes its own .venv once. PYTHON=… chooses the interpreter.
# TESTS="tests/sdk -k name" chooses tests, VERSIONS="3.12 3.13" the interpreters of the matrix.
# DURATION=30m is how long `make soak` breaks things, SEED=7 repeats the schedule of `make chaos` and `make soak`.
# ARGUMENTS="--quick drain --peers taskiq,arq" chooses what `make bench` measures; without it, everything.

PYTHON   ?=
TESTS    ?=
VERSIONS ?= 3.12 3.13
DURATION ?= 10m
SEED     ?=
ARGUMENTS ?=
SOURCES   = tasks_sdk runtime supervisor tests $(wildcard chaos examples)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench bench-page bench-scale chaos soak test-matrix clean

help:
	@echo "make demo         2,000 tasks in two supervised processes, one of them killed on the way"
	@echo "make test         the test suite (TESTS=… to choose)"
	@echo "make lint         ruff check, ruff format, pyright strict"
	@echo "make format       let ruff mend what it can"
	@echo "make bench        throughput, latency, memory and idling beside nine peers (up to 20 minutes)"
	@echo "make bench-page   the last results of make bench into docs/performance.md and docs/performance.svg"
	@echo "make bench-scale  a million queued and a million parked executions, 10,000 perpetual tasks, a second core"
	@echo "make chaos        a storm of a minute over a service under load, and the evidence at the end"
	@echo "make soak         the same for $(DURATION) (DURATION=…), with a verdict on what is lost and not on how fast"
	@echo "make test-matrix  the test suite on Python $(VERSIONS), Redis 6.2 and 7"
	@echo "make clean        remove the environments"

demo: .venv/ready-test
	.venv/bin/python examples/demo.py

test: .venv/ready-test
	$(if $(TESTS),.venv/bin/python -m pytest $(TESTS),.ci/test-parts .venv/bin/python)

lint: .venv/ready-dev
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/pyright

format: .venv/ready-dev
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

bench: .venv/ready-test
	.venv/bin/python -m tests.benchmarks --plot .bench/performance.svg $(ARGUMENTS)

bench-page: .venv/ready-test
	.venv/bin/python -m tests.benchmarks --again --plot docs/performance.svg --document docs/performance.md

bench-scale: .venv/ready-test
	.venv/bin/python -m tests.benchmarks.scale --plot docs/scale.svg --document docs/performance.md

chaos: .venv/ready-test
	.venv/bin/python -m chaos storm --gantt chaos.html $(if $(SEED),--seed $(SEED))

soak: .venv/ready-test
	.venv/bin/python -m chaos storm --not-timed --duration $(DURATION) $(if $(SEED),--seed $(SEED))

test-matrix:
	VERSIONS="$(VERSIONS)" TESTS="$(TESTS)" .ci/test-matrix

clean:
	rm -rf .venv .venv-3.*

# The stamps: an environment is made again only when what it must hold has changed. Linting needs about 60 MB more
# (pyright runs on node), which nobody who tries the demo should wait for.
.venv/ready-%: pyproject.toml .ci/make-venv
	@.ci/make-venv .venv $* "$(PYTHON)"
