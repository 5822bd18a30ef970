FROM alpine
RUN apt-get update && apt-get install -y --no-install-recommends runc git && rm -rf /var/lib/apt/lists/* \
 && ln -s /usr/sbin/runc /usr/bin/buildkit-runc
COPY buildkitd buildctl /usr/bin/
VOLUME /var/lib/buildkit
ENTRYPOINT ["buildkitd"]
