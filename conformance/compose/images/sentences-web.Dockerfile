FROM nginx:latest
COPY sentences /dispatcher
STOPSIGNAL SIGTERM
CMD ["/dispatcher"]
