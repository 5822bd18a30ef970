FROM alpine
CMD ["bash"]
