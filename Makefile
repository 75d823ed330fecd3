# make help says what there is to make.
.POSIX:
.PHONY: help demo test faults fuzz soak bench lint audit format parts venv clean

VENV = .venv
STAMP = $(VENV)/installed
# Which tests to run and how: make test PYTEST_ARGS="-k wire -x"
PYTEST_ARGS =
# How long a soak goes on, and what it draws: make soak SECONDS=3600 SEED=7 (ROUND=12: only that round of it)
SECONDS = 600
# How many inputs the fuzzers get in all: make fuzz INPUTS=1000000 SEED=7
INPUTS = 100000
SEED =
ROUND =
# The first Python here that is new enough; or say make PYTHON=/usr/local/bin/python3.12 …
OLDEST = 10
PYTHON = $$(for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, $(OLDEST)))' 2>/dev/null && echo "$$python" && break; \
	done)
# What the tests use of the system: real ssh, real netcats, real drives, real cron.
PARTS = openssh-client openssh-server netcat-openbsd netcat-traditional ncat cron \
	e2fsprogs xfsprogs iproute2 iptables mount util-linux procps fuse3 mergerfs tcc sudo python3-venv python3-pip

help:
	@echo 'make demo   a plotter and a NAS on this machine move real plots, before your eyes'
	@echo 'make test   install what the tests need, then lint and run all tests (as root: all of them)'
	@echo 'make faults every row of the fault table, then the table (as root; also in .cache/faults.txt)'
	@echo 'make fuzz   INPUTS=100000 of what strangers might send, by SEED; says how many, how long, which seed'
	@echo 'make soak   random steps and faults on a whole farm, for SECONDS=600 or as long as you say (as root)'
	@echo 'make bench  what a quiet minute of a NAS with 100 drives and 100,000 plots costs (as root)'
	@echo 'make lint   ruff, mypy --strict and the rules of which module may import which'
	@echo 'make audit  known vulnerabilities of the packages needed, if there are any it fails; lint only tells them'
	@echo 'make format let ruff lay out the source'
	@echo 'make venv   $(VENV) with the programs and the tools for working on them'
	@echo 'make clean  remove $(VENV), caches and what was built'
	@echo 'PYTHON=… chooses the Python (3.$(OLDEST) or newer), PYTEST_ARGS=… is handed to pytest'

demo:
	@./demo/run

test: parts venv
	@$(MAKE) lint
	$(VENV)/bin/python -m pytest -n 2 $(PYTEST_ARGS)

faults: parts venv
	$(VENV)/bin/python -m pytest tests/faults --faults -n 2 $(PYTEST_ARGS)

fuzz: venv
	@seed="$(SEED)"; FUZZ_INPUTS="$(INPUTS)" $(VENV)/bin/python -m pytest tests/fuzz -n 2 -o timeout=3600 -q \
		--hypothesis-seed="$${seed:-$$(date +%s)}" $(PYTEST_ARGS)

soak: parts venv
	@seed="$(SEED)"; round="$(ROUND)"; PYTHONPATH=tests exec $(VENV)/bin/python -m soak --seconds "$(SECONDS)" \
		$${seed:+--seed "$$seed"} $${round:+--round "$$round"}

bench: parts venv
	unshare --mount $(VENV)/bin/python bench/quiet_minute.py

lint: venv
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/python .ci/audit.py --warn

audit: venv
	@$(VENV)/bin/python .ci/audit.py

format: venv
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

parts:
	@.ci/apt-install $(PARTS)

venv: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then .ci/apt-install python3 python3-venv python3-pip; python="$(PYTHON)"; fi; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.$(OLDEST) or newer found: install one and say make PYTHON=/path/to/python3 …" >&2; exit 2; \
	fi; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || .ci/apt-install python3-venv python3-pip; \
	"$(VENV)/bin/python" -c '' 2>/dev/null || "$$python" -m venv --clear $(VENV) || \
		{ echo "$$python cannot make a venv: install its venv package (python3-venv)" >&2; exit 2; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info
