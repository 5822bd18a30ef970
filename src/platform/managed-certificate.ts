/**
 * A certificate that this process obtains, keeps in a file with its key where that is wanted, and renews before it ends
 * (Kubernetes documentation, "TLS bootstrapping", "Certificate rotation"). A node asks for it by a
 * CertificateSigningRequest, which controllers approve and sign (`requestCertificate`); the server process has the
 * authority's key, and signs its own (`identity.ts`). The key is made here and never leaves the machine.
 *
 * States: none → asked for → held → asked for again when seven to nine tenths of its time have passed, or when
 * another authority signs. While asking fails, what is held goes on being used, and it is asked for again after a time
 * that doubles.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { CertificateSigningRequest } from '#api/certificates.v1.ts';
import { createCertificationRequest, type KeyPair } from '#base/x509.ts';
import { whenSettled } from '#base/promises.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { certificateRetryMs, certificateRetryMsMax, certificateWaitMsMax } from './limits.ts';

export interface CertificateNames {
  commonName: string;
  organizations?: string[];
  dnsNames?: string[];
  ipAddresses?: string[];
}

export interface ManagedCertificateOptions {
  /** Certificate and key in PEM; mode 0600. Absent: each process has its own. */
  file?: string;
  names: CertificateNames;
  /**
   * The authorities whose certificates hold, in PEM, that which signs now first: what no authority of these has signed
   * is not held, what another than the first one has signed is asked for anew. Undefined while they are not known.
   */
  ca(): string | undefined;
  /** A new pair for the names. Throws where there is none now. */
  obtain(signal: AbortSignal): Promise<KeyPair>;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** One, and what vouches for who has signed it. */
const certificatePattern = /(?:-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?)+/;
const keyPattern = /-----BEGIN (?:EC )?PRIVATE KEY-----[^-]+-----END (?:EC )?PRIVATE KEY-----\n?/;

export class ManagedCertificate {
  readonly #options: ManagedCertificateOptions;
  readonly #listeners: ((pair: KeyPair) => void)[] = [];
  readonly #first = Promise.withResolvers<KeyPair>();
  readonly #end = new AbortController();
  /** Ends the wait for the time of the next renewal. */
  #wake = new AbortController();
  #pair: KeyPair | undefined;
  #renewalErrors = 0;

  /** What is in the file is held at once, if it still holds. */
  constructor(options: ManagedCertificateOptions) {
    this.#options = options;
    const text = (options.file === undefined ? undefined : readIfExists(options.file)) ?? '';
    const [certificatePem, keyPem] = [certificatePattern.exec(text)?.[0], keyPattern.exec(text)?.[0]];
    if (certificatePem !== undefined && keyPem !== undefined && this.#holds({ certificatePem, keyPem }))
      this.#take({ certificatePem, keyPem });
  }

  /** The pair of now. Throws while there is none. */
  get pair(): KeyPair {
    if (this.#pair === undefined) throw new Error(`no certificate for ${this.#options.names.commonName} yet`);
    return this.#pair;
  }

  get isHeld(): boolean {
    return this.#pair !== undefined;
  }

  /** In milliseconds since 1970; undefined while there is none. */
  get endsAtMs(): number | undefined {
    return this.#pair === undefined ? undefined : timeOf(this.#pair, 1);
  }

  /** Whether the authority that signs now has signed what is held. */
  get isCurrent(): boolean {
    const [first] = certificatesIn(this.#options.ca() ?? '');
    return this.#pair !== undefined && first !== undefined && isSignedBy(this.#pair, first);
  }

  /** How often one that is held could not be renewed. */
  get renewalErrors(): number {
    return this.#renewalErrors;
  }

  /** Resolves when there is one. */
  get ready(): Promise<KeyPair> {
    return this.#first.promise;
  }

  /** Called with the present pair, if there is one, and with each later one. */
  subscribe(changed: (pair: KeyPair) => void): void {
    this.#listeners.push(changed);
    if (this.#pair !== undefined) changed(this.#pair);
  }

  /** To be called when other authorities hold: followers look again, and what is not current is asked for anew. */
  authorityChanged(): void {
    if (this.#pair === undefined) return;
    for (const changed of this.#listeners) changed(this.#pair);
    if (!this.isCurrent) this.#wake.abort();
  }

  /** Asks and renews until `close`. */
  async run(): Promise<void> {
    const { clock, file, log, names } = this.#options;
    const { signal } = this.#end;
    let retryMs = certificateRetryMs;
    while (!signal.aborted) {
      try {
        if (this.#pair !== undefined) await this.#awaitRenewal(this.#pair);
        if (isAborted(signal)) return;
        const pair = await this.#options.obtain(signal);
        if (file !== undefined)
          writeFileAtomic(file, `${pair.certificatePem}${pair.keyPem}`, { mode: 0o600, sync: true });
        this.#take(pair);
        // Servers take up another authority one after the other: the next one asked may have it.
        if (!this.isCurrent) throw new Error('signed by an authority of before');
        retryMs = certificateRetryMs;
      } catch (error) {
        if (isAborted(signal)) return;
        if (this.#pair !== undefined) this.#renewalErrors++;
        // Until the API server is there, nothing is wrong.
        const level = retryMs < certificateRetryMsMax ? 'debug' : 'warn';
        log[level]('no certificate', { for: names.commonName, error: messageOf(error) });
        await whenSettled(clock.sleep(retryMs, signal));
        retryMs = Math.min(certificateRetryMsMax, retryMs * 2);
      }
    }
  }

  close(): void {
    this.#end.abort();
  }

  #take(pair: KeyPair): void {
    this.#pair = pair;
    this.#first.resolve(pair);
    for (const changed of this.#listeners) changed(pair);
  }

  async #awaitRenewal(pair: KeyPair): Promise<void> {
    const { clock, random } = this.#options;
    if (!this.isCurrent) return;
    this.#wake = new AbortController();
    const atMs = timeOf(pair, 0.7 + 0.2 * random.float());
    await whenSettled(clock.sleep(atMs - clock.now(), AbortSignal.any([this.#end.signal, this.#wake.signal])));
  }

  /** Whether a pair is what is wanted, from an authority that holds, and not over. */
  #holds({ certificatePem, keyPem }: KeyPair): boolean {
    const { names, clock } = this.#options;
    const authorities = certificatesIn(this.#options.ca() ?? '');
    const certificate = new X509Certificate(certificatePem);
    const held = new Set((certificate.subjectAltName ?? '').split(', ').filter((name) => name !== ''));
    const wanted = [
      ...(names.dnsNames ?? []).map((name) => `DNS:${name}`),
      ...(names.ipAddresses ?? []).map((address) => `IP Address:${address}`),
    ];
    return (
      certificate.checkPrivateKey(createPrivateKey(keyPem)) &&
      authorities.some((authority) => isSignedBy({ certificatePem }, authority)) &&
      certificate.validToDate.getTime() > clock.now() &&
      certificate.subject.split('\n').includes(`CN=${names.commonName}`) &&
      wanted.length === held.size &&
      wanted.every((name) => held.has(name))
    );
  }
}

export interface CertificateAsk {
  names: CertificateNames;
  signer: string;
  use: 'client auth' | 'server auth';
  /** By whom to ask; may throw while there is nobody. */
  client(): Client;
  /** Wanted validity; the signer's own when absent. */
  seconds?: number;
  clock: Clock;
  random: Random;
}

/** Asks the cluster by a CertificateSigningRequest, and waits until it is signed. Throws where it is not. */
export async function requestCertificate(ask: CertificateAsk, signal: AbortSignal): Promise<KeyPair> {
  const { names, signer, use, seconds, random, clock } = ask;
  const client = ask.client();
  const { requestPem, keyPem } = createCertificationRequest(names, random);
  const made = await client.create(kinds.CertificateSigningRequest, {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { generateName: 'csr-' },
    spec: {
      signerName: signer,
      request: Buffer.from(requestPem).toString('base64'),
      usages: ['digital signature', use],
      ...(seconds === undefined ? {} : { expirationSeconds: seconds }),
    },
  });
  const late = new AbortController();
  const timer = clock.setTimer(certificateWaitMsMax, () => late.abort(), { background: true });
  try {
    const watch = client.watch(kinds.CertificateSigningRequest, {
      fieldSelector: `metadata.name=${made.metadata.name}`,
      resourceVersion: made.metadata.resourceVersion,
      signal: AbortSignal.any([late.signal, signal]),
    });
    for await (const event of watch) {
      if (event.type !== 'MODIFIED') continue;
      const certificatePem = answerOf(event.object);
      if (certificatePem !== undefined) return { certificatePem, keyPem };
    }
  } finally {
    timer.cancel();
  }
  throw new Error(`${made.metadata.name} was not decided`);
}

/** Each certificate of a PEM, alone. */
export function certificatesIn(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g) ?? [];
}

function isSignedBy({ certificatePem }: Pick<KeyPair, 'certificatePem'>, authorityPem: string): boolean {
  return new X509Certificate(certificatePem).verify(new X509Certificate(authorityPem).publicKey);
}

/** When a part of a certificate's time has passed, in milliseconds. */
export function timeOf({ certificatePem }: Pick<KeyPair, 'certificatePem'>, part: number): number {
  const { validFromDate, validToDate } = new X509Certificate(certificatePem);
  return validFromDate.getTime() + part * (validToDate.getTime() - validFromDate.getTime());
}

function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** The certificate of a request that was signed; undefined while it waits. Throws where it was denied or failed. */
function answerOf({ metadata, status }: CertificateSigningRequest): string | undefined {
  const refused = status?.conditions?.find(({ type }) => type === 'Denied' || type === 'Failed');
  if (refused !== undefined) throw new Error(`${metadata.name} is ${refused.type}: ${refused.message ?? ''}`);
  return status?.certificate ? Buffer.from(status.certificate, 'base64').toString('utf8') : undefined;
}
