# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs in .venv, without root.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Most tests wait for servers and processes, so four workers keep two cores busy; a file's tests share its processes.
SPREAD ?= -n 4 --dist loadfile

.PHONY: demo test bench bench-pipeline dagster kill campaign planted scale-test attacks servers boot lint docs setup clean
.DEFAULT_GOAL := test

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/.ready

demo: setup            ## the whole gate on an embedded server and a simulated exchange
	$(BIN)/p33 demo --audit $(ARGS)

test: setup            ## everything, against real servers and processes
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

bench: setup           ## latency, throughput and memory as ratios against a null consumer
	$(BIN)/python -m tests.bench $(ARGS)

bench-pipeline: setup  ## a tenth of a day of 10 million verdicts audited, reviewed, archived, as ratios: ARGS="--scale 1"
	$(BIN)/python -m tests.bench_pipeline $(ARGS)

servers: setup         ## the tests that stand on a server, on every Redis and Valkey that can be had; ARGS=--write: docs
	$(BIN)/python -m tests.servers $(ARGS)

campaign: setup        ## random campaigns against the laws of the permit path: ARGS="--seeds 5000"
	$(BIN)/python -m tests.sim.campaign $(ARGS)

kill: setup            ## kill -9 at random moments, the whole house, `ARGS="--rounds 500"`
	$(BIN)/python -m tests.e2e.campaign $(ARGS)

planted: setup         ## the audit against histories of known truth, `ARGS="--seeds 300"`
	$(BIN)/python -m p33_pipeline.generator check $(ARGS)

attacks: setup         ## the attack table, played: docs/attacks.md
	$(BIN)/python -m tests.attacks

scale-test: setup      ## a day on two Celery workers, one killed, in a folder and a bucket; needs Postgres' programs
	$(BIN)/python -m tests.scale $(ARGS)

dagster: setup         ## the pipeline's UI on what the demo left, or on P33_HISTORY_URL
	$(BIN)/python -m p33_pipeline.serve $(ARGS)

boot: setup            ## as root: the installation on a Debian booted with systemd, in a container of its own
	$(BIN)/python -m tests.boot $(ARGS)

lint: setup
	$(BIN)/ruff check .

docs: setup            ## writes the generated tables of docs/ anew
	$(BIN)/python -m p33_sidecar.cli.docs
	$(BIN)/python -m tests.incidents --write

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
