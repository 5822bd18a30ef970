FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends docker-registry ca-certificates && rm -rf /var/lib/apt/lists/*
RUN mkdir -p /var/lib/registry \
 && printf 'version: 0.1\nstorage: { filesystem: { rootdirectory: /var/lib/registry }, delete: { enabled: true } }\nhttp: { addr: ":5000" }\n' > /etc/registry.yml
VOLUME /var/lib/registry
EXPOSE 5000
CMD ["docker-registry", "serve", "/etc/registry.yml"]
