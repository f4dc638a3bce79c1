#!/usr/bin/env bash
# Sets up an environment beside this file, then trains or tests in it.
#
#   ./run.sh [OPTIONS]        trains experiments/digits.py; OPTIONS go to
#                             python -m nfnets.experiment
#   ./run.sh test [OPTIONS]   runs the test suite; OPTIONS go to pytest
#   ./run.sh setup            sets up only
#
# PYTHON            the Python that makes the environment (3.11 or newer)
# NFNETS_VENV       where the environment is (default: .venv beside this file)
# NFNETS_PLATFORM   cpu, cuda12, cuda13 or tpu (default: what is found)

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
venv=${NFNETS_VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv
# Only an environment with this file in it was made here and may be removed.
marker=$venv/.made-by-run-sh
stamps=$venv/.installed

main() {
  case ${1:-} in
    test)
      set_up
      install test requirements-dev.txt
      cd -- "$root"
      # Two processes: most of the time is compilation, on one core each.
      exec "$venv/bin/python" -m pytest -n 2 "${@:2}"
      ;;
    setup)
      [[ $# -eq 1 ]] || fail "setup takes no options, got '$2'" 2
      set_up
      ;;
    -h | --help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      ;;
    '' | -*)
      set_up
      train "$@"
      ;;
    *)
      fail "unknown command '$1'; ./run.sh --help lists them" 2
      ;;
  esac
}

fail() {
  echo "error: $1" >&2
  exit "${2:-1}"
}

train() {
  local option defaults=(
    "--config=$root/experiments/digits.py" "--workdir=$root/runs/digits"
  )
  for option; do
    case $option in
      --config | --config=*) defaults=() ;;
    esac
  done
  # The caller's folder stays the current one, for the paths in the options;
  # with -P nothing in it is imported.
  export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
  exec "$venv/bin/python" -P -m nfnets.experiment \
    ${defaults[@]+"${defaults[@]}"} "$@"
}

set_up() {
  platform=$(find_platform)
  make_environment
  case $platform in
    cpu) install run requirements.txt ;;
    *) install run requirements.txt "jax[$platform]" ;;
  esac
}

# Prints what jax is installed for: as named, as before, or as found.
find_platform() {
  local cuda=''
  if [[ -n ${NFNETS_PLATFORM:-} ]]; then
    case $NFNETS_PLATFORM in
      cpu | cuda12 | cuda13 | tpu) echo "$NFNETS_PLATFORM" ;;
      *) fail "NFNETS_PLATFORM is '$NFNETS_PLATFORM';\
 it can be cpu, cuda12, cuda13 or tpu" ;;
    esac
    return
  fi
  if [[ -s $stamps/platform ]]; then
    cat -- "$stamps/platform"
    return
  fi
  # The newest CUDA that the driver can run.
  if command -v nvidia-smi > /dev/null; then
    cuda=$(nvidia-smi 2> /dev/null \
      | sed -n 's/.*CUDA Version: *\([0-9][0-9]*\).*/\1/p') || true
  fi
  if [[ -n $cuda && $cuda -ge 13 ]]; then
    echo cuda13
  elif [[ -n $cuda && $cuda -eq 12 ]]; then
    echo cuda12
  elif compgen -G '/dev/accel[0-9]*' > /dev/null; then
    echo tpu
  elif compgen -G '/dev/vfio/[0-9]*' > /dev/null && env | grep -q '^TPU_'; then
    echo tpu
  else
    echo cpu
  fi
}

# Makes the environment, unless there is one that serves.
make_environment() {
  local python
  ! serves || return 0
  if [[ -e $venv && ! -e $marker && -n $(ls -A -- "$venv") ]]; then
    fail "$venv cannot be used and was not made by run.sh;\
 remove it or name another folder with NFNETS_VENV"
  fi
  python=$(find_python)
  echo "Making $venv with Python $(version "$python")" >&2
  rm -rf -- "$venv"
  mkdir -p -- "$stamps"
  touch -- "$marker"
  "$python" -m venv "$venv"
  echo "$platform" > "$stamps/platform"
}

# Whether the environment is whole, for this platform and for this PYTHON.
serves() {
  new_enough "$venv/bin/python" || return 1
  "$venv/bin/python" -m pip --version > /dev/null 2>&1 || return 1
  if [[ -e $marker ]]; then
    [[ -s $stamps/platform && $(< "$stamps/platform") == "$platform" ]] \
      || return 1
  fi
  [[ -z ${PYTHON:-} || $(version "$PYTHON") == $(version "$venv/bin/python") ]]
}

# Prints the Python to make the environment with.
find_python() {
  local name old='' bare=''
  local names=(python3.13 python3.12 python3.11 python3)
  [[ -z ${PYTHON:-} ]] || names=("$PYTHON")
  for name in "${names[@]}"; do
    if [[ -z $(version "$name") ]]; then
      continue
    elif ! new_enough "$name"; then
      old="$name is $(version "$name")"
    elif ! "$name" -c 'import ensurepip, venv' 2> /dev/null; then
      bare=${bare:-$name}
    else
      echo "$name"
      return
    fi
  done
  if [[ -n $bare ]]; then
    fail "$bare has no venv module; install it (Debian, Ubuntu:\
 apt install python$(version "$bare" | cut -d. -f1,2)-venv)\
 or name another Python with PYTHON=/path/to/python"
  fi
  fail "Python 3.11 or newer is needed, but ${old:-${names[*]} cannot be run};\
 install it or name it with PYTHON=/path/to/python"
}

# Prints the version of the Python $1; nothing where it cannot be run.
version() {
  "$1" -c 'import platform; print(platform.python_version())' 2> /dev/null \
    || true
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null
}

# install STAMP FILE [PACKAGE...]: installs the requirements in FILE once. The
# stamp comes last, so that what was interrupted is done again.
install() {
  local stamp=$stamps/$1 want
  want=$(cat -- "$root/requirements.txt" "$root/$2" | cksum)
  if [[ -s $stamp && $(< "$stamp") == "$want" ]]; then
    return
  fi
  echo "Installing $2 for $platform; this takes some minutes, once" >&2
  rm -f -- "$stamp"
  "$venv/bin/python" -m pip -qq --disable-pip-version-check --no-input \
    install -r "$root/$2" "${@:3}" \
    || fail "$2 could not be installed; the same command tries again"
  mkdir -p -- "$stamps"
  echo "$want" > "$stamp"
}

main "$@"
