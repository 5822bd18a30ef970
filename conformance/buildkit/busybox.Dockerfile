# The suite's cases add users with busybox's own programs, which Debian's busybox was built without.
FROM busybox
RUN sed -i 's/^nogroup:/nobody:/' /etc/group && echo wheel:x:10:root >> /etc/group
COPY --chmod=755 <<"SCRIPT" /bin/addgroup
#!/bin/sh
gid=1000
while [ $# -gt 1 ]; do case $1 in -g) gid=$2; shift ;; esac; shift; done
while grep -q ":$gid:" /etc/group; do gid=$((gid + 1)); done
echo "$1:x:$gid:" >> /etc/group
SCRIPT
COPY --chmod=755 <<"SCRIPT" /bin/adduser
#!/bin/sh
uid=1000 group=
while [ $# -gt 1 ]; do case $1 in -u) uid=$2; shift ;; -G) group=$2; shift ;; esac; shift; done
while cut -d: -f3 /etc/passwd | grep -qx "$uid"; do uid=$((uid + 1)); done
if [ -z "$group" ]; then echo "$1:x:$uid:" >> /etc/group; gid=$uid
else gid=$(grep "^$group:" /etc/group | cut -d: -f3); fi
echo "$1:x:$uid:$gid:Linux User,,,:/home/$1:/bin/sh" >> /etc/passwd
mkdir -p "/home/$1" && chown "$uid:$gid" "/home/$1"
SCRIPT
