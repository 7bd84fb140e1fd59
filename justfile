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

# All tests, under five minutes
[group('check')]
test *options: _tools
    {{ python }} -m pytest {{ options }}

# Tests without server processes: seconds
[group('check')]
quick *options:
    {{ python }} -m pytest -m "not wire" {{ options }}

# Real clients in environments of their own, which are made once: two minutes
[group('check')]
test-clients *options: _node
    TEST_CLIENTS=1 {{ python }} -m pytest tests/clients {{ options }}

# Style and types
[group('check')]
lint:
    {{ bin }}/ruff check .
    {{ bin }}/ruff format --check .
    {{ bin }}/mypy

# Format and mend what can be mended
[group('check')]
fmt:
    {{ bin }}/ruff check --fix .
    {{ bin }}/ruff format .

# Write the generated pages of docs/
[group('check')]
docs:
    {{ python }} docs/make_settings.py > docs/settings.md

# Delivered tokens a second beside the bare engine
[group('measure')]
bench *options:
    {{ python }} bench/delivered.py {{ options }}

# Lines in each room
[group('measure')]
size:
    @cd src/penstock && wc -l *.py */*.py | sort -n

# The programs that tests drive and pip cannot install
_tools:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v curl >/dev/null || { apt-get update -q && apt-get install -qy curl; }

_node:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v npm >/dev/null || { apt-get update -q && apt-get install -qy nodejs npm; }
