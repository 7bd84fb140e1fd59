# Run with the venv that holds it: .venv/bin/just test
bin := parent_directory(just_executable())
python := bin / "python"

# List the recipes
default:
    @{{ just_executable() }} --list --unsorted

# Serve the embedded model
[group('use')]
serve *options:
    {{ python }} -m penstock serve {{ options }}

# All tests but the heavy ones, under five minutes
[group('check')]
test *options: _tools
    {{ python }} -m pytest -m "not heavy" {{ options }}

# The heavy ones: browsers, notebooks, hundreds of schedules, cuts, schemas, planted bugs
[group('check')]
heavy *options: _tools
    {{ python }} -m pytest -m heavy {{ options }}

# Tests without server processes: seconds
[group('check')]
quick *options:
    {{ python }} -m pytest -m "not wire" {{ options }}

# Whole servers with seeded clients and faults, on virtual time: --seed N tells one story, --fleet of several
[group('check')]
simulate *options:
    {{ python }} -m tests.simulation {{ options }}

# Real clients in environments of their own, which are made once: two minutes
[group('check')]
test-clients *options: _node
    TEST_CLIENTS=1 {{ python }} -m pytest tests/clients {{ options }}

# Style, types, and whether the pages of docs/ can be made
[group('check')]
lint: docs-site
    {{ bin }}/ruff check .
    {{ bin }}/ruff format --check .
    {{ bin }}/mypy

# Format and mend what can be mended
[group('check')]
fmt:
    {{ bin }}/ruff check --fix .
    {{ bin }}/ruff format .

# Write what is generated: the pages of docs/, the dashboard
[group('check')]
docs:
    {{ python }} docs/make_settings.py > docs/settings.md
    {{ python }} deploy/make_dashboard.py > deploy/grafana.json

# Make the pages of docs/, with a reference from the types, in docs/_site
[group('check')]
docs-site:
    {{ python }} -m sphinx -W --keep-going -q -b html docs docs/_site

# Take the pictures of docs/img
[group('check')]
screenshots: _tools
    {{ python }} docs/make_screenshots.py

# Run the notebooks, and write them with their outputs to docs/notebooks
[group('check')]
notebooks:
    {{ python }} notebooks/render.py

# Delivered tokens a second beside the bare engine
[group('measure')]
bench *options:
    {{ python }} bench/delivered.py {{ options }}

# Memory and gauges over many short jobs
[group('measure')]
soak *options:
    {{ python }} bench/jobs.py {{ options }}

# What streams do to each other: gaps, first tokens, readers beside stopped ones
[group('measure')]
gaps *options:
    {{ python }} bench/gaps.py {{ options }}

# What metrics, keys, quotas, log lines and traces cost
[group('measure')]
overhead *options:
    {{ python }} bench/overhead.py {{ options }}

# Events a second of one Redis, and its memory: docs/operating.md
[group('measure')]
redis-node *options:
    {{ python }} bench/redis_node.py {{ options }}

# Beside other engines, each in an environment of its own: docs/engine-benchmarks.md
[group('measure')]
engines *options:
    {{ python }} bench/engine.py {{ options }}

# Lines in each room
[group('measure')]
size:
    @cd src/penstock && wc -l *.py */*.py | sort -n

# The programs that tests drive and pip cannot install
_tools:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v curl >/dev/null || { apt-get update -q && apt-get install -qy curl; }
    # Whatever cannot be installed: its tests are skipped. RUNLEVEL: nothing is started.
    get() {
        if ! command -v "$1" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            (apt-get update -q && RUNLEVEL=1 apt-get install -qy --no-install-recommends "$2") ||
                echo "$1 cannot be installed: its tests are skipped"
        fi
    }
    get redis-server redis-server
    get spin spin
    get chromium chromium
    get promtool prometheus
    get nginx nginx-light
    if command -v npm >/dev/null && [ ! -d .tools/node_modules/axe-core ]; then
        npm install --silent --no-audit --no-fund --prefix .tools eventsource@4.1.1 axe-core@4.14.1 ||
            echo "npm packages cannot be installed: their tests are skipped"
    fi

_node:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v npm >/dev/null || { apt-get update -q && apt-get install -qy nodejs npm; }
