FROM nginx:latest
ENTRYPOINT ["curl"]
