FROM stand-in/alpine
RUN apk add shellcheck
