# Debian in alpine's clothes: busybox gives what Debian's smallest system lacks, apk asks apt.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static ca-certificates && rm -rf /var/lib/apt/lists/* \
 && for name in $(busybox --list); do command -v $name >/dev/null || ln -s /bin/busybox /usr/local/bin/$name; done \
 && ln -sf bash /bin/sh && ln -s busybox /bin/ash && ln -s /bin/busybox /usr/local/bin/ls && ln -s /bin/busybox /usr/local/bin/sh
RUN echo 3.22.1 > /etc/alpine-release \
 && printf 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.22.1\n' > /etc/os-release
COPY <<"SCRIPT" /sbin/apk
#!/bin/sh
[ "$1" = add ] || { echo "this apk only adds" >&2; exit 1; }
shift
packages=
for word; do case $word in -*) ;; *) packages="$packages $word" ;; esac; done
apt-get update && exec apt-get install -y --no-install-recommends $packages
SCRIPT
RUN chmod 755 /sbin/apk
CMD ["/bin/sh"]
