# Builds for linux/amd64 and linux/arm64: every dependency is a wheel, so nothing is compiled or emulated but pip.
# A release pins it by digest: docs/releasing.md.
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock requirements-build.lock ./
COPY drainproxy ./drainproxy
COPY image/install ./image/install
RUN image/install /opt/drainproxy

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="drainproxy" \
      org.opencontainers.image.description="An HTTP reverse proxy that makes a pod's end invisible to its clients" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/drainproxy /opt/drainproxy
# The allocator keeps what large bodies need for a moment, instead of asking the kernel for it again and again.
ENV PATH=/opt/drainproxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_TOP_PAD_=4194304 \
    MALLOC_TRIM_THRESHOLD_=8388608 \
    MALLOC_MMAP_THRESHOLD_=1048576
# By number, so that runAsNonRoot can be checked without reading the image's passwd.
USER 65532:65532
EXPOSE 28080 29900
ENTRYPOINT ["/opt/drainproxy/bin/drainproxy"]
CMD ["run"]
