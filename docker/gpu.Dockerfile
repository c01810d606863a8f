# Everframe for NVIDIA GPUs: a show, or a node of a Ray cluster that runs shows. Not yet built: no machine with a GPU was at hand.
#   docker build --file docker/gpu.Dockerfile --tag everframe:gpu .
#   docker run --rm --gpus all --publish 8000:8000 everframe:gpu
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libsrt1.5-openssl python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1001 everframe

WORKDIR /app
COPY . .
# hadolint ignore=DL3013
RUN python3 -m venv /opt/everframe \
    && /opt/everframe/bin/pip install --no-cache-dir '.[gpu,cluster,clip,webrtc]' \
    && rm -rf /app/build

USER 1001
WORKDIR /home/everframe
ENV PATH=/opt/everframe/bin:$PATH
EXPOSE 8000
CMD ["everframe", "stream", "--to", "http://0.0.0.0:8000"]
