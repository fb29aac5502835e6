# syntax=docker/dockerfile:1
# The image of the service: the binary, the libraries it is linked to, certificate authorities, nothing else.
# No shell, no package manager, no root. docs/DEPLOYMENT.md says how it is run; `deploy/dev image` builds it
# without a daemon and `deploy/dev image check` runs it.
#
#   docker build -t oms .

ARG RUST=docker.io/library/rust:1.95.0-bookworm
ARG DEBIAN=docker.io/library/debian:bookworm-slim
# Where the binary comes from: `compiled` here, or `given` as dist/oms in the context.
ARG BINARY=compiled

FROM ${RUST} AS compiled
WORKDIR /src
COPY . .
RUN cargo build --release --locked \
    && mkdir /dist && mv target/release/oms /dist/oms && rm -rf target

FROM scratch AS given
COPY dist/oms /dist/oms

FROM ${BINARY} AS binary

FROM ${DEBIAN} AS root
# What the binary needs is of this Debian; versions are those of the day on which the image is built.
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils ca-certificates libgcc-s1 libssl3 zlib1g
COPY deploy/container/rootfs.sh /rootfs.sh
COPY --from=binary /dist/oms /oms
RUN sh /rootfs.sh /oms /rootfs

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="oms" \
      org.opencontainers.image.description="Event-sourced ontology service: S3 is the event store" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/DEPLOYMENT.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=root /rootfs /
# All addresses: reached from outside of the container, the service refuses to start without tokens.
ENV PATH=/usr/local/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    OMS__DATA_DIR=/var/lib/oms \
    OMS__HTTP__HOST=0.0.0.0
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/oms
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/oms", "status", "--data-dir", "/var/lib/oms"]
ENTRYPOINT ["/usr/local/bin/oms"]
CMD ["serve"]
