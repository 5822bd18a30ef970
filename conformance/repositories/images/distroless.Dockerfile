# What a static program needs, and no shell.
FROM stand-in/debian AS debian
RUN apt-get -q update && apt-get -q install -y --no-install-recommends tzdata \
 && mkdir -p /files/etc /files/tmp /files/home/nonroot /files/usr/share /files/etc/ssl \
 && cp -r /etc/ssl/certs /files/etc/ssl/ && cp -r /usr/share/zoneinfo /files/usr/share/ && chmod 1777 /files/tmp \
 && printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >/files/etc/passwd \
 && printf 'root:x:0:\nnonroot:x:65532:\n' >/files/etc/group
FROM debian:bookworm-slim AS libc
RUN mkdir -p /files/lib /files/lib64 && cp -L /lib64/ld-linux-* /files/lib64/ 2>/dev/null; cp -rL --parents /lib/*-linux-gnu/libc.so.6 \
  /lib/*-linux-gnu/libpthread.so.0 /lib/*-linux-gnu/libresolv.so.2 /files/
FROM scratch
COPY --from=debian /files /
COPY --from=libc /files /
WORKDIR /
