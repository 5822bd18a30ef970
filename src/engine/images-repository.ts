/**
 * A name in a registry as a place of blobs and a manifest that need not be an image: caches of builds. The registry of
 * this process shares the store, so nothing is copied to it or from it.
 */
import { createHash } from 'node:crypto';
import type { Reference } from '#base/reference.ts';
import type { RegistryCredential } from './engine.ts';
import type { RemoteRepository } from '#content/remote.ts';
import type { ImagesOptions } from './images-options.ts';
import { remoteOf } from './images-push.ts';
import { findSource } from './images-sources.ts';

export interface PlacedManifest {
  bytes: Buffer;
  /** Brings a blob into the store; its digest and its size are checked. */
  fetch(digest: string, sizeBytes: number, signal: AbortSignal): Promise<void>;
}

export interface BlobPlace {
  /** Throws RemoteError or UnreachableError where there is none. */
  find(signal: AbortSignal): Promise<PlacedManifest>;
  /** A blob of the store. */
  put(digest: string, sizeBytes: number, signal: AbortSignal): Promise<void>;
  /** All its blobs were put. */
  putManifest(bytes: Buffer, mediaType: string, signal: AbortSignal): Promise<void>;
}

export function openRepositoryPlace(
  options: ImagesOptions,
  reference: Reference,
  credential: RegistryCredential | undefined,
): BlobPlace {
  const { content, localRegistry } = options;
  const { blobs } = content;
  const login = credential === undefined ? {} : { credential };
  const tag = reference.tag ?? 'latest';
  const isLocal = localRegistry?.owns(reference.domain) === true;
  let opened: Promise<RemoteRepository> | undefined;
  const remote = (signal: AbortSignal): Promise<RemoteRepository> =>
    (opened ??= remoteOf(options, reference, { ...login, signal }));
  return {
    async find(signal) {
      const { repository: found, manifest } = await findSource(options, reference, { ...login, signal });
      return {
        bytes: Buffer.from(manifest.bytes),
        async fetch(digest, sizeBytes, until) {
          if (found === undefined || blobs.has(digest)) return;
          const { source } = await found.blob(digest, 0, until);
          await blobs.write(source, { digest, sizeBytes });
        },
      };
    },
    async put(digest, sizeBytes, signal) {
      if (isLocal) return;
      const repository = await remote(signal);
      if (!(await repository.hasBlob(digest, signal)))
        await repository.putBlob(digest, sizeBytes, () => blobs.read(digest).iterator(), { signal });
    },
    async putManifest(bytes, mediaType, signal) {
      if (!isLocal) {
        await (await remote(signal)).putManifest(tag, bytes, mediaType, signal);
        return;
      }
      using hold = content.hold();
      hold.addBlob(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
      const descriptor = { mediaType, digest: await blobs.writeBytes(bytes), size: bytes.length };
      await localRegistry?.publish(reference.path, tag, descriptor);
    },
  };
}
