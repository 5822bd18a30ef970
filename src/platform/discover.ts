/**
 * Learns whom a machine is about to join. The cluster's authority is read from `cluster-info` on a connection that
 * nothing is believed of, and checked by the hash that the token pins; then it is read again on a connection that this
 * authority vouches for. What is sent before that is a request that anybody may make.
 */
import { request } from 'node:https';
import { TLSSocket } from 'node:tls';
import { ApiError, isReason } from '#base/errors.ts';
import { clusterInfo } from '#base/node-identity.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';
import { parseYaml } from '#base/yaml.ts';
import { authorityHashOf } from './join-token.ts';
import { certificatesIn } from './managed-certificate.ts';
import { retryWhile } from './retry.ts';
import { realClock } from '#os/clock.real.ts';
import { clusterInfoBytesMax, discoveryMsMax, discoveryRetryMs } from './limits.ts';

export interface Discovery {
  /** PEM. */
  ca: string;
  /** Of the answer, in milliseconds since 1970; NaN where it was not said. */
  serverMs: number;
  /** Of this machine, on the way to the server. */
  localAddress: string;
}

const path = `/api/v1/namespaces/${clusterInfo.namespace}/configmaps/${clusterInfo.name}`;

/** `server` is `https://HOST:PORT`. Throws an ApiError that says what is wrong and what helps. */
export async function discoverCluster(server: string, authorityHash: string): Promise<Discovery> {
  // One whose servers choose a leader now answers a little later.
  const busy = { isPassing: (error: unknown) => isReason(error, 'Timeout'), stepMs: discoveryRetryMs };
  const patience = { ...busy, untilMs: realClock.monotonic() + discoveryMsMax };
  const first = await retryWhile(patience, () => ask(server, undefined));
  // While one authority takes another's place there are two, and the token may be of before.
  const pinned = certificatesIn(first.ca).find((each) => authorityHashOf(each) === authorityHash);
  if (pinned === undefined)
    throw new ApiError(
      'Unauthorized',
      `${server} is not the cluster that the token was made for: its authority has the hash ${authorityHashOf(first.ca)}, the token says ${authorityHash}. Nothing was sent to it. If the cluster was made anew, take a token of it ('tiphys token create' there); if not, somebody may stand between`,
    );
  return ask(server, pinned);
}

/** Without an authority anybody's certificate will do. */
function ask(server: string, ca: string | undefined): Promise<Discovery> {
  const { promise, resolve, reject } = Promise.withResolvers<Discovery>();
  const fail = (error: unknown): void => reject(problemOf(server, error));
  const call = request(
    new URL(path, server),
    {
      ...(ca === undefined ? { rejectUnauthorized: false } : { ca }),
      headers: { accept: 'application/json' },
      agent: false,
      signal: AbortSignal.timeout(discoveryMsMax),
    },
    (response) => {
      const { socket } = response;
      const localAddress = (socket instanceof TLSSocket ? socket.localAddress : undefined) ?? '';
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('error', fail);
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > clusterInfoBytesMax) call.destroy(new Error('the answer is too long'));
        parts.push(part);
      });
      response.on('end', () => {
        try {
          const found = authorityIn(server, response.statusCode ?? 0, Buffer.concat(parts).toString('utf8'));
          resolve({ ca: found, serverMs: Date.parse(response.headers.date ?? ''), localAddress });
        } catch (error) {
          fail(error);
        }
      });
    },
  );
  call.on('error', fail);
  call.end();
  return promise;
}

function authorityIn(server: string, status: number, text: string): string {
  if ([429, 503, 504].includes(status))
    throw new ApiError(
      'Timeout',
      `${server} answers, but cannot serve now (status ${status}): 'tiphys status' there says why, then try again`,
    );
  if (status !== 200)
    throw new ApiError(
      'NotFound',
      `${server} answers, but tells strangers of no cluster (status ${status}): run 'tiphys token create' there, and use the address and port that it prints`,
    );
  const info = textOf(fieldOf(JSON.parse(text), 'data'), 'kubeconfig');
  const [entry] = itemsOf(fieldOf(parseYaml(info ?? ''), 'clusters'));
  const data = textOf(fieldOf(entry, 'cluster'), 'certificate-authority-data');
  if (data === undefined) throw new Error('its cluster-info has no authority');
  return Buffer.from(data, 'base64').toString('utf8');
}

/** What went wrong on the way, and what helps. */
function problemOf(server: string, error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const { hostname, port } = new URL(server);
  const code = codeOf(error) ?? '';
  const words = ((): string => {
    if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
      return `there is no host ${hostname} (${code}): use the address that 'tiphys token create' printed`;
    if (code === 'ECONNREFUSED')
      return `nothing listens on ${hostname}, port ${port}: is Tiphys up there (tiphys status), and was 'tiphys token create' run, which opens the port?`;
    if (isTimeout(error, code))
      return `${hostname} does not answer on port ${port}: the machine is down, or a firewall drops what comes to TCP port ${port}; let it through from this machine (docs/cluster.md lists the ports)`;
    if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
      return `the server's certificate does not name ${hostname}: on the server, 'tiphys token create --address ${hostname}' puts it in`;
    if (code === 'CERT_NOT_YET_VALID' || code === 'CERT_HAS_EXPIRED')
      return `the server's certificate does not hold now (${code}): compare the clocks of both machines (date -u), and set the one that is wrong (timedatectl set-ntp true)`;
    return `${server} could not be asked: ${messageOf(error)}`;
  })();
  const made = new ApiError('ServiceUnavailable', words);
  made.cause = error;
  return made;
}

function isTimeout(error: unknown, code: string): boolean {
  const isAborted = error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError');
  return isAborted || ['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'].includes(code);
}
