FROM alpine
CMD ["sleep", "infinity"]
