FROM busybox
CMD ["nc", "-lk", "-p", "24224", "-e", "cat"]
