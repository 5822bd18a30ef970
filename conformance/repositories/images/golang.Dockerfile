# Go is this machine's, whatever the tag says.
ARG BASE
FROM ${BASE}
RUN apt-get -q update && apt-get -q install -y --no-install-recommends git gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
COPY --from=toolchain . /usr/local/go
ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN mkdir -p /go/src /go/bin && chmod -R 1777 /go
WORKDIR /go
CMD ["bash"]
