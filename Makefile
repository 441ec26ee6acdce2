# Everything a newcomer needs: `make demo` runs the pipeline, `make test` proves it, `make check` and `make fix` keep it tidy.
PYTHON ?= python3
BIN := .venv/bin
# pip installs torch, because it takes a CPU build where one is on offer; uv installs everything else, as locked.
TORCH := torch==2.13.0
UV := uv==0.13.9
DEMO := examples/kite-guild

.PHONY: demo test test-images check fix lock lock-images compile clean

# Both methods on the same rows. The rates were chosen on the tuning questions: see the data's README.
GAPS := gap_questions
GENERAL := retention_questions
OSFT_RATE := 2e-4
SFT_RATE := 2e-4
RUN_DEMO = $(BIN)/osft-pipeline run \
	--data $(DEMO)/sdg_output.csv \
	--questions $(DEMO)/$(GAPS).csv \
	--retention-questions $(DEMO)/$(GENERAL).csv \
	--model build/smollm2 \
	--workspace workspace \
	--system-prompt "$$(cat $(DEMO)/system_prompt.txt)" \
	--num-epochs 2 --option warmup_steps=3 --max-seq-len 256 --max-tokens-per-gpu 512 --max-answer-tokens 32

demo: .venv/installed
	$(BIN)/python examples/smollm2.py build/smollm2
	$(RUN_DEMO) --method osft --learning-rate $(OSFT_RATE)
	$(RUN_DEMO) --method sft --learning-rate $(SFT_RATE)
	$(BIN)/python examples/story.py workspace

# In tiers by cost: plain Python, small models, whole runs.
test: .venv/installed
	$(BIN)/pytest tests/fast --numprocesses 2
	$(BIN)/pytest tests/models
	$(BIN)/pytest tests/runs

# The images built and used for real, as root, after `apt-get install buildah debootstrap crun`; 3 GB come from the index.
test-images: .venv/installed
	$(BIN)/pytest tests/images --capture=no -vv

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/osft-pipeline compile --check
	$(BIN)/python -m benchmarks.tables --check

fix: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/osft-pipeline compile
	$(BIN)/python -m benchmarks.tables

# Resolve the dependencies anew.
lock: .venv/installed
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra dev --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --quiet | grep -v "== 'never'" > requirements.lock.new
	mv requirements.lock.new requirements.lock
	$(MAKE) lock-images

# What the images install: the same versions, with the digests of their files.
IMAGES := components/images
COMPILE = $(BIN)/uv pip compile --constraint requirements.lock --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --quiet
lock-images: .venv/installed
	$(COMPILE) --config-file $(IMAGES)/cpu.uv.toml $(IMAGES)/cpu.in --output-file $(IMAGES)/cpu.lock
	$(COMPILE) --config-file $(IMAGES)/gpu.uv.toml $(IMAGES)/gpu.in --output-file $(IMAGES)/gpu.lock
	echo "$(TORCH)" | $(COMPILE) --no-config - --output-file $(IMAGES)/torch.lock
	echo setuptools | $(COMPILE) --no-config - --output-file $(IMAGES)/build.lock

clean:
	rm -rf .venv build workspace

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(UV) $(TORCH)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@
