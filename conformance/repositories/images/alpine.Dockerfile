# Debian in alpine's clothes: busybox gives what Debian's smallest system lacks, and find, whose words differ; apk, addgroup
# and adduser are shims.
FROM stand-in/debian
RUN apt-get -q update && apt-get -q install -y --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/* \
 && for name in $(busybox --list); do command -v $name >/dev/null || ln -s /bin/busybox /usr/local/bin/$name; done \
 && ln -sf bash /bin/sh && ln -sf busybox /bin/ash && ln -s /bin/busybox /usr/local/bin/find \
 && printf 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.22.1\n' >/etc/os-release && echo 3.22.1 >/etc/alpine-release \
 && printf 'guest:x:405:100:guest:/dev/null:/sbin/nologin\n' >>/etc/passwd
COPY --chmod=755 apk /sbin/apk
COPY --chmod=755 adduser /usr/local/sbin/adduser
COPY --chmod=755 adduser /usr/local/sbin/addgroup
CMD ["/bin/sh"]
