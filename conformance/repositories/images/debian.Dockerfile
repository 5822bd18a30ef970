# Debian with the authorities that this machine trusts, as builds behind a private one need them.
FROM debian:bookworm-slim
RUN apt-get -q update && apt-get -q install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=authorities . /usr/local/share/ca-certificates/
RUN update-ca-certificates
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt
