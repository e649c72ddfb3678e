# Sourced by demo and test: a virtual environment in the checkout with this package in it.

fail() {
    echo "error: $1" >&2
    exit 2
}

# prepare_environment EXTRAS: makes .venv where it is missing, installs where something changed.
prepare_environment() {
    local python="${PYTHON:-python3}" wanted done=".venv/installed$1"
    command -v "$python" >/dev/null || fail "there is no $python: install Python 3.11 or newer"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is $("$python" -V 2>&1): Python 3.11 or newer is needed (set PYTHON)"
    wanted="$("$python" -V 2>&1) $(cksum <pyproject.toml)"
    if [ "$(cat "$done" 2>/dev/null)" != "$wanted" ]; then
        echo "setting up .venv ..." >&2
        "$python" -m venv .venv ||
            fail "no virtual environment could be made (on Debian: apt-get install python3-venv)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$1" ||
            fail "the package could not be installed: see above"
        echo "$wanted" >"$done"
    fi
}
