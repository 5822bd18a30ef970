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

# The suite wants busybox's own shell: it keeps environment variables whose names are no identifiers (data-1), which
# Debian's does not, and says in its own words what it cannot do. So it is made of upstream's source, which Debian has.
# As in Docker's image of it all of its commands are in /bin.
FROM debian:bookworm-slim AS busybox-build
RUN apt-get -q update && apt-get -q install -y --no-install-recommends gcc libc6-dev make musl-tools linux-libc-dev \
  bzip2 dpkg-dev
RUN echo 'deb-src http://deb.debian.org/debian trixie main' > /etc/apt/sources.list.d/trixie.list \
  && apt-get -q update && cd /tmp && apt-get -q source --only-source --download-only busybox/trixie \
  && mkdir /busybox && tar -xjf busybox_1.37.0.orig.tar.bz2 --strip-components=1 -C /busybox
RUN musl=$(echo /usr/include/*-linux-musl) gnu=$(echo /usr/include/*-linux-gnu) \
  && for headers in linux asm-generic mtd; do ln -s /usr/include/$headers $musl/$headers; done \
  && ln -s $gnu/asm $musl/asm && cd /busybox && make -s defconfig \
  && sed -i -e 's/.*CONFIG_STATIC\b.*/CONFIG_STATIC=y/' -e 's/CONFIG_TC=y/CONFIG_TC=n/' .config \
  && (yes '' | make -s oldconfig >/dev/null) && make -s -j2 CC=musl-gcc >/dev/null 2>&1 \
  && mkdir -p /root-files/bin && cp busybox /root-files/bin/ \
  && for applet in $(./busybox --list); do ln -sf busybox /root-files/bin/$applet; done \
  && cd /root-files && mkdir -p etc tmp var/tmp root proc sys dev home run mnt && chmod 1777 tmp var/tmp \
  && printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd \
  && printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group

FROM scratch AS busybox
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --from=busybox-build /root-files/ /
CMD ["sh"]

FROM agnhost AS nautilus
COPY nautilus.jpg /nautilus.jpg
COPY nautilus.json /data.json
CMD ["test-webserver"]

# Upstream's stands on Alpine, and the test of image volumes reads what the file says of that.
FROM agnhost AS kitten
RUN printf 'NAME="Alpine Linux"\nID=alpine\n' >/etc/os-release
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
