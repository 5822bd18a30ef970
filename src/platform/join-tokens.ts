/** Tokens by which other machines join: made, listed and deleted where the control plane runs. */
import { resolve } from 'node:path';
import type { Secret } from '#api/core.v1.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { joinHostPort } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { machineGroup, serverGroup } from '#base/node-identity.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { coverInput } from '#net/firewall.ts';
import { silentLogger } from '#observe/log.ts';
import { bootstrapTokenType, createTokenSecret, drawToken, tokenSecretName } from './bootstrap-token.ts';
import { administer, instanceHere } from './cluster-access.ts';
import { findEtcd } from './etcd/member.ts';
import { defaultAddress, hostName } from './host.ts';
import { nodePlan, saveInstance, type Instance } from './instance.ts';
import { authorityHashOf, formatJoinToken } from './join-token.ts';
import { partStatus, waitUntil } from './launch.ts';
import { serverRestartMsMax } from './limits.ts';
import { nodeServices } from './node-network.ts';
import { files, type Paths } from './paths.ts';
import { withLock } from './up.ts';

export interface TokenChoices {
  ttlMs: number;
  /** Where other machines reach this one; what was said before, or the default route's when absent. */
  address?: string;
  description?: string;
  /** For a further server. */
  isServer?: boolean;
  /** etcd's program on this machine, for then. */
  etcdBinary?: string;
}

export interface MadeToken {
  id: string;
  /** What to run on the other machine. */
  command: string;
  /** The API server listens on all addresses from now on. */
  isFirst: boolean;
}

export async function createJoinToken(paths: Paths, choices: TokenChoices): Promise<MadeToken> {
  await using stack = new AsyncDisposableStack();
  administer(paths, stack);
  if (choices.isServer === true) await prepareForServers(paths, choices.etcdBinary);
  const { instance, isFirst } = await openToMachines(paths, choices.address);
  const client = administer(paths, stack);
  const { id, secret } = drawToken(realRandom);
  await createTokenSecret(client, {
    id,
    secret,
    expiresAtMs: realClock.now() + choices.ttlMs,
    groups: [machineGroup, ...(choices.isServer === true ? [serverGroup] : [])],
    description: choices.description ?? 'tiphys token create',
  });
  const authorityHash = authorityHashOf(loadKubeconfig(files.adminConfig(paths)).ca ?? '');
  const server = `https://${joinHostPort(instance.address ?? '', instance.apiPort)}`;
  return {
    id,
    isFirst,
    command: `tiphys join ${choices.isServer === true ? '--server ' : ''}${server} ${formatJoinToken({ token: `${id}.${secret}`, authorityHash })}`,
  };
}

/** The state is to move to an etcd of the cluster's own, which this machine must have a program of. */
async function prepareForServers(paths: Paths, said: string | undefined): Promise<void> {
  const instance = instanceHere(paths);
  if (instance.etcd !== undefined) return;
  const etcdBinary = said === undefined ? instance.etcdBinary : resolve(said);
  findEtcd(etcdBinary);
  if (etcdBinary === undefined || etcdBinary === instance.etcdBinary) return;
  await withLock(paths, async () => saveInstance(paths, { ...instanceHere(paths), etcdBinary }));
}

/** Has the API server listen where other machines reach it, with a certificate that says so. */
async function openToMachines(
  paths: Paths,
  said: string | undefined,
): Promise<{ instance: Instance; isFirst: boolean }> {
  return withLock(paths, async () => {
    const instance = instanceHere(paths);
    const address = said ?? instance.address ?? (await defaultAddress('say where others reach it with --address'));
    if (address === instance.address) return { instance, isFirst: false };
    const opened = { ...instance, address };
    saveInstance(paths, opened);
    await restartServer(paths);
    const first = nodePlan(opened, 1, hostName());
    const host = { processes: linuxProcesses, instanceId: opened.id, log: silentLogger };
    await coverInput(host, nodeServices(opened, first));
    return { instance: opened, isFirst: instance.address === undefined };
  });
}

/** Its supervisor starts it again, with the instance of now. Containers and nodes go on. */
async function restartServer(paths: Paths): Promise<void> {
  const { pid } = partStatus(paths, 'server');
  if (pid !== undefined) linuxProcesses.kill(pid, 'SIGTERM');
  const isBack = (): boolean => {
    const now = partStatus(paths, 'server');
    return now.ready && now.pid !== pid;
  };
  if (!(await waitUntil(realClock, serverRestartMsMax, isBack, 20)))
    throw new ApiError('Timeout', `the server does not come back; the reason is in ${files.logs(paths)}/server.log`);
}

export interface ListedToken {
  id: string;
  /** RFC 3339. */
  expires: string;
  description: string;
  /** What a machine may join as. */
  role: 'worker' | 'server';
}

export async function listJoinTokens(paths: Paths): Promise<ListedToken[]> {
  await using stack = new AsyncDisposableStack();
  const { items } = await administer(paths, stack).list(kinds.Secret, {
    namespace: 'kube-system',
    fieldSelector: `type=${bootstrapTokenType}`,
  });
  return items
    .filter((secret) => textIn(secret, 'auth-extra-groups').split(',').includes(machineGroup))
    .map((secret) => ({
      id: textIn(secret, 'token-id'),
      expires: textIn(secret, 'expiration'),
      description: textIn(secret, 'description'),
      role: textIn(secret, 'auth-extra-groups').split(',').includes(serverGroup) ? 'server' : 'worker',
    }));
}

function textIn({ data }: Secret, key: string): string {
  return Buffer.from(data?.[key] ?? '', 'base64').toString('utf8');
}

/** `token` may be the whole token, or its id. */
export async function deleteJoinToken(paths: Paths, token: string): Promise<string> {
  const [id = ''] = token.split('.');
  await using stack = new AsyncDisposableStack();
  try {
    await administer(paths, stack).delete(kinds.Secret, tokenSecretName(id), 'kube-system');
  } catch (error) {
    if (isReason(error, 'NotFound'))
      throw new ApiError('NotFound', `there is no token ${id}; 'tiphys token list' shows those that hold`);
    throw error;
  }
  return id;
}
