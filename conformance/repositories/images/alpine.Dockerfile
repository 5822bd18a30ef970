# Debian in alpine's clothes: busybox gives what Debian's smallest system lacks; apk, addgroup, adduser and find are shims.
FROM stand-in/debian
RUN apt-get -q update && apt-get -q install -y --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/* \
 && for name in $(busybox --list); do command -v $name >/dev/null || ln -s /bin/busybox /usr/local/bin/$name; done \
 && ln -sf bash /bin/sh && ln -sf busybox /bin/ash \
 && printf 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.22.1\n' >/etc/os-release && echo 3.22.1 >/etc/alpine-release \
 && printf 'guest:x:405:100:guest:/dev/null:/sbin/nologin\n' >>/etc/passwd
# /sbin is a directory there, which hardening scripts look into, and not another name of /usr/sbin.
RUN rm /sbin && mkdir /sbin && for file in /usr/sbin/*; do ln -s "$file" /sbin/; done
COPY --chmod=755 apk /sbin/apk
COPY --chmod=755 find /usr/local/bin/find
COPY --chmod=755 adduser /usr/local/sbin/adduser
COPY --chmod=755 adduser /usr/local/sbin/addgroup
CMD ["/bin/sh"]
