# syntax=docker/dockerfile:1
# An image that trains: its arguments are those of python -m nfnets.experiment.
#
#   docker build --tag=nfnets .                                   (CPU)
#   docker build --build-arg PLATFORM=cuda12 --tag=nfnets .       (NVIDIA)
#   docker run --gpus=all --shm-size=8g --volume="$PWD/runs:/runs" nfnets \
#       --config=experiments/digits.py --workdir=/runs/digits
#
# PLATFORM is cpu, cuda12, cuda13 or tpu. The CUDA libraries come with JAX's
# wheels; the host needs only NVIDIA's driver and container toolkit.
FROM python:3.12-slim

ARG PLATFORM=cpu
WORKDIR /nfnets

# The packages first: changes of the code do not install them again.
COPY run.sh requirements.txt ./
RUN NFNETS_PLATFORM=$PLATFORM PIP_NO_CACHE_DIR=1 ./run.sh setup

COPY nfnets nfnets
COPY experiments experiments

# Docker stops a container with SIGTERM: the run saves and exits with 143. Give
# it time with --stop-timeout.
ENTRYPOINT [".venv/bin/python", "-m", "nfnets.experiment"]
CMD ["--help"]
