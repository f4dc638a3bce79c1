#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU slice, and creates the slice again whenever
# it is preempted. Runs on any machine with gcloud, until training has finished.
#
#   launch/tpu_vm.sh NAME ZONE TYPE VERSION BUCKET [OPTIONS]
#   launch/tpu_vm.sh f1 us-west4-a v5litepod-16 v2-alpha-tpuv5-lite my-bucket \
#       --config=experiments/nfnet_f1.py --workdir=/tmp/bucket/f1
#
# OPTIONS are those of python -m nfnets.experiment.
# The bucket is mounted at /tmp/bucket on every host, by the gcsfuse of the
# image. A workdir there outlives the slice. Give the bucket a hierarchical
# namespace, so that its renames are atomic.

set -euo pipefail

if [[ $# -lt 5 ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
name=$1 zone=$2 type=$3 version=$4 bucket=$5
shift 5

tpu() {
  gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" --quiet "${@:2}"
}

on_all_hosts() {
  tpu ssh --worker=all --command="set -e; $1"
}

state() {
  tpu describe --format='value(state)' 2> /dev/null || true
}

copy_code() {
  gcloud compute tpus tpu-vm scp "$archive" "$name:/tmp/nfnets.tar.gz" \
    --zone="$zone" --worker=all --quiet
}

set_up() {
  # The images have Python 3.10; uv installs a newer one.
  on_all_hosts "mkdir -p nfnets /tmp/bucket
    tar -xzf /tmp/nfnets.tar.gz -C nfnets
    mountpoint -q /tmp/bucket || gcsfuse --implicit-dirs $bucket /tmp/bucket
    python3 -m pip install --quiet --user uv
    python3 -m uv python install --quiet 3.12
    PYTHON=\$(python3 -m uv python find 3.12) \
      NFNETS_PLATFORM=tpu ./nfnets/run.sh setup"
}

train() {
  if [[ $(state) != READY ]]; then
    # A preempted slice still has its name.
    tpu delete > /dev/null 2>&1 || true
    tpu create --accelerator-type="$type" --version="$version" --spot || return
  fi
  copy_code && set_up && on_all_hosts \
    "cd nfnets; .venv/bin/python -m nfnets.experiment$options"
}

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
archive=$scratch/nfnets.tar.gz
# What is committed; the script may be started from any folder.
git -C "$(dirname -- "${BASH_SOURCE[0]}")/.." archive --output="$archive" HEAD

options=$(printf ' %q' "$@")
failures=0
until train; do
  sleep "${RETRY_SECONDS:=60}"
  # Not preempted: an error that would come again, or a lost process.
  if [[ $(state) == READY ]] && ((++failures == 3)); then
    exit 1
  fi
done
