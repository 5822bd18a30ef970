/**
 * The store of blobs that a client shares over its session: directories with the layout of OCI, for caches
 * (`local:DIRECTORY`) and named contexts (`oci:NAME`).
 *
 * Source: containerd, `services/content/v1`; BuildKit, `session/content` (the metadata that names the store).
 */
import type { Content } from '#content/content.ts';
import { ApiError } from '#base/errors.ts';
import { isObject, itemsOf, textOf } from '#base/unknown.ts';
import { indexDepthMax, manifestBytesMax } from '#content/limits.ts';
import type { BlobPlace } from '#engine/images-repository.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { sentChunkBytes } from './limits.ts';
import { bytesIn, messageIn, numberIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import type { Session } from './session.ts';

const method = (name: string): string => `/containerd.services.content.v1.Content/${name}`;
const action = { stat: 0, write: 1, commit: 2 } as const;

export interface SharedStore {
  session: Session;
  /** As the client named it. */
  name: string;
  content: Content;
}

function metadataOf({ session, name }: SharedStore): Record<string, string> {
  if (!session.serves(method('Read'))) throw new ApiError('BadRequest', 'the client shares no store of blobs');
  return { 'buildkit-attachable-store-id': name };
}

async function* readBlob(store: SharedStore, digest: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  using stream = store.session.client.open(method('Read'), metadataOf(store), signal);
  await stream.send({ digest });
  stream.end();
  for await (const message of stream.messages) yield bytesIn(message, 'data');
}

async function sizeOf(store: SharedStore, digest: string, signal: AbortSignal): Promise<number> {
  using stream = store.session.client.open(method('Info'), metadataOf(store), signal);
  await stream.send({ digest });
  stream.end();
  for await (const message of stream.messages) return numberIn(messageIn(message, 'info'), 'size');
  throw new ApiError('NotFound', `content ${digest}: not found`);
}

/** Throws NotFound, and DigestError where the client has something else. */
async function fetchBlob(
  store: SharedStore,
  { digest, sizeBytes }: { digest: string; sizeBytes?: number },
  signal: AbortSignal,
): Promise<void> {
  const { blobs } = store.content;
  if (blobs.has(digest)) return;
  const expected = sizeBytes ?? (await sizeOf(store, digest, signal));
  await blobs.write(readBlob(store, digest, signal), { digest, sizeBytes: expected });
}

async function sendBlob(
  store: SharedStore,
  {
    digest,
    sizeBytes,
    source,
  }: { digest: string; sizeBytes: number; source: AsyncIterable<Uint8Array> | Iterable<Uint8Array> },
  signal: AbortSignal,
): Promise<void> {
  using stream = store.session.client.open(method('Write'), metadataOf(store), signal);
  const step = async (message: Message): Promise<void> => {
    await stream.send(message);
    const { done } = await stream.messages.next();
    if (done === true) throw new ApiError('BadRequest', 'the client ended the transfer of a blob too early');
  };
  const about = { ref: `tiphys-${digest}`, total: sizeBytes, expected: digest };
  try {
    await step({ ...about, action: action.stat });
    let offset = 0;
    for await (const chunk of source)
      for (let at = 0; at < chunk.length; at += sentChunkBytes) {
        const data = Buffer.from(chunk.subarray(at, at + sentChunkBytes));
        await step({ ref: about.ref, action: action.write, offset, data });
        offset += data.length;
      }
    await step({ ...about, action: action.commit, offset });
  } catch (error) {
    // It is there already.
    if (!(error instanceof GrpcError) || error.status !== code.alreadyExists) throw error;
  }
}

/** `manifest`: the digest of the one that is looked for. */
export function openSharedPlace(store: SharedStore, manifest: string): BlobPlace {
  const { blobs } = store.content;
  return {
    async find(signal) {
      using hold = store.content.hold();
      hold.addBlob(manifest);
      await fetchBlob(store, { digest: manifest }, signal);
      return {
        bytes: await blobs.readBytes(manifest, manifestBytesMax),
        fetch: (digest, sizeBytes, until) => fetchBlob(store, { digest, sizeBytes }, until),
      };
    },
    put: (digest, sizeBytes, signal) =>
      sendBlob(store, { digest, sizeBytes, source: blobs.read(digest).iterator() }, signal),
    async putManifest(bytes, _mediaType, signal) {
      const digest = await blobs.writeBytes(bytes);
      await sendBlob(store, { digest, sizeBytes: bytes.length, source: [bytes] }, signal);
    },
  };
}

/** What a manifest or an index names, those below first, each once. */
async function listBlobs(content: Content, digest: string, depth = 0): Promise<string[]> {
  const value: unknown = JSON.parse((await content.blobs.readBytes(digest, manifestBytesMax)).toString('utf8'));
  const named = (list: unknown): string[] => itemsOf(list).flatMap((item) => textOf(item, 'digest') ?? []);
  if (!isObject(value) || depth > indexDepthMax) return [digest];
  const below: string[] = [];
  for (const child of named(value['manifests'])) below.push(...(await listBlobs(content, child, depth + 1)));
  return [...new Set([...below, ...named(value['layers']), ...named([value['config']]), digest])];
}

/** An image or an index with all that it names, into a directory of the client. */
export async function sendLayout(store: SharedStore, digest: string, signal: AbortSignal): Promise<void> {
  const { blobs } = store.content;
  for (const each of await listBlobs(store.content, digest))
    await sendBlob(
      store,
      { digest: each, sizeBytes: blobs.size(each) ?? 0, source: blobs.read(each).iterator() },
      signal,
    );
}
