# The original archive of a source package, unpacked.
FROM debian:stable-slim AS fetch
RUN echo 'deb-src http://deb.debian.org/debian trixie main' >/etc/apt/sources.list.d/trixie.list && apt-get -q update \
 && apt-get -q install -y --no-install-recommends dpkg-dev xz-utils
ARG PACKAGE
WORKDIR /archive
RUN apt-get -q source --tar-only --only-source "$PACKAGE" && mkdir /source \
 && tar -xf "$(ls ./*.orig.tar.* | grep -v '\.asc$')" -C /source --strip-components=1
FROM scratch
COPY --from=fetch /source /
