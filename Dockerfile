# docker build -t pve-quota-proxy .
# docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --init --stop-timeout 15 \
#   -v /etc/pve-quota-proxy:/etc/pve-quota-proxy:ro -v pve-quota-proxy:/var/lib/pve-quota-proxy \
#   -p 127.0.0.1:8081:8081 pve-quota-proxy
# In config.json: "listenHost": "0.0.0.0", "listenPort": 8081, and the token as {"file": ...} or {"env": ...}.
ARG NODE=26

FROM node:${NODE}-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The image has its own Node, so the one that npm would bring along is left out.
RUN npm ci --omit=dev --omit=optional

FROM node:${NODE}-slim
ENV NODE_ENV=production NODE_COMPILE_CACHE=/tmp/node-compile-cache
COPY --from=dependencies /app/node_modules /app/node_modules
COPY package.json LICENSE* /app/
COPY src /app/src
# Root owns the program, 8081 runs it and owns what it keeps.
RUN install --directory --owner=8081 --group=8081 --mode=0700 /var/lib/pve-quota-proxy
USER 8081:8081
# Relative paths of the configuration begin here.
WORKDIR /var/lib/pve-quota-proxy
VOLUME /var/lib/pve-quota-proxy
EXPOSE 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["node", "-e", "const ask = (scheme) => require(scheme).get(scheme + '://127.0.0.1:8081/healthz', { rejectUnauthorized: false }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)); ask('http').on('error', () => ask('https').on('error', () => process.exit(1)))"]
ENTRYPOINT ["node", "--max-semi-space-size=4", "/app/src/main.ts"]
CMD ["--config", "/etc/pve-quota-proxy/config.json"]
