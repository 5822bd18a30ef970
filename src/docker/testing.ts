/** For tests: stores of images, and sites that also have a registry, which listens plainly and over TLS. */
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { Readable, Writable } from 'node:stream';
import { hostPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { messageOf } from '#base/thrown.ts';
import type { Content } from '#content/content.ts';
import { attestationManifest, referenceDigest, referenceType } from '#content/image-indexes.ts';
import { createImageRecords, mediaTypes } from '#content/image-records.ts';
import type { ImageRecords } from '#content/image-records.ts';
import { HttpTransport, RemoteRepository } from '#content/remote.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { createImages } from '#engine/images.ts';
import type { ImageStore } from '#engine/images.ts';
import type { ImagesOptions } from '#engine/images-options.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createAccess } from '#registry/access.ts';
import { createRegistry } from '#registry/registry.ts';
import type { Registry, RegistryOptions } from '#registry/registry.ts';
import { createSecureRegistryServer } from '#registry/server.ts';
import type { Descriptor } from '#content/manifest.ts';
import type { RouteContext } from './route.ts';

export interface Store {
  content: Content;
  records: ImageRecords;
  images: ImageStore;
}
export interface Site extends Store {
  registry: Registry;
  domain: string;
  url: string;
  /** The same registry over TLS, as a node's engine reaches it. */
  platform: NonNullable<ImagesOptions['platformRegistry']>;
}

/** A store of images in a directory of its own. */
export async function makeStore(t: TestScope, options: Partial<ImagesOptions> = {}, content?: Content): Promise<Store> {
  const own = content ?? (await openTestContent(t));
  const records = createImageRecords(own);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  return {
    content: own,
    records,
    images: createImages({
      content: own,
      records,
      clock: realClock,
      log: silentLogger,
      transport,
      emit: () => {},
      ...options,
    }),
  };
}

/** A store with a registry that listens. `engines`: what engines of other nodes may do. */
export async function makeSite(t: TestScope, more: Pick<RegistryOptions, 'engines'> = {}): Promise<Site> {
  const content = await openTestContent(t);
  const records = createImageRecords(content);
  const access = createAccess({ content, clock: realClock, random: realRandom });
  await access.setUser('ann', 'pass:word', true);
  await access.setUser('reader', 'r', false);
  const domains: string[] = [];
  const common = { content, images: records, access, log: silentLogger, clock: realClock, domains };
  const registry = createRegistry({ ...common, ...more });
  const server = createServer((request, response) => registry.handle(request, response));
  const domain = `127.0.0.1:${await listen(t, server)}`;
  domains.push(domain);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const images = createImages({
    content,
    records,
    clock: realClock,
    log: silentLogger,
    transport,
    emit: () => {},
    localRegistry: registry.local,
  });
  const platform = await listenSecurely(t, registry, domains);
  return { content, records, images, registry, domain, url: `http://${domain}`, platform };
}

/** On any port of 127.0.0.1, until the test ends. */
export async function listen(t: TestScope, server: Server): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server does not listen on a port');
  return address.port;
}

async function listenSecurely(t: TestScope, registry: Registry, domains: string[]): Promise<Site['platform']> {
  const ca = createCertificateAuthority('ca', realRandom, realClock);
  const issue = (names: Parameters<typeof issueCertificate>[0]): KeyPair =>
    issueCertificate(names, ca, realRandom, realClock);
  const serving = issue({ commonName: 'system:node:a', server: true, ipAddresses: ['127.0.0.1'] });
  const node = issue({ commonName: 'system:node:b', organizations: ['system:nodes'], client: true });
  const server = createSecureRegistryServer(registry);
  server.setSecureContext({ cert: serving.certificatePem, key: serving.keyPem, ca: ca.certificatePem });
  const port = await listen(t, server);
  return { url: `https://127.0.0.1:${port}`, tls: () => ({ ca: ca.certificatePem, ...node }), domains };
}

export const root = (text: string): AsyncGenerator<Uint8Array> =>
  bytesOf(encodeTarHeader({ path: 'd', type: 'directory', mode: 0o755 }), encodeTarFile({ path: 'd/f' }, text), tarEnd);
export const ann = { username: 'ann', password: 'pass:word' };

/** What `pushIndex` pushed: ids of images, digests of manifests. */
export interface PushedIndex {
  host: string;
  arm: string;
  index: string;
  armManifest: string;
  hostManifest: string;
}

/**
 * An index of two platforms and an attestation, and an artifact, pushed by a client. `foreign`: a file's text in the
 * image that is not for this machine, where it is to differ.
 */
export async function pushIndex(site: Site, path: string, foreign = ''): Promise<PushedIndex> {
  const layerOf = (text: string): Buffer => Buffer.concat([encodeTarFile({ path: 'f' }, text), tarEnd]);
  const transport = new HttpTransport({});
  const repository = new RemoteRepository(transport, { url: site.url, credential: ann }, path, 'pull,push');
  const put = async (bytes: Buffer): Promise<{ digest: string; size: number }> => {
    await repository.putBlob(digestOf(bytes), bytes.length, () => bytesOf(bytes));
    return { digest: digestOf(bytes), size: bytes.length };
  };
  const ids: string[] = [];
  const image = async (
    platform: Platform,
    { configType = mediaTypes.ociConfig, of = '' }: { configType?: string; of?: string } = {},
  ): Promise<Descriptor> => {
    const layer = layerOf(platform.architecture === hostPlatform().architecture ? 'x' : `x${foreign}`);
    const config = await put(
      Buffer.from(JSON.stringify({ ...platform, rootfs: { type: 'layers', diff_ids: [digestOf(layer)] }, config: {} })),
    );
    ids.push(config.digest);
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypes.ociManifest,
        config: { mediaType: configType, ...config },
        layers: [{ mediaType: mediaTypes.ociLayer, ...(await put(layer)) }],
      }),
    );
    await repository.putManifest(digestOf(bytes), bytes, mediaTypes.ociManifest);
    const about = { [referenceType]: attestationManifest, [referenceDigest]: of };
    return {
      mediaType: mediaTypes.ociManifest,
      digest: digestOf(bytes),
      size: bytes.length,
      platform,
      ...(of === '' ? {} : { annotations: about }),
    };
  };
  const arm = await image({ os: 'linux', architecture: 'arm64' });
  const host = await image(hostPlatform());
  const attestation = await image({ os: 'unknown', architecture: 'unknown' }, { of: host.digest });
  const manifests = [arm, attestation, host];
  const artifact = await image(
    { os: 'linux', architecture: 'chart' },
    { configType: 'application/vnd.cncf.helm.config.v1+json' },
  );
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
  await repository.putManifest('1', index, mediaTypes.ociIndex);
  await repository.putManifest(
    'artifact',
    await site.content.blobs.readBytes(artifact.digest, 1 << 20),
    mediaTypes.ociManifest,
  );
  transport.close();
  const [armId = '', hostId = ''] = ids;
  return {
    arm: armId,
    host: hostId,
    index: digestOf(index),
    armManifest: arm.digest,
    hostManifest: host.digest,
  };
}

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** What an operation fails with. */
export const textOf = async (run: () => Promise<unknown>): Promise<string> => {
  try {
    await run();
    return 'nothing was wrong';
  } catch (error) {
    return messageOf(error);
  }
};

/** A request of a route as the server gives it, whose answer's body goes nowhere. Version 1.56 if none is given. */
export function contextOf(
  query: URLSearchParams,
  body: Iterable<Uint8Array> = [],
  { name = 'base', minor = 56 } = {},
): RouteContext {
  const request = Object.assign(Readable.from(body, { objectMode: false }), { headers: {}, url: '/' });
  const response = Object.assign(
    new Writable({
      write: (_chunk, _encoding, done) => {
        done();
      },
    }),
    { writeHead: () => {}, flushHeaders: () => {}, headersSent: false },
  );
  return {
    request,
    response,
    params: { name },
    query,
    version: [1, minor],
    signal: new AbortController().signal,
    json: async () => ({}),
    jsonList: async () => [],
    hijack: async () => {
      throw new Error('none');
    },
  } as unknown as RouteContext;
}
