FROM alpine
COPY sentences /usr/bin/postgres
EXPOSE 5432
CMD ["postgres"]
