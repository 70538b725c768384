# docker build -t llmux .
# docker run -p 8080:8080 -v $(pwd)/config:/config llmux
#
# Both stages are of the same Debian release: the binary needs the C library of the release that it was built on.
FROM rust:1.95-slim-trixie AS build

WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --profile dist --package llmux-server \
    && install -D target/dist/llmux-server /out/llmux-server

FROM debian:trixie-slim

LABEL org.opencontainers.image.title="LLMux" \
      org.opencontainers.image.description="An LLM gateway: one OpenAI-compatible endpoint for all model vendors" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/llmux/llmux"

# The certificate authorities that vendors, databases and Redis are checked with.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/llmux-server /usr/local/bin/llmux-server
COPY config/config.yaml /config/config.yaml

# State: usage records on their way, the embedded database, the generated master key. All else may be read-only.
RUN install --directory --mode=0700 --owner=65532 --group=65532 /data
VOLUME /data

# The variables win over the file, so that a file made for a desk works here as well. LLMUX_CONFIG, and no argument:
# `docker run llmux check` looks at the same file.
ENV LLMUX_CONFIG=/config/config.yaml \
    LLMUX_DATA_DIR=/data \
    LLMUX_SERVER__HOST=0.0.0.0

# Paths in the configuration are relative to its folder, and a .env there is read.
WORKDIR /config
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/llmux-server"]
