# The worker in its polling mode, for ECS or any other place that runs containers. Nothing else is in the image: no
# shell, no package manager, and a user without rights.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build
# rust-toolchain.toml stays outside: the tag above is its channel, and lints need no room here.
COPY Cargo.toml Cargo.lock ./
COPY crates ./crates
COPY src ./src
# The worker alone: the control plane has dependencies of its own.
RUN cargo build --release --locked --no-default-features --bin worker

# The same Debian as above, so the same C library; certificates are in it. Distroless has no finer tags: whoever wants the
# same bytes for ever names a digest.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/worker /usr/local/bin/worker
# Only inside of a container every interface is meant: what is published outside, the port mapping says.
ENV PROMETHEUS_PORT=0.0.0.0:9300
# As the template sets it: memory that one thread gave back is there for the others.
ENV MALLOC_ARENA_MAX=2
EXPOSE 9300
USER nonroot
# Asked to end, it brings the batch in hand to its end within 25 s.
STOPSIGNAL SIGTERM
CMD ["worker", "--poll"]
