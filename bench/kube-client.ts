/**
 * A small client for both sides: JSON over HTTPS, keep-alive, and a watch. For low rates; where rates matter h2load
 * asks.
 */
import { Agent, request } from 'node:https';
import { command } from './harness.ts';

export interface Target {
  name: string;
  server: string;
  headers: Record<string, string>;
  certificate?: string;
  key?: string;
}

// oxlint-disable-next-line typescript/no-explicit-any -- what any server answers
export type Body = Record<string, any>;

export class KubeClient {
  readonly target: Target;
  readonly #agent: Agent;

  constructor(target: Target) {
    this.target = target;
    this.#agent = new Agent({
      keepAlive: true,
      maxSockets: 16,
      rejectUnauthorized: false,
      ...(target.certificate === undefined ? {} : { cert: target.certificate, key: target.key }),
    });
  }

  async ask(method: string, path: string, body?: unknown, allow: number[] = []): Promise<Body> {
    const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const out = request(
        `${this.target.server}${path}`,
        {
          method,
          agent: this.#agent,
          headers: {
            ...this.target.headers,
            accept: 'application/json',
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
        },
        (answer) => {
          let text = '';
          answer
            .setEncoding('utf8')
            .on('data', (part: string) => {
              text += part;
            })
            .on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
            .on('error', reject);
        },
      );
      out.on('error', reject);
      out.end(body === undefined ? undefined : JSON.stringify(body));
    });
    if (status >= 400 && !allow.includes(status))
      throw new Error(`${this.target.name}: ${method} ${path}: ${status} ${text.slice(0, 400)}`);
    return text.startsWith('{') ? (JSON.parse(text) as Body) : { text };
  }

  /** Calls for every event until closed. Resolves when the server has taken the request. */
  async watch(path: string, onEvent: (event: { type: string; object: Body }) => void): Promise<() => void> {
    return new Promise((resolve, reject) => {
      const out = request(
        `${this.target.server}${path}`,
        { agent: this.#agent, headers: { ...this.target.headers, accept: 'application/json' } },
        (answer) => {
          let rest = '';
          answer
            .setEncoding('utf8')
            .on('data', (part: string) => {
              const lines = (rest + part).split('\n');
              rest = lines.pop()!;
              for (const line of lines) if (line !== '') onEvent(JSON.parse(line) as { type: string; object: Body });
            })
            .on('error', () => undefined);
          resolve(() => out.destroy());
        },
      );
      out.on('error', reject);
      out.end();
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

export async function targetOf(name: string, kubeconfig: string): Promise<Target> {
  const view = JSON.parse(
    (await command(['kubectl', '--kubeconfig', kubeconfig, 'config', 'view', '--raw', '-o', 'json'])).stdout,
  ) as { clusters: { cluster: { server: string } }[]; users: { user: Record<string, string> }[] };
  const user = view.users[0]!.user;
  const text = (key: string): string => Buffer.from(user[key] ?? '', 'base64').toString();
  return {
    name,
    server: view.clusters[0]!.cluster.server,
    headers: user['token'] === undefined ? {} : { authorization: `Bearer ${user['token']}` },
    ...(user['client-certificate-data'] === undefined
      ? {}
      : { certificate: text('client-certificate-data'), key: text('client-key-data') }),
  };
}

/**
 * A ServiceAccount that may do everything: h2load shows no certificates, and both sides then check the same kind of
 * token.
 */
export async function loadToken(client: KubeClient, name = 'bench'): Promise<string> {
  await client.ask(
    'POST',
    '/api/v1/namespaces/default/serviceaccounts',
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } },
    [409],
  );
  await client.ask(
    'POST',
    '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
      subjects: [{ kind: 'ServiceAccount', name, namespace: 'default' }],
    },
    [409],
  );
  const answer = await client.ask('POST', `/api/v1/namespaces/default/serviceaccounts/${name}/token`, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: { expirationSeconds: 7200 },
  });
  return answer['status'].token as string;
}
