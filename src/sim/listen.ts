/**
 * Real HTTPS for a simulated cluster: kubectl and operators work against it. Time follows the wall (or a multiple of
 * it), or stands still but for `advance`. Each node's kubelet answers too (`kubelet-servers.ts`): logs, exec, attach,
 * port-forward.
 */
import { HeldPort } from '#apiserver/held-port.ts';
import { serveHttp } from '#apiserver/http.ts';
import type { KeyRing } from '#apiserver/keys.ts';
import type { ApiServer } from '#apiserver/server.ts';
import { issueCertificate } from '#base/x509.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { Timer } from '#os/clock.ts';
import { kubeletClientName, KubeletServers, type ServedCluster } from './kubelet-servers.ts';

/** A cluster that real clients reach, and whose time can be moved. */
export interface ReachedCluster extends ServedCluster {
  readonly keys: KeyRing;
  readonly api: ApiServer;
  ready(): Promise<void>;
  advance(ms: number): Promise<void>;
}

export interface ListenOptions {
  port?: number;
  /**
   * `still` (the default): only `advance` moves time. `wall`: time follows the wall. A number: that many times as fast.
   */
  time?: 'still' | 'wall' | number;
}

export interface Listening extends AsyncDisposable {
  /** `https://127.0.0.1:port`. */ url: string;
  /** For a file that KUBECONFIG names. */ kubeconfig: string;
}

const stepMs = 20;

function kubeconfigText(url: string, ca: string, certificate: string, key: string): string {
  const data = (text: string): string => Buffer.from(text).toString('base64');
  return [
    'apiVersion: v1',
    'kind: Config',
    'current-context: sim',
    'clusters:',
    '- name: sim',
    '  cluster:',
    `    server: ${url}`,
    `    certificate-authority-data: ${data(ca)}`,
    'users:',
    '- name: sim',
    '  user:',
    `    client-certificate-data: ${data(certificate)}`,
    `    client-key-data: ${data(key)}`,
    'contexts:',
    '- name: sim',
    '  context: {cluster: sim, user: sim}',
    '',
  ].join('\n');
}

/** Makes virtual time follow real time. */
function followWall(cluster: ReachedCluster, speed: number): { stop(): Promise<void> } {
  let timer: Timer | undefined;
  let stopped = false;
  let running: Promise<void> = Promise.resolve();
  let last = realClock.monotonic();
  const arm = (): void => {
    if (stopped) return;
    timer = realClock.setTimer(
      stepMs,
      () => {
        const now = realClock.monotonic();
        const passedMs = (now - last) * speed;
        last = now;
        running = cluster.advance(passedMs).finally(arm);
      },
      { background: true },
    );
  };
  arm();
  return {
    stop: async () => {
      stopped = true;
      timer?.cancel();
      await running;
    },
  };
}

export async function listenCluster(
  cluster: ReachedCluster,
  { port = 0, time = 'still' }: ListenOptions = {},
): Promise<Listening> {
  await cluster.ready();
  await using stack = new AsyncDisposableStack();
  const { ca } = cluster.keys;
  const addresses = { dnsNames: ['localhost', 'kubernetes.default.svc'], ipAddresses: ['127.0.0.1'] };
  const serving = issueCertificate(
    { commonName: 'kube-apiserver', server: true, ...addresses },
    ca,
    realRandom,
    realClock,
  );
  const kubeletClient = issueCertificate({ commonName: kubeletClientName, client: true }, ca, realRandom, realClock);
  const admin = issueCertificate(
    { commonName: 'admin', organizations: ['system:masters'], client: true },
    ca,
    realRandom,
    realClock,
  );
  await stack.use(new KubeletServers(cluster, ca)).start();
  const server = stack.use(
    await serveHttp({
      api: cluster.api,
      serving,
      clientCa: ca.certificatePem,
      kubeletClient,
      ports: [await HeldPort.open({ host: '127.0.0.1', port })],
    }),
  );
  if (time !== 'still') {
    const follower = followWall(cluster, time === 'wall' ? 1 : time);
    stack.defer(() => follower.stop());
  }
  const url = `https://127.0.0.1:${server.port}`;
  const owned = stack.move();
  return {
    url,
    kubeconfig: kubeconfigText(url, ca.certificatePem, admin.certificatePem, admin.keyPem),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
