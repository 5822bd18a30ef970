/**
 * Secrets of type `kubernetes.io/service-account-token`: each is filled with a token of the account that it names, the
 * cluster's CA and its namespace, and goes with the account. The token holds as long as the Secret is there. Nobody
 * gets one unless he asks for it by making such a Secret.
 * Spec: Kubernetes documentation, "Managing Service Accounts", "Manually create a long-lived API token".
 */
import type { TokenRequest } from '#api/authentication.v1.ts';
import type { Secret, ServiceAccount } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isEqual } from './equality.ts';
import { type Controller, type ControllerContext, createQueue, deleteIfPresent } from './runtime.ts';

const type = 'kubernetes.io/service-account-token';
const nameAnnotation = 'kubernetes.io/service-account.name';
const uidAnnotation = 'kubernetes.io/service-account.uid';
/** As long as a token may last; it ends with its Secret. */
const tokenSeconds = 2 ** 32;

export interface TokenSecretPlan {
  remove: boolean;
  needsToken: boolean;
  data: Record<string, string>;
  annotations: Record<string, string>;
}

/** What a Secret lacks; undefined where nothing is to be done. */
export function planTokenSecret(
  secret: Secret,
  account: ServiceAccount | undefined,
  certificate: string,
): TokenSecretPlan | undefined {
  if (secret.type !== type || secret.metadata.deletionTimestamp !== undefined) return undefined;
  const held = secret.metadata.annotations ?? {};
  const gone =
    account === undefined || (held[uidAnnotation] !== undefined && held[uidAnnotation] !== account.metadata.uid);
  if (gone) return { remove: true, needsToken: false, data: {}, annotations: {} };
  const text = (value: string): string => Buffer.from(value).toString('base64');
  const data: Record<string, string> = {
    namespace: text(secret.metadata.namespace),
    ...(certificate === '' ? {} : { 'ca.crt': text(certificate) }),
  };
  const annotations = { [nameAnnotation]: account.metadata.name, [uidAnnotation]: account.metadata.uid };
  const needsToken = !secret.data?.token;
  const isFilled =
    !needsToken &&
    Object.entries(data).every(([key, value]) => secret.data?.[key] === value) &&
    held[uidAnnotation] === account.metadata.uid;
  return isFilled ? undefined : { remove: false, needsToken, data, annotations };
}

export function startTokenSecrets(context: ControllerContext, certificate: string): Controller {
  const { client, informers } = context;
  const accounts = informers.informer(kinds.ServiceAccount);
  const accountOf = (secret: Secret): string =>
    `${secret.metadata.namespace}/${secret.metadata.annotations?.[nameAnnotation] ?? ''}`;
  const secrets = informers.informer(kinds.Secret, { fieldSelector: `type=${type}` }).addIndex('account', accountOf);
  const tokenFor = async (secret: Secret, account: ServiceAccount): Promise<string> => {
    const spec = {
      expirationSeconds: tokenSeconds,
      boundObjectRef: { apiVersion: 'v1', kind: 'Secret', name: secret.metadata.name, uid: secret.metadata.uid },
    };
    const answer = await client.raw<TokenRequest>(
      'POST',
      `/api/v1/namespaces/${account.metadata.namespace}/serviceaccounts/${account.metadata.name}/token`,
      { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', metadata: {}, spec },
    );
    return answer.status?.token ?? '';
  };
  const liveAccount = async (key: string): Promise<ServiceAccount | undefined> => {
    const [namespace, name] = key.split('/');
    try {
      return await client.get(kinds.ServiceAccount, name!, namespace);
    } catch (error) {
      if (isReason(error, 'NotFound')) return undefined;
      throw error;
    }
  };
  const queue = createQueue(context, 'token-secrets', async (key) => {
    const secret = secrets.get(key);
    if (secret === undefined) return;
    let account = accounts.get(accountOf(secret));
    // Before anything is removed, the account is looked for where it would be.
    if (planTokenSecret(secret, account, certificate)?.remove === true) account = await liveAccount(accountOf(secret));
    const plan = planTokenSecret(secret, account, certificate);
    if (plan === undefined) return;
    if (plan.remove) {
      await deleteIfPresent(context, kinds.Secret, secret);
      return;
    }
    const data = {
      ...secret.data,
      ...plan.data,
      ...(plan.needsToken ? { token: Buffer.from(await tokenFor(secret, account!)).toString('base64') } : {}),
    };
    const annotations = { ...secret.metadata.annotations, ...plan.annotations };
    if (!isEqual(secret.data, data) || !isEqual(secret.metadata.annotations, annotations))
      await client.update(kinds.Secret, { ...secret, metadata: { ...secret.metadata, annotations }, data });
  });
  const enqueue = (secret: Secret): void => queue.add(keyOf(secret));
  secrets.addHandler({ added: enqueue, updated: enqueue });
  const enqueueAccount = (account: ServiceAccount): void => {
    for (const secret of secrets.by('account', keyOf(account))) enqueue(secret);
  };
  accounts.addHandler({ added: enqueueAccount, deleted: enqueueAccount });
  return { name: 'token-secrets', queues: [queue] };
}
