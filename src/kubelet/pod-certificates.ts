/**
 * Certificates of Pods: the node makes a key, asks for a certificate of it by a PodCertificateRequest, and asks again,
 * with a new key, when the signer says it is time (Kubernetes documentation, "Projected Volumes", "podCertificate").
 *
 * What is held and what is asked for lie in a file beside the volume, on the same tmpfs, so that a kubelet that is
 * started again goes on where the last one stood:
 *
 *     nothing → asked → held → held and asked again → held …
 *                    ↘ refused: as long as the Pod lives
 */
import type { PodCertificateRequest } from '#api/certificates.v1.ts';
import type { Pod, PodCertificateProjection } from '#api/core.v1.ts';
import { pemBlocks, pemText } from '#base/certificates.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { createStubRequest } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import type { Clock, Random } from '#os/clock.ts';
import { generateKey } from '#os/keys.ts';
import { certificateAnswerMsMax, certificateAskedMsMax, certificateJitterMsMax } from './limits.ts';
import { readNote, writeNote } from './note-file.ts';

export interface CredentialBundle {
  keyPem: string;
  chainPem: string;
}

/** What the file holds; times in milliseconds since 1970. */
interface CertificateNote {
  held?: CredentialBundle & { refreshAtMs: number };
  asked?: { name: string; keyPem: string; atMs: number };
  refused?: string;
}

export interface PodCertificateOptions {
  client: Client;
  clock: Clock;
  random: Random;
  nodeName: string;
}

export interface CertificatePlace {
  pod: Pod;
  source: PodCertificateProjection;
  /** Where the note lies. */
  file: string;
}

/** The key and certificate of now. Throws while there is none, and for good where the signer refused. */
export async function podCertificate(
  options: PodCertificateOptions,
  place: CertificatePlace,
): Promise<CredentialBundle> {
  const { clock } = options;
  let note = (await readNote<CertificateNote>(place.file)) ?? {};
  if (note.refused !== undefined) throw new ApiError('Forbidden', note.refused);
  const isDue = note.held === undefined || clock.now() >= note.held.refreshAtMs;
  if (isDue) {
    if (note.asked === undefined) note = await ask(options, place, note);
    note = await take(options, place, note);
  }
  if (note.held !== undefined) return note.held;
  throw new ApiError('ServiceUnavailable', note.refused ?? 'credential bundle is not issued yet');
}

async function ask(
  { client, clock, nodeName }: PodCertificateOptions,
  { pod, source, file }: CertificatePlace,
  note: CertificateNote,
): Promise<CertificateNote> {
  const { name, namespace, uid } = pod.metadata;
  const serviceAccountName = pod.spec.serviceAccountName ?? 'default';
  const account = await client.get(kinds.ServiceAccount, serviceAccountName, namespace);
  const node = await client.get(kinds.Node, nodeName);
  const key = await generateKey(source.keyType);
  const request = await client.create(kinds.PodCertificateRequest, {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'PodCertificateRequest',
    metadata: {
      namespace,
      generateName: 'req-',
      ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name, uid }],
    },
    spec: {
      signerName: source.signerName,
      podName: name,
      podUID: uid,
      serviceAccountName,
      serviceAccountUID: account.metadata.uid,
      nodeName,
      nodeUID: node.metadata.uid,
      stubPKCS10Request: Buffer.from(createStubRequest(key)).toString('base64'),
      ...(source.maxExpirationSeconds === undefined ? {} : { maxExpirationSeconds: source.maxExpirationSeconds }),
      ...(source.userAnnotations === undefined ? {} : { unverifiedUserAnnotations: source.userAnnotations }),
    },
  });
  const keyPem = key.export({ type: 'pkcs8', format: 'pem' }).toString();
  return writeNote<CertificateNote>(file, {
    ...note,
    asked: { name: request.metadata.name, keyPem, atMs: clock.now() },
  });
}

/** Looks at what was asked for; where nothing is held yet, it waits for the answer for a while. */
async function take(
  options: PodCertificateOptions,
  { pod, file }: CertificatePlace,
  note: CertificateNote,
): Promise<CertificateNote> {
  const { asked, held } = note;
  if (asked === undefined) return note;
  const { clock, random } = options;
  const request = await answerTo(options, {
    namespace: pod.metadata.namespace,
    name: asked.name,
    waits: held === undefined,
  });
  if (request === undefined) {
    // It is gone, or not to be seen yet.
    if (clock.now() < asked.atMs + certificateAskedMsMax) return note;
    const { asked: _, ...others } = note;
    return writeNote<CertificateNote>(file, others);
  }
  const { status } = request;
  const answer = status?.conditions?.find(({ type }) => ['Issued', 'Denied', 'Failed'].includes(type));
  if (answer === undefined) return note;
  if (answer.type === 'Issued') {
    const jitterMs = Math.floor(random.float() * certificateJitterMsMax);
    const chainPem = [...pemBlocks(status?.certificateChain ?? '')]
      .map(({ bytes }) => pemText('CERTIFICATE', bytes))
      .join('');
    const refreshAtMs = Date.parse(status?.beginRefreshAt ?? '') + jitterMs;
    return writeNote<CertificateNote>(file, { held: { keyPem: asked.keyPem, chainPem, refreshAtMs } });
  }
  const verb = answer.type === 'Denied' ? 'denied' : 'failed';
  const refused = `PodCertificateRequest was permanently ${verb}: reason=${JSON.stringify(answer.reason)} message=${JSON.stringify(answer.message)}`;
  await writeNote(file, { refused });
  throw new ApiError('Forbidden', refused);
}

interface Asked {
  namespace: string;
  name: string;
  waits: boolean;
}

/** The request as it is, or when it was answered; undefined where there is none. */
async function answerTo(
  { client, clock, nodeName }: PodCertificateOptions,
  { namespace, name, waits }: Asked,
): Promise<PodCertificateRequest | undefined> {
  const isAnswered = (request: PodCertificateRequest): boolean => (request.status?.conditions ?? []).length > 0;
  let found: PodCertificateRequest;
  try {
    found = await client.get(kinds.PodCertificateRequest, name, namespace);
  } catch (error) {
    if (isReason(error, 'NotFound')) return undefined;
    throw error;
  }
  if (isAnswered(found) || !waits) return found;
  const late = new AbortController();
  const timer = clock.setTimer(certificateAnswerMsMax, () => late.abort(), { background: true });
  try {
    const events = client.watch(kinds.PodCertificateRequest, {
      namespace,
      fieldSelector: `metadata.name=${name},spec.nodeName=${nodeName}`,
      resourceVersion: found.metadata.resourceVersion,
      signal: late.signal,
    });
    for await (const event of events) {
      if (event.type === 'DELETED') return undefined;
      if (event.type === 'MODIFIED' && isAnswered(event.object)) return event.object;
    }
  } catch (error) {
    if (!late.signal.aborted) throw error;
  } finally {
    timer.cancel();
  }
  return found;
}
