#!/usr/bin/env bash
# Sets up an environment next to this file, then trains or tests in it.
#
#   ./run.sh [OPTIONS]        train experiments/digits.py; OPTIONS are passed to
#                             python -m nfnets.experiment
#   ./run.sh test [OPTIONS]   run the test suite; OPTIONS are passed to pytest
#   ./run.sh setup            set up only
#
# PYTHON            the Python that creates the environment (3.11 or newer)
# NFNETS_VENV       the environment's folder (default: .venv next to this file)
# NFNETS_PLATFORM   cpu, cuda12, cuda13 or tpu (default: detected)

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
venv=${NFNETS_VENV:-$root/.venv}
[[ $venv != '~/'* ]] || venv=$HOME/${venv:2}
[[ $venv == /* ]] || venv=$PWD/$venv
# An environment without this file was not created here and is never removed.
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
  # Stays in the current folder, so that relative paths in the options work; -P
  # keeps Python from importing modules from it.
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

# Prints the platform to install jax for: the requested one, the one installed
# before, or the one detected.
find_platform() {
  local cuda=''
  if [[ -n ${NFNETS_PLATFORM:-} ]]; then
    case $NFNETS_PLATFORM in
      cpu | cuda12 | cuda13 | tpu) echo "$NFNETS_PLATFORM" ;;
      *) fail "NFNETS_PLATFORM is '$NFNETS_PLATFORM';\
 it must be cpu, cuda12, cuda13 or tpu" ;;
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

# Creates the environment unless a usable one exists.
make_environment() {
  local python
  ! is_usable || return 0
  if [[ -e $venv && ! -e $marker && -n $(ls -A -- "$venv") ]]; then
    fail "$venv cannot be used and was not created by run.sh;\
 remove it or set NFNETS_VENV to another folder"
  fi
  python=$(find_python)
  echo "Creating $venv with Python $(version "$python")" >&2
  rm -rf -- "$venv"
  mkdir -p -- "$stamps"
  touch -- "$marker"
  "$python" -m venv "$venv"
  echo "$platform" > "$stamps/platform"
}

# Succeeds if the environment works and fits this platform and this PYTHON.
is_usable() {
  new_enough "$venv/bin/python" || return 1
  "$venv/bin/python" -m pip --version > /dev/null 2>&1 || return 1
  if [[ -e $marker ]]; then
    [[ -s $stamps/platform && $(< "$stamps/platform") == "$platform" ]] \
      || return 1
  fi
  [[ -z ${PYTHON:-} || $(version "$PYTHON") == $(version "$venv/bin/python") ]]
}

# Prints the Python to create the environment with.
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
 or choose another Python with PYTHON=/path/to/python"
  fi
  fail "Python 3.11 or newer is needed, but ${old:-${names[*]} cannot be run};\
 install it or set PYTHON=/path/to/python"
}

# Prints the version of the Python $1, or nothing if it cannot be run.
version() {
  "$1" -c 'import platform; print(platform.python_version())' 2> /dev/null \
    || true
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null
}

# install STAMP FILE [PACKAGE...]: installs the requirements in FILE once. The
# stamp is written last, so an interrupted installation is repeated.
install() {
  local stamp=$stamps/$1 want
  want=$(cat -- "$root/requirements.txt" "$root/$2" | cksum)
  if [[ -s $stamp && $(< "$stamp") == "$want" ]]; then
    return
  fi
  echo "Installing $2 for $platform; this takes a few minutes, once" >&2
  rm -f -- "$stamp"
  "$venv/bin/python" -m pip -qq --disable-pip-version-check --no-input \
    install -r "$root/$2" "${@:3}" \
    || fail "$2 could not be installed; rerun the command to try again"
  mkdir -p -- "$stamps"
  echo "$want" > "$stamp"
}

main "$@"
