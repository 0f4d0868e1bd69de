# Builds for linux/amd64 and linux/arm64: every dependency is a wheel. docs/image.md says how, and what a machine
# without a registry or behind a private index does.
# A release pins it by digest: docs/releasing.md.
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS dependencies
WORKDIR /src
COPY image/install image/tidy.py image/left-out ./image/
COPY requirements.lock requirements-build.lock ./
# Both secrets are optional: a pip.conf, and a PEM of CAs beside the public ones.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    image/install dependencies /opt/drainproxy

FROM dependencies AS package
# COMPILE=0: an image of the sources alone. COMPILE=must: no image where they cannot be compiled, as for a release.
ARG COMPILE=1
RUN image/install compiler
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY drainproxy ./drainproxy
RUN image/install package /opt/drainproxy

# `--target redirect`: what the init container of capture by redirect runs, and nothing else. It needs nft(8), and
# as whom it runs its pod says: root, with NET_ADMIN alone.
FROM ${PYTHON} AS redirect
RUN apt-get update \
    && apt-get install -y --no-install-recommends nftables=1.0.6-* \
    && rm -rf /var/lib/apt/lists/*
COPY --from=dependencies /opt/drainproxy /opt/drainproxy
COPY --from=package /opt/drainproxy-package /opt/drainproxy
ENV PATH=/opt/drainproxy/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/drainproxy/bin/drainproxy"]
CMD ["redirect"]

FROM ${PYTHON}
# What changes seldom comes first: a node that has an older version pulls the last layer alone.
COPY --from=dependencies /opt/drainproxy /opt/drainproxy
COPY --from=package /opt/drainproxy-package /opt/drainproxy
# The C library's allocator gives back what a crowd of clients has left, and keeps what large bodies need for a
# moment, instead of asking the kernel for it again and again: docs/decisions/0028-allocator.md.
ENV PATH=/opt/drainproxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONMALLOC=malloc \
    MALLOC_ARENA_MAX=1 \
    MALLOC_TOP_PAD_=4194304 \
    MALLOC_TRIM_THRESHOLD_=8388608 \
    MALLOC_MMAP_THRESHOLD_=1048576
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="drainproxy" \
      org.opencontainers.image.description="An HTTP reverse proxy that makes a pod's end invisible to its clients" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# By number, so that runAsNonRoot can be checked without reading the image's passwd.
USER 65532:65532
EXPOSE 28080 29900
ENTRYPOINT ["/opt/drainproxy/bin/drainproxy"]
CMD ["run"]
