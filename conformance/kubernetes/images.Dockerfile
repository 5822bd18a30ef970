# The suite's images under their own names' stages: programs from their Go modules, tools and servers from Debian.
FROM debian:bookworm-slim AS tools
RUN apt-get -q update && apt-get -q install -y --no-install-recommends \
  bind9-dnsutils curl netcat-openbsd iproute2 iperf socat ca-certificates && rm -rf /var/lib/apt/lists/*

FROM debian:bookworm-slim AS nginx
RUN apt-get -q update && apt-get -q install -y --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/*
EXPOSE 80
CMD ["nginx", "-g", "daemon off;"]

FROM tools AS agnhost
RUN mkdir -p /uploads /var/registry && ln -s agnhost /agnhost-2 && groupadd -g 50000 group-defined-in-image \
  && useradd -u 1000 -m user-defined-in-image && usermod -aG group-defined-in-image user-defined-in-image
COPY localhost.crt localhost.key agnhost /
EXPOSE 80 8080 8081 9376 5000
ENTRYPOINT ["/agnhost"]
CMD ["pause"]

# Upstream's shell keeps environment variables whose names are no identifiers (data-1); so does bash, and dash does not.
FROM debian:bookworm-slim AS bash
RUN apt-get -q update && apt-get -q install -y --no-install-recommends bash-static
FROM busybox AS busybox
COPY --from=bash /bin/bash-static /bin/bash
RUN ln -sf bash /bin/sh
CMD ["sh"]

FROM agnhost AS nautilus
COPY nautilus.jpg /nautilus.jpg
COPY nautilus.json /data.json
CMD ["test-webserver"]

FROM agnhost AS kitten
COPY kitten.jpg /kitten.jpg
COPY kitten.json /data.json
CMD ["test-webserver"]

FROM tools AS glibc-dns-testing
CMD ["bash"]

FROM busybox AS nonewprivs
COPY nonewprivs /usr/local/bin/nnp
RUN chmod +s /usr/local/bin/nnp
CMD ["nnp"]

FROM busybox AS nonroot
USER 1234

FROM scratch AS pause
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]

FROM busybox AS etcd
COPY etcd /usr/local/bin/etcd
EXPOSE 2379 2380
CMD ["etcd"]

FROM scratch AS sample-apiserver
COPY sample-apiserver /sample-apiserver
ENTRYPOINT ["/sample-apiserver"]
