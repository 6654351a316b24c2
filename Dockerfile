# `make image` builds the files in bin/image for each architecture; this file only copies them.
FROM scratch
# COPY must be the first instruction: after any other, the classic builder uses the platform of the host and fails.
COPY ca-certificates.crt /etc/ssl/certs/
# BuildKit sets this. `make image` sets it for the classic builder.
ARG TARGETARCH
COPY linux-$TARGETARCH/helm-state-metrics /
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="helm-state-metrics" \
      org.opencontainers.image.description="Prometheus metrics about the state of Helm releases" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/helm-state-metrics"]
