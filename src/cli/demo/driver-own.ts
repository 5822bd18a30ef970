/**
 * The demo's drivers on Tiphys' own client, for machines without docker and kubectl: the Docker API over its socket,
 * and the typed Kubernetes client.
 */
import { request, type IncomingMessage } from 'node:http';
import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';
import type { Deployment, StatefulSet } from '#api/apps.v1.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { parseYamlDocuments } from '#base/yaml.ts';
import type { Client } from '#client/client.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { kinds } from '#base/kinds.ts';
import { packTar } from '#content/pack.ts';
import type { Clock } from '#os/clock.ts';
import { isNamed } from '#sim/manifests.ts';
import type { DockerDriver, KubeDriver } from './driver.ts';

async function collect(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

interface Call {
  method: string;
  /** Below the version. */
  path: string;
  body?: Buffer | string;
  headers?: Record<string, string>;
}

function call(socket: string, { method, path, body, headers = {} }: Call): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath: socket,
        method,
        path: `/v1.47${path}`,
        headers: { ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }), ...headers },
      },
      (response) => {
        collect(response).then((bytes) => resolve({ status: response.statusCode ?? 0, body: bytes }), reject);
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

/** What docker says went wrong. */
function messageIn(text: string): string {
  return textOf(JSON.parse(text), 'message') ?? text;
}

/** The answer as JSON; docker's own message when it refuses. */
async function ask<T = unknown>(socket: string, method: string, path: string, body?: unknown): Promise<T> {
  const sent =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  const answer = await call(socket, { method, path, ...sent });
  const text = answer.body.toString('utf8');
  if (answer.status >= 400) throw new Error(messageIn(text));
  return JSON.parse(text === '' ? 'null' : text);
}

/** Progress streams report failure in a line, with status 200. */
function checkProgress(text: string): void {
  for (const line of text.split('\n').filter((entry) => entry.trim() !== '')) {
    const error = textOf(JSON.parse(line), 'error');
    if (error !== undefined) throw new Error(error);
  }
}

/** The payload of docker's multiplexed streams: frames of 8 bytes of header and data. */
function demultiplex(bytes: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at + 8 <= bytes.length;) {
    const length = bytes.readUInt32BE(at + 4);
    parts.push(bytes.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return Buffer.concat(parts).toString('utf8');
}

export function ownDocker(socket: string, _clock: Clock): DockerDriver {
  const query = (values: Record<string, string>): string => new URLSearchParams(values).toString();
  const headers = { 'x-registry-auth': Buffer.from('{}').toString('base64url') };
  /** Something that a registry has a part in; throws what the progress says went wrong. */
  const transfer = async (path: string): Promise<void> => {
    const answer = await call(socket, { method: 'POST', path, body: '', headers });
    checkProgress(answer.body.toString('utf8'));
  };
  return {
    name: "Tiphys' own docker client",
    async build(directory, tags, buildArguments) {
      const context = Buffer.concat([...packTar(directory, { layer: false })]);
      const words = [
        ...tags.map((tag) => `t=${encodeURIComponent(tag)}`),
        `buildargs=${encodeURIComponent(JSON.stringify(buildArguments))}`,
        'q=1',
      ].join('&');
      const answer = await call(socket, {
        method: 'POST',
        path: `/build?${words}`,
        body: context,
        headers: { 'content-type': 'application/x-tar' },
      });
      if (answer.status >= 400) throw new Error(messageIn(answer.body.toString('utf8')));
      checkProgress(answer.body.toString('utf8'));
    },
    async push(tag) {
      const at = tag.lastIndexOf(':');
      await transfer(`/images/${tag.slice(0, at)}/push?${query({ tag: tag.slice(at + 1) })}`);
    },
    async pullAgain(tag) {
      await ask(socket, 'DELETE', `/images/${tag}`);
      const at = tag.lastIndexOf(':');
      await transfer(`/images/create?${query({ fromImage: tag.slice(0, at), tag: tag.slice(at + 1) })}`);
    },
    async run(name, image, command, options) {
      const create = (): Promise<unknown> =>
        ask(socket, 'POST', `/containers/create?${query({ name })}`, {
          Image: image,
          Cmd: command,
          ExposedPorts: options.publish === undefined ? {} : { '8080/tcp': {} },
          HostConfig: {
            PortBindings: options.publish === undefined ? {} : { '8080/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] },
            RestartPolicy: { Name: options.restart ?? 'no' },
          },
        });
      const made = await create().catch(async (error: unknown) => {
        if (!messageOf(error).includes('No such image')) throw error;
        await transfer(`/images/create?${query({ fromImage: image, tag: 'latest' })}`);
        return create();
      });
      const id = textOf(made, 'Id') ?? '';
      await ask(socket, 'POST', `/containers/${id}/start`);
      return id;
    },
    async logs(name) {
      const path = `/containers/${name}/logs?stdout=1&stderr=1`;
      return demultiplex((await call(socket, { method: 'GET', path })).body);
    },
    inspect: (name) => ask(socket, 'GET', `/containers/${name}/json`),
    async removeForce(names) {
      for (const name of names)
        await ask(socket, 'DELETE', `/containers/${name}?force=1`).catch((error: unknown) => {
          if (!messageOf(error).includes('No such container')) throw error;
        });
    },
  };
}

const byKind = new Map<string, KindRef>(
  Object.values(kinds).map((kind) => [
    `${kind.group === '' ? '' : `${kind.group}/`}${kind.version}/${kind.kind}`,
    kind,
  ]),
);

export function ownKube(client: Client, kubeconfig: string, clock: Clock): KubeDriver {
  const until = async (what: string, timeoutSeconds: number, look: () => Promise<boolean>): Promise<void> => {
    const deadline = clock.monotonic() + timeoutSeconds * 1000;
    while (!(await look())) {
      if (clock.monotonic() > deadline) throw new Error(`timed out waiting for ${what}`);
      await clock.sleep(50);
    }
  };
  return {
    name: "Tiphys' own kubernetes client",
    async apply(paths) {
      for (const path of paths)
        for (const object of parseYamlDocuments(readFileSync(path, 'utf8'))) {
          if (!isNamed(object)) throw new Error(`${path}: apiVersion, kind or metadata.name is missing`);
          const kind = byKind.get(`${object.apiVersion}/${object.kind}`);
          if (kind === undefined) throw new Error(`no kind ${object.kind} in ${object.apiVersion}`);
          await client.patch(kind, object.metadata, { apply: object }, { fieldManager: 'tiphys-demo', force: true });
        }
    },
    async setImage(namespace, deployment, container, image) {
      await client.patch(
        kinds.Deployment,
        { name: deployment, namespace },
        { strategic: { spec: { template: { spec: { containers: [{ name: container, image }] } } } } },
      );
    },
    async rolloutStatus(namespace, kindAndName, timeoutSeconds) {
      const [kindName, name = ''] = kindAndName.split('/');
      const kind: KindRef<StatefulSet | Deployment> = kindName === 'statefulset' ? kinds.StatefulSet : kinds.Deployment;
      await until(`${kindAndName} to be rolled out`, timeoutSeconds, async () => {
        const { metadata, spec, status } = await client.get(kind, name, namespace);
        const replicas = spec.replicas ?? 1;
        if ((status?.observedGeneration ?? 0) < (metadata.generation ?? 0) || (status?.updatedReplicas ?? 0) < replicas)
          return false;
        return kindName === 'statefulset'
          ? (status?.readyReplicas ?? 0) >= replicas
          : (status?.replicas ?? 0) === status?.updatedReplicas && (status?.availableReplicas ?? 0) >= replicas;
      });
    },
    async rolloutUndo(namespace, deployment) {
      const sets = (await client.list(kinds.ReplicaSet, { namespace })).items.filter(
        (set) => set.metadata.ownerReferences?.[0]?.name === deployment,
      );
      const revision = (set: KubeObject): number =>
        Number(set.metadata.annotations?.['deployment.kubernetes.io/revision'] ?? 0);
      const previous = sets.sort((a, b) => revision(b) - revision(a))[1];
      if (previous === undefined) throw new Error(`no rollout history found for deployment "${deployment}"`);
      const template = structuredClone(previous.spec.template);
      delete template?.metadata?.labels?.['pod-template-hash'];
      await client.patch(
        kinds.Deployment,
        { name: deployment, namespace },
        { json: [{ op: 'replace', path: '/spec/template', value: template }] },
      );
    },
    async scale(namespace, deployment, replicas) {
      await client.patch(
        kinds.Deployment,
        { name: deployment, namespace },
        { merge: { spec: { replicas } } },
        { subresource: 'scale' },
      );
    },
    async deletePod(namespace, name) {
      await client.delete(kinds.Pod, name, namespace);
    },
    exec: (namespace, pod, command) => execOverWebSocket(kubeconfig, namespace, pod, command),
  };
}

/** `kubectl exec` without a terminal: standard output, or an error with the command's exit code. */
function execOverWebSocket(kubeconfig: string, namespace: string, pod: string, command: string[]): Promise<string> {
  const config = loadKubeconfig(kubeconfig);
  const query = new URLSearchParams([
    ...command.map((word) => ['command', word]),
    ['stdout', 'true'],
    ['stderr', 'true'],
  ]);
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(
      `${config.server.replace(/^http/, 'ws')}/api/v1/namespaces/${namespace}/pods/${pod}/exec?${query.toString()}`,
      'v5.channel.k8s.io',
      { ca: config.ca, cert: config.certificate, key: config.key },
    );
    const output: Buffer[] = [];
    let problems = '';
    let status: unknown;
    ws.on('message', (message: Buffer) => {
      if (message[0] === 1) output.push(message.subarray(1));
      else if (message[0] === 2) problems += message.subarray(1).toString('utf8');
      else if (message[0] === 3) status = JSON.parse(message.subarray(1).toString('utf8'));
    });
    ws.on('error', reject);
    ws.on('close', () => {
      if (fieldOf(status, 'status') === 'Success') resolve(Buffer.concat(output).toString('utf8'));
      else
        reject(
          new Error(
            `${command.join(' ')}: ${textOf(status, 'message') ?? 'the connection was lost'}${problems === '' ? '' : `: ${problems.trim()}`}`,
          ),
        );
    });
  });
}
