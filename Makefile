# Lightbulb referral hub. `make` lists the targets. Needs only Python 3.11 to 3.13 and a package index.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
READY := .venv/.ready
RUN := .venv/bin

.PHONY: help demo up test lint commits check contracts-check clients-check bench growth plans counts replay-proof chaos field fuzz house lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Show the whole loop: referrals in, cases at their hubs, feedback to the referrers
	@$(RUN)/lightbulb demo

up: $(READY) ## Run a whole installation on this machine until Ctrl-C
	@$(RUN)/lightbulb up

test: $(READY) ## Run the tests; ARGS="tests/router -k stay" selects some
	@$(RUN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY) ## Check formatting, lint rules, types and import rules
	@$(RUN)/ruff format --check .
	@$(RUN)/ruff check .
	@$(RUN)/mypy --strict schemas services infra bench tests/chaos/mutants/catalogue.py
	@$(RUN)/lint-imports

commits: $(READY) ## Check the subjects of commits
	@$(RUN)/python -m tests.house.commit_subjects

check: lint commits test ## Run lint, check the commit subjects, then run the tests

CONTRACTS := .cache/contracts-check
CLIENTS := .cache/clients-check
define NEEDS_NODE
for tool in node npm; do command -v $$tool > /dev/null || \
	  { echo "make $@ needs $$tool on the PATH: Node.js 20.16 or later, with npm" >&2; exit 1; }; done
endef

contracts-check: $(READY) ## Check the contracts with ajv (strict) and the AsyncAPI parser; needs Node.js 20.16 or later
	@$(NEEDS_NODE)
	@mkdir -p $(CONTRACTS)
	@cp infra/docgen/contracts/npm/.npmrc infra/docgen/contracts/npm/* $(CONTRACTS)
	@cd $(CONTRACTS) && npm ci --loglevel=error
	@rm -rf $(CONTRACTS)/forms
	@$(RUN)/python -m infra.docgen.contracts --forms $(CONTRACTS)/forms > /dev/null
	@node $(CONTRACTS)/check.mjs schemas/contracts $(CONTRACTS)/forms

clients-check: $(READY) ## Run the example clients of a hub, in Python and JavaScript, and compare them; needs Node.js 20.16 or later
	@$(NEEDS_NODE)
	@mkdir -p $(CLIENTS)
	@cp examples/connect/.npmrc examples/connect/package*.json examples/connect/hub.mjs $(CLIENTS)
	@cd $(CLIENTS) && npm ci --loglevel=error
	@$(RUN)/python -m tests.end_to_end.clients_check $(CLIENTS)/hub.mjs

bench: $(READY) ## Measure rate, latency and CPU time of referrals, in turns with a bare relay; ARGS="--count 10000"
	@$(RUN)/python -m bench $(ARGS)

growth: $(READY) ## Measure whether work stays bounded after a million persons (40 GB of disk); ARGS="--persons 20000", or --help
	@$(RUN)/python -m bench.growth $(ARGS)

SEEDS ?= ci

chaos: $(READY) ## Inject faults into an installation, and check its guarantees: SEEDS=100, 7..9, ci or mutants
	@$(RUN)/python -m tests.chaos --seeds $(SEEDS) $(ARGS)

plans: $(READY) ## Explain every statement of the services with 2,000 and 200,000 waiting rows; ARGS=--all prints each
	@$(RUN)/python -m tests.plans $(ARGS)

counts: $(READY) ## Count rows, bytes of WAL, statements and record batches of a referral; ARGS="--persons 100000" adds other persons
	@$(RUN)/python -m tests.counts $(ARGS)

field: $(READY) ## Run the field cases on an embedded installation; compare with the committed verdicts
	@$(RUN)/python -m tests.field $(ARGS)

SECONDS ?= 600

fuzz: $(READY) ## Fuzz every endpoint and translator: SECONDS=600, or ci; ARGS="--only hl7v2" selects one
	@$(RUN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

replay-proof: $(READY) ## Decide 20,000 referrals, replay them, and prove that the state is the same; prints the rate
	@$(RUN)/python -m bench.replay $(ARGS)

house: $(READY) ## Measure how readable the code is; ARGS=--where lists each private word
	@$(RUN)/python -m tests.house $(ARGS)

lock: $(READY) ## Update the lock files of packages and Kafka's jars (developers)
	python=$$($(RUN)/python -c 'import sys; print(sys.executable)'); folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	"$$python" -m venv "$$folder/uv"; "$$folder/uv/bin/pip" install --quiet uv; \
	"$$folder/uv/bin/uv" pip compile --universal --python-version 3.11 --generate-hashes --all-extras --upgrade --quiet --no-header \
	  pyproject.toml -o requirements.lock
	$(RUN)/python -m infra.local.embedded.lock_jars

clean: ## Remove the virtual environment, caches and fetched jars; keep data folders
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Create the virtual environment and fetch Kafka's jars; repeated when a lock file changes. A .pth file and a two-line command
# put the project on the path: nothing is built, so the setup is the same for every Python version.
SUITS := -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

COMMAND := import sys; sys.argv[0] = \047lightbulb\047; from infra.__main__ import main; main()

$(READY): requirements.lock pyproject.toml infra/local/embedded/jgo.lock.toml
	@for name in .venv/bin/python python3.13 python3.12 python3.11 python3; do \
	  if "$$name" $(SUITS) 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	  echo "No Python 3.11, 3.12 or 3.13 with its venv module was found on the PATH." \
	       "Install one (Debian and Ubuntu: python3 and python3-venv), then run make again." >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$($$python --version); repeated only after an update"; \
	[ "$$python" = .venv/bin/python ] || "$$python" -m venv --clear .venv
	@set -o pipefail; $(RUN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock \
	  | { grep --line-buffered -E '^(Collecting|Installing)' || true; }
	@printf '%s\n' "$(CURDIR)" > "$$($(RUN)/python -c 'import site; print(site.getsitepackages()[0])')/lightbulb-hub.pth"
	@printf '#!/bin/sh\nexec "%s/.venv/bin/python" -P -c "$(COMMAND)" "$$@"\n' "$(CURDIR)" > $(RUN)/lightbulb
	@chmod +x $(RUN)/lightbulb
	@$(RUN)/python -c 'from infra.local.embedded.jars import main; main()'
	@touch $(READY)
