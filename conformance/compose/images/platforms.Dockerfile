# The same files for every platform: what runs is the host's, what is pulled and created is any.
FROM --platform=$BUILDPLATFORM alpine AS files
FROM scratch
COPY --from=files / /
CMD ["/bin/sh"]
