# Everframe for CPUs: a show, or a node of a Ray cluster that runs shows.
#   docker build --file docker/cpu.Dockerfile --tag everframe:cpu .
#   docker run --rm --publish 8000:8000 everframe:cpu                      # the demo show; the token of its page is printed
#   docker run --rm --network host everframe:cpu ray start --head --block  # the head of a cluster
FROM debian:bookworm-slim

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libsrt1.5-openssl python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 everframe

WORKDIR /app
COPY . .
# hadolint ignore=DL3013
RUN python3 -m venv /opt/everframe \
    && /opt/everframe/bin/pip install --no-cache-dir '.[cpu,cluster,clip,webrtc]' \
    && rm -rf /app/build

USER 1000
WORKDIR /home/everframe
ENV PATH=/opt/everframe/bin:$PATH
EXPOSE 8000
CMD ["everframe", "stream", "--to", "http://0.0.0.0:8000"]
