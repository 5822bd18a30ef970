/**
 * Ingress on this node: keeps an HAProxy fed with the plan of `ingress-config.ts`. HAProxy starts with the first
 * Ingress and is not there before. Changed endpoints go over its admin socket; changed routes or certificates by a
 * reload that hands the listening sockets over, so that no connection is refused. HAProxy outlives this process, and
 * the next one takes it up again.
 */
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { Ingress, ServiceBackendPort } from '#api/networking.v1.ts';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { mkdir, readFile, readdir, readlink, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isReason } from '#base/errors.ts';
import { whenSettled } from '#base/promises.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder } from '#client/events.ts';
import type { InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock, Timer } from '#os/clock.ts';
import { readIfExists } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import type { Logger } from '#observe/log.ts';
import { haproxyConfig, planIngress, type IngressPlan } from './ingress-config.ts';
import { IngressCertificates } from './ingress-certificates.ts';
import { ingressReloadDelayMs } from './limits.ts';
import { servicePorts, usableEndpoints } from './service-rules.ts';

export interface IngressOptions {
  client: Client;
  informers: InformerFactory;
  processes: Processes;
  clock: Clock;
  log: Logger;
  runDir: string;
  nodeName: string;
  /** `address:port` each. */
  httpBinds: string[];
  httpsBinds: string[];
  /** Address written into the status of Ingresses; undefined on nodes that do not lead. */
  statusAddress: string | undefined;
  /** PEM of a certificate and its key for hosts that name none. */
  defaultCertificate(): Promise<string>;
}

export const ingressClassName = 'tiphys';
export const ingressController = 'tiphys.io/ingress';
const defaultClassAnnotation = 'ingressclass.kubernetes.io/is-default-class';

export interface RunningIngress extends AsyncDisposable {
  ready: Promise<void>;
  /** Has the proxy read its certificates anew, if it runs. */
  renewCertificates(): void;
}

export function runIngress(options: IngressOptions): RunningIngress {
  const { client, informers, clock, log, processes, runDir } = options;
  const ingresses = informers.informer(kinds.Ingress);
  const classes = informers.informer(kinds.IngressClass);
  const services = informers.informer(kinds.Service);
  const slices = informers
    .informer(kinds.EndpointSlice)
    .addIndex(
      'service',
      (slice: EndpointSlice) =>
        `${slice.metadata.namespace}/${slice.metadata.labels?.['kubernetes.io/service-name'] ?? ''}`,
    );
  const certificates = new IngressCertificates(informers, clock, () => schedule());
  /** By Ingress and Secret. */
  const toldProblems = new Map<string, string>();
  let shape = '';
  let slots = new Map<string, (string | undefined)[]>();
  let timer: Timer | undefined;
  let closed = false;
  let work: Promise<void> = Promise.resolve();
  const recorder = createEventRecorder({ client, clock, log, component: 'ingress', host: options.nodeName });

  const isOurs = (ingress: Ingress): boolean => {
    const name: string | undefined =
      ingress.spec.ingressClassName ?? ingress.metadata.annotations?.['kubernetes.io/ingress.class'];
    if (name !== undefined) return classes.get(name)?.spec.controller === ingressController;
    return classes
      .list()
      .some(
        (item) =>
          item.spec.controller === ingressController && item.metadata.annotations?.[defaultClassAnnotation] === 'true',
      );
  };
  const endpoints = (namespace: string, name: string, port: ServiceBackendPort): { ip: string; port: number }[] => {
    const service = services.get(`${namespace}/${name}`);
    if (service === undefined) return [];
    const wanted = (service.spec.ports ?? []).find((entry) =>
      port.name !== undefined && port.name !== '' ? entry.name === port.name : entry.port === port.number,
    );
    if (wanted === undefined) return [];
    // A headless Service has no virtual address, but its endpoints serve all the same.
    const planned = servicePorts(
      {
        ...service,
        spec: { ...service.spec, ...(service.spec.clusterIP === 'None' ? { clusterIP: '0.0.0.0' } : {}) },
      },
      slices.by('service', `${namespace}/${name}`),
      { nodeName: options.nodeName, zone: undefined },
    );
    const match = planned.find((entry) => entry.port === wanted.port);
    return match === undefined
      ? []
      : usableEndpoints(match.endpoints, 'all').map((endpoint) => ({ ip: endpoint.ip, port: endpoint.port }));
  };
  /** Tells owners of Ingresses, once, what keeps their certificate from being served. */
  const reportCertificates = (list: Ingress[]): void => {
    const before = new Map(toldProblems);
    toldProblems.clear();
    for (const ingress of list)
      for (const secret of secretsOf(ingress)) {
        const problem = certificates.problem(secret);
        if (problem === undefined) continue;
        const key = `${ingress.metadata.uid} ${secret}`;
        toldProblems.set(key, problem);
        if (before.get(key) !== problem) recorder.event(ingress, 'Warning', 'CertificateNotServed', problem);
      }
  };

  const sync = async (): Promise<void> => {
    if (closed) return;
    const list = ingresses.list().filter(isOurs);
    if (list.length === 0 && shape === '' && (await runningHaproxy(runDir)) === undefined) return;
    const isRead = await certificates.follow(new Set(list.flatMap(secretsOf)));
    // What an earlier process has the proxy serve stays until this one knows as much.
    if (!isRead && shape === '' && (await runningHaproxy(runDir)) !== undefined) return;
    const plan = planIngress(list, {
      endpoints,
      tlsSecret: (namespace, name) => certificates.get(`${namespace}/${name}`),
      slotsOf: (backend) => slots.get(backend)?.length ?? 0,
    });
    const newShape = JSON.stringify([
      plan.routes,
      plan.backends.map((backend) => [backend.name, backend.slots]),
      plan.defaultBackend,
      plan.certificates,
    ]);
    if (newShape !== shape || (await runningHaproxy(runDir)) === undefined) {
      if (!(await reload(plan, newShape, list))) return;
    } else await updateServers(plan);
    if (options.statusAddress === undefined) return;
    reportCertificates(list);
    await reportStatus(list, options.statusAddress);
  };

  /** Whether the proxy now follows this plan. */
  const reload = async (plan: IngressPlan, newShape: string, list: Ingress[]): Promise<boolean> => {
    await mkdir(join(runDir, 'certs'), { recursive: true, mode: 0o700 });
    await writeFile(join(runDir, 'certs', 'default.pem'), await options.defaultCertificate(), { mode: 0o600 });
    for (const certificate of plan.certificates)
      await writeFile(join(runDir, 'certs', certificate.file), certificate.pem, { mode: 0o600 });
    await writeFile(
      join(runDir, 'crt-list'),
      [
        join(runDir, 'certs', 'default.pem'),
        ...plan.certificates.map(
          (certificate) => `${join(runDir, 'certs', certificate.file)} ${certificate.hosts.join(' ')}`,
        ),
      ].join('\n') + '\n',
    );
    const config = join(runDir, 'haproxy.cfg');
    await writeFile(
      `${config}.new`,
      haproxyConfig(plan, { runDir, httpBinds: options.httpBinds, httpsBinds: options.httpsBinds, ...proxyUser() }),
      { mode: 0o600 },
    );
    const check = await processes.run('haproxy', ['-c', '-f', `${config}.new`]);
    if (check.code !== 0) {
      log.error('haproxy refuses the configuration; the last one stays', { stderr: check.stderr.slice(0, 2000) });
      return false;
    }
    await rm(config, { force: true });
    await rename(`${config}.new`, config);
    const old = await runningHaproxy(runDir);
    const socket = join(runDir, 'haproxy.sock');
    const started = await processes.run('haproxy', [
      '-D',
      '-f',
      config,
      '-p',
      join(runDir, 'haproxy.pid'),
      ...(old === undefined ? [] : existsSync(socket) ? ['-x', socket, '-sf', String(old)] : ['-st', String(old)]),
    ]);
    if (started.code !== 0) {
      log.error('haproxy did not start', { stderr: started.stderr.slice(0, 2000) });
      for (const ingress of list) recorder.event(ingress, 'Warning', 'ListenFailed', startFailure(started.stderr));
      schedule(2_000);
      return false;
    }
    shape = newShape;
    const used = new Set(['default.pem', ...plan.certificates.map(({ file }) => file)]);
    for (const file of await readdir(join(runDir, 'certs')))
      if (!used.has(file)) await rm(join(runDir, 'certs', file), { force: true });
    slots = new Map(
      plan.backends.map((backend) => [
        backend.name,
        Array.from({ length: backend.slots }, (_unused, index) => {
          const server = backend.servers[index];
          return server === undefined ? undefined : `${server.ip}:${server.port}`;
        }),
      ]),
    );
    return true;
  };

  /** New endpoints take free slots; endpoints that went are drained: what they serve is finished, nothing new comes. */
  const updateServers = async (plan: IngressPlan): Promise<void> => {
    const commands: string[] = [];
    for (const backend of plan.backends) {
      const held = slots.get(backend.name) ?? [];
      const wanted = new Set(backend.servers.map((server) => `${server.ip}:${server.port}`));
      held.forEach((address, index) => {
        if (address === undefined || wanted.has(address)) return;
        commands.push(`set server ${backend.name}/s${index + 1} state maint`);
        held[index] = undefined;
      });
      for (const server of backend.servers) {
        const address = `${server.ip}:${server.port}`;
        if (held.includes(address)) continue;
        const free = held.indexOf(undefined);
        if (free < 0) {
          schedule(0);
          shape = '';
          return;
        }
        commands.push(
          `set server ${backend.name}/s${free + 1} addr ${server.ip} port ${server.port}`,
          `set server ${backend.name}/s${free + 1} state ready`,
        );
        held[free] = address;
      }
    }
    for (const command of commands) {
      const answer = await adminCommand(join(runDir, 'haproxy.sock'), command);
      if (/No such|Invalid|error/i.test(answer)) {
        log.warn('haproxy refused a change; reloading', { command, answer });
        shape = '';
        schedule(0);
        return;
      }
    }
  };

  const reportStatus = async (list: Ingress[], address: string): Promise<void> => {
    for (const ingress of list) {
      if (ingress.status?.loadBalancer?.ingress?.[0]?.ip === address) continue;
      await client
        .patch(
          kinds.Ingress,
          ingress.metadata,
          { merge: { status: { loadBalancer: { ingress: [{ ip: address }] } } } },
          { subresource: 'status' },
        )
        .catch((error: unknown) => {
          if (!isReason(error, 'NotFound', 'Conflict')) log.warn('ingress status', { error: error as Error });
        });
    }
  };

  const schedule = (delayMs = ingressReloadDelayMs): void => {
    if (timer !== undefined || closed) return;
    timer = clock.setTimer(delayMs, () => {
      timer = undefined;
      work = work.then(sync).catch((error: unknown) => {
        log.error('ingress', { error });
        schedule(2_000);
      });
    });
  };
  const ready = (async () => {
    await Promise.all([ingresses.synced, classes.synced, services.synced, slices.synced]);
    const touch = { added: () => schedule(), updated: () => schedule(), deleted: () => schedule() };
    for (const informer of [ingresses, classes]) informer.addHandler(touch);
    // Endpoints matter at once: a Pod that ends must get no new request.
    const touchSoon = { added: () => schedule(2), updated: () => schedule(2), deleted: () => schedule(2) };
    for (const informer of [services, slices])
      informer.addHandler({
        added: () => {
          if (ingresses.size > 0) touchSoon.added();
        },
        updated: () => {
          if (ingresses.size > 0) touchSoon.updated();
        },
        deleted: () => {
          if (ingresses.size > 0) touchSoon.deleted();
        },
      });
  })();
  return {
    ready,
    renewCertificates() {
      if (shape === '') return;
      shape = 'none';
      schedule();
    },
    async [Symbol.asyncDispose]() {
      closed = true;
      timer?.cancel();
      await certificates[Symbol.asyncDispose]();
      await whenSettled(work);
    },
  };
}

/** The Secrets that an Ingress names, `namespace/name`. */
function secretsOf({ metadata, spec }: Ingress): string[] {
  return (spec.tls ?? []).flatMap(({ secretName }) => (secretName ? [`${metadata.namespace}/${secretName}`] : []));
}

/**
 * The distribution's package brings a user (and a group of the same name) for it: what the proxy parses comes from
 * strangers and needs no rights.
 */
function proxyUser(): { user?: string } {
  const has = (file: string): boolean =>
    (readIfExists(file) ?? '').split('\n').some((line) => line.startsWith('haproxy:'));
  return has('/etc/passwd') && has('/etc/group') ? { user: 'haproxy' } : {};
}

/** In words for the user: a port that another program has is the usual cause. */
export function startFailure(stderr: string): string {
  const taken = /cannot bind socket \(([^)]*)\) for \[([^\]]*)\]/.exec(stderr);
  return taken === null
    ? `The proxy did not start: ${stderr.trim().split('\n').at(-1) ?? ''}`
    : `The proxy cannot listen on ${taken[2]} (${taken[1]}): end what listens there, or give other ports (up --http-port, --https-port)`;
}

/** The pid of this node's HAProxy, when it runs. */
export async function runningHaproxy(runDir: string): Promise<number | undefined> {
  const pid = Number((await readFile(join(runDir, 'haproxy.pid'), 'utf8').catch(() => '')).trim().split('\n').at(-1));
  if (Number.isInteger(pid) && pid > 0 && (await readlink(`/proc/${pid}/exe`).catch(() => '')).includes('haproxy'))
    return pid;
  return findHaproxy(join(runDir, 'haproxy.cfg'));
}

/**
 * By its command line: the run directory, and the note of its pid with it, may have been removed under a proxy that
 * still listens.
 */
async function findHaproxy(config: string): Promise<number | undefined> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const words = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (words[0]?.endsWith('haproxy') === true && words.includes(config)) return Number(name);
  }
  return undefined;
}

function adminCommand(socketPath: string, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let answer = '';
    socket.on('error', reject);
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('utf8');
    });
    socket.on('close', () => resolve(answer.trim()));
    socket.write(`${command}\n`);
  });
}
