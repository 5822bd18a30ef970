/** `--metrics-addr`: what dockerd measures under its names, and the process itself, for Prometheus. */
import { createServer } from 'node:http';
import { cpus, release, totalmem } from 'node:os';
import type { DockerEngine } from '#engine/create-engine.ts';
import { exposeMetrics } from '#observe/exposition.ts';
import type { Metrics } from '#observe/metrics.ts';
import { measureProcess } from '#observe/process-metrics.ts';
import { processUsage } from '#os/process-usage.linux.ts';
import { tiphysVersion } from '../version.ts';
import { parseHost } from './hosts.ts';

export async function serveMetrics(
  address: string,
  { metrics, engine }: { metrics: Metrics; engine: DockerEngine },
): Promise<AsyncDisposable> {
  measureProcess(metrics, processUsage);
  measureEngine(metrics, engine);
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, (request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end('404 page not found\n');
      return;
    }
    exposeMetrics(metrics).then(
      ({ contentType, body }) => response.writeHead(200, { 'Content-Type': contentType }).end(body),
      () => response.writeHead(500).end(),
    );
  });
  const host = parseHost(`tcp://${address}`, false);
  if (host.type !== 'tcp') throw new Error('an address is TCP');
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(host.port, host.address, resolve);
  });
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function measureEngine(metrics: Metrics, engine: DockerEngine): void {
  const states = {
    name: 'engine_daemon_container_states_containers',
    help: 'The count of containers in various states',
    labels: ['state'],
  };
  metrics.gauge(states, (family) => {
    for (const state of ['running', 'paused', 'stopped']) family.of(state).value = 0;
    for (const { record } of engine.table.list()) {
      const state = record.state === 'running' || record.state === 'paused' ? record.state : 'stopped';
      family.of(state).value += 1;
    }
  });
  const facts = {
    name: 'engine_daemon_engine_info',
    help: 'The information related to the engine and the OS it is running on',
    labels: ['version', 'architecture', 'kernel', 'daemon_id'],
  };
  metrics.gauge(facts).of(tiphysVersion(), process.arch, release(), engine.context.instanceId).value = 1;
  const cpu = { name: 'engine_daemon_engine_cpus_cpus', help: 'The number of cpus that the host system has' };
  metrics.gauge(cpu).of().value = cpus().length;
  const memory = { name: 'engine_daemon_engine_memory_bytes', help: 'The number of bytes of memory that the host has' };
  metrics.gauge(memory).of().value = totalmem();
}
