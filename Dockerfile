# Nothing is built here: `make image` lays out what is copied, for each architecture, in bin/image.
FROM scratch
# A copy comes first: of whatever else the classic builder makes an image of its own platform, and then cannot go on.
COPY ca-certificates.crt /etc/ssl/certs/
# Set by BuildKit, and by `make image` for the classic builder.
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
EXPOSE 8080
ENTRYPOINT ["/helm-state-metrics"]
