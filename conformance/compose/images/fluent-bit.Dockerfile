FROM busybox
CMD ["nc", "-ll", "-p", "24224", "-e", "cat"]
