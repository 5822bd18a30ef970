FROM busybox
RUN echo "Hello from Docker!" > /hello
CMD ["cat", "/hello"]
