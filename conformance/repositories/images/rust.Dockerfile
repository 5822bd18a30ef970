# Rust is this machine's. Programs are static, as musl makes them; the target is named, so that macros, which run while it
# compiles, are not.
FROM stand-in/alpine
RUN apt-get -q update && apt-get -q install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=toolchain bin /usr/local/rust/bin
COPY --from=toolchain lib /usr/local/rust/lib
ARG TARGET
ENV CARGO_HOME=/usr/local/cargo CARGO_BUILD_TARGET=${TARGET} RUSTFLAGS="-C target-feature=+crt-static" \
    PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
