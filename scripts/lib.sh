# shellcheck shell=sh
# Shared by scripts/demo, scripts/test and scripts/docker-test.sh; sourced with the project's root as working
# directory. Its functions set up what a new Debian machine lacks: a virtual environment and a container engine.

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$0: $*"
    exit 36
}

# find_python: prints the name of a Python 3.11 or newer: python3 if it is new enough, else the newest python3.N on the PATH.
find_python() {
    for candidate in python3 $(versioned_pythons); do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or later"
}

# versioned_pythons: prints the names python3.N of all programs on the PATH, the newest first.
versioned_pythons() (
    IFS=:
    for folder in $PATH; do
        for program in "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9]; do
            [ ! -x "$program" ] || printf '%s\n' "${program##*/}"
        done
    done | sort -u -t . -k 2,2nr
)

# ensure_venv run|dev: makes .venv with the locked packages and this checkout, if it is missing or out of date.
ensure_venv() {
    lock=requirements/$1.lock
    stamp=.venv/.orch-$1
    wanted=$(cat "$lock" pyproject.toml | cksum)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    python=$(find_python)
    if [ ! -x .venv/bin/python ]; then
        say "making .venv with $("$python" --version)"
        if ! "$python" -m venv .venv >/dev/null 2>&1; then
            # Debian has venv in a package of its own
            rm -rf .venv
            ensure_package python3-venv python3-venv # no program of that name: it is installed
            "$python" -m venv .venv || die "could not make a virtual environment"
        fi
    fi
    say "installing the locked packages ($lock)"
    log=$(mktemp)
    if ! { .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "$lock" &&
        .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "could not install the packages"
    fi
    rm -f "$log"
    printf '%s\n' "$wanted" >"$stamp"
    # a dev environment has all packages that a run needs
    if [ "$1" = dev ]; then cat requirements/run.lock pyproject.toml | cksum >.venv/.orch-run; fi
}

# ensure_package PROGRAM PACKAGE: installs the Debian package of a program that is missing, if this is root.
ensure_package() {
    command -v "$1" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing the package $2"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"; } >/dev/null 2>&1 && return
    fi
    die "needs the package $2"
}

# ensure_postgres: installs a PostgreSQL server if it is missing. Debian keeps its programs outside the PATH.
ensure_postgres() {
    for program in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$program" ] && return
    done
    ensure_package initdb postgresql
}

# ensure_engine: starts a container engine if none answers, and stops it when the script exits.
ensure_engine() {
    started=no
    scripts/setup-engine status >/dev/null 2>&1 || started=yes
    address=$(scripts/setup-engine) || die "no container engine; see above"
    case $address in
    DOCKER_HOST=*)
        DOCKER_HOST=${address#DOCKER_HOST=}
        export DOCKER_HOST
        ;;
    esac
    [ "$started" = no ] || trap 'scripts/setup-engine stop >/dev/null 2>&1 || true' EXIT
}
