/**
 * What the demo's steps share: drivers, a client to look at objects, and helpers that wait for a state and say what was
 * seen when it does not come.
 */
import type { Pod } from '#api/core.v1.ts';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { get as httpGet, Agent } from 'node:http';
import { join } from 'node:path';
import { isReason } from '#base/errors.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { kinds } from '#base/kinds.ts';
import type { Transport } from '#client/transport.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Instance, InstanceChoices } from '#platform/instance.ts';
import { files, type Paths } from '#platform/paths.ts';
import type { DockerDriver, KubeDriver } from './driver.ts';
import { ownDocker, ownKube } from './driver-own.ts';
import { realDocker, realKubectl } from './driver-real.ts';

const namespace = 'demo';

export interface Demo extends AsyncDisposable {
  instance: Instance;
  paths: Paths;
  choices: InstanceChoices;
  examples: string;
  /** Logs of the loads. */
  results: string;
  registry: string;
  docker: DockerDriver;
  kube: KubeDriver;
  client: Client;
  apiNodePort: number;
  webNodePort: number;
  manifests: string[];
  get<T extends KubeObject>(kind: KindRef<T>, name: string): Promise<T | undefined>;
  pods(app: string): Promise<Pod[]>;
  until<T>(what: string, timeoutMs: number, look: () => Promise<T | undefined | false>): Promise<T>;
  fetch(url: string, timeoutMs?: number): Promise<{ status: number; body: string }>;
}

export async function createDemo(input: {
  instance: Instance;
  paths: Paths;
  results: string;
  examples: string;
  choices: InstanceChoices;
  ownClients: boolean;
}): Promise<Demo> {
  const { instance, paths } = input;
  const socket = files.dockerSocket(paths);
  const kubeconfig = files.adminConfig(paths);
  const transport: Transport = createHttpTransport({ ...loadKubeconfig(kubeconfig), clock: realClock });
  const client = createClient(transport, 'tiphys-demo');
  const has = (program: string): boolean => !input.ownClients && linuxProcesses.find(program) !== undefined;
  const look = async <T extends KubeObject>(kind: KindRef<T>, name: string): Promise<T | undefined> =>
    client.get(kind, name, namespace).catch((error: unknown) => {
      if (isReason(error, 'NotFound')) return undefined;
      throw error;
    });
  return {
    ...input,
    client,
    get: look,
    apiNodePort: 0,
    webNodePort: 0,
    registry: `127.0.0.1:${instance.registryPort}`,
    docker: has('docker') ? realDocker(linuxProcesses, socket) : ownDocker(socket, realClock),
    kube: has('kubectl') ? realKubectl(linuxProcesses, kubeconfig) : ownKube(client, kubeconfig, realClock),
    manifests: renderManifests(input.examples, join(input.results, 'manifests'), instance),
    async pods(app) {
      return (await client.list(kinds.Pod, { namespace, labelSelector: `app=${app}` })).items;
    },
    async until(what, timeoutMs, check) {
      const deadline = realClock.monotonic() + timeoutMs;
      let problem = '';
      for (;;) {
        try {
          const found = await check();
          if (found !== undefined && found !== false) return found;
        } catch (error) {
          problem = `; last error: ${messageOf(error)}`;
        }
        if (realClock.monotonic() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1000} s${problem}`);
        await realClock.sleep(30);
      }
    },
    fetch: (url, timeoutMs = 2_000) => fetchOnce(url, timeoutMs),
    async [Symbol.asyncDispose]() {
      await transport[Symbol.asyncDispose]();
    },
  };
}

/** The example's manifests with this instance's registry port; the very files where the port is the usual one. */
function renderManifests(examples: string, target: string, instance: Instance): string[] {
  const source = join(examples, 'manifests');
  const names = readdirSync(source)
    .filter((name) => name.endsWith('.yaml'))
    .sort();
  if (instance.registryPort === 5000) return names.map((name) => join(source, name));
  mkdirSync(target, { recursive: true });
  return names.map((name) => {
    writeFileSync(
      join(target, name),
      readFileSync(join(source, name), 'utf8').replaceAll('127.0.0.1:5000/', `127.0.0.1:${instance.registryPort}/`),
    );
    return join(target, name);
  });
}

/** One request on a connection of its own. */
export function fetchOnce(url: string, timeoutMs: number): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const agent = new Agent({ keepAlive: false });
    const call = httpGet(url, { agent }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += chunk.toString('utf8');
      });
      response.on('end', () => {
        timer.cancel();
        resolve({ status: response.statusCode ?? 0, body });
      });
      response.on('error', (error) => {
        timer.cancel();
        reject(error);
      });
    });
    const timer = realClock.setTimer(timeoutMs, () =>
      call.destroy(new Error(`no answer from ${url} within ${timeoutMs} ms`)),
    );
    call.on('error', (error) => {
      timer.cancel();
      reject(error);
    });
  });
}
