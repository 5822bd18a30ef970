/**
 * A managed plugin's content: configuration, manifest and layers as registries keep them, and the record of an image
 * over them, by which its files are unpacked, mounted and kept. That image is no image of users'.
 *
 * A plugin's configuration names the digests of the compressed layers where an image names those of their content
 * (moby); so that these are found out here.
 */
import { createHash } from 'node:crypto';
import { lstatSync, readFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { familiarName, familiarRepository } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import type { Hold } from '#content/content.ts';
import { mediaTypes, parseManifest } from '#content/image-records.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import { compressLayer } from '#content/layer-compression.ts';
import { toImageLayer } from '#content/image-writer.ts';
import { archiveBytesMax, configBytesMax, layerExpandedBytesMax, manifestBytesMax } from '#content/limits.ts';
import type { Manifest } from '#content/manifest.ts';
import type { RemoteRepository } from '#content/remote.ts';
import { removeTree } from '#os/files.ts';
import type { RegistryCredential } from '../engine.ts';
import { shortId } from '../images-options.ts';
import type { ImagesOptions, Progress } from '../images-options.ts';
import { fetchBlob } from '../images-pull.ts';
import { sendTo } from '../images-push.ts';
import { dockerError, findSource } from '../images-sources.ts';
import { readPluginConfig } from './plugin-config.ts';
import type { PluginConfig } from './plugin-config.ts';

const pluginConfigType = 'application/vnd.docker.plugin.v1+json';

export interface PluginContent {
  config: PluginConfig;
  /** Over its blobs; not yet recorded. */
  image: ImageRecord;
}

export interface TransferOptions {
  credential?: RegistryCredential;
  signal: AbortSignal;
  progress: Progress;
}

/** A layer whose content's digest is found by reading it. */
async function openLayer({ content }: ImagesOptions, hold: Hold, digest: string): Promise<string> {
  hold.addBlob(digest);
  const hash = createHash('sha256');
  for await (const chunk of await content.decompress(content.blobs.read(digest), layerExpandedBytesMax))
    hash.update(chunk);
  const diffId = `sha256:${hash.digest('hex')}`;
  hold.addLayer(diffId);
  await content.layers.ensure(diffId, digest);
  return diffId;
}

function imageOf(
  options: ImagesOptions,
  { id, layers, manifest }: { id: string; layers: ImageLayer[]; manifest: string },
): ImageRecord {
  return {
    id,
    manifestDigest: manifest,
    manifestMediaType: mediaTypes.dockerManifest,
    layers,
    file: { ...hostPlatform(), rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) } },
    createdAtMs: options.clock.now(),
    isPlugins: true,
  };
}

/** Of a directory that goes into the store; none where it is empty. */
async function packLayer({ content }: ImagesOptions, hold: Hold, directory: string): Promise<ImageLayer[]> {
  const packed = await content.layers.commitUpper(directory);
  if (packed.isEmpty) return [];
  hold.addBlob(packed.digest);
  hold.addLayer(packed.diffId);
  const layer = await compressLayer(content, toImageLayer(packed), { kind: 'gzip' });
  hold.addBlob(layer.digest);
  return [layer];
}

/** Of the archive that `docker plugin create` sends: `config.json` and the directory `rootfs`. Throws BadRequest. */
export async function createContent(
  options: ImagesOptions,
  hold: Hold,
  archive: AsyncIterable<Uint8Array>,
): Promise<PluginContent> {
  const { content } = options;
  const uploaded = await content.blobs.write(archive, {}, archiveBytesMax);
  hold.addBlob(uploaded.digest);
  const scratch = content.blobs.scratchPath();
  try {
    await content.layers.unpackFile(content.blobs.path(uploaded.digest), scratch);
    // Links would lead out of the archive.
    const found = lstatSync(`${scratch}/config.json`, { throwIfNoEntry: false });
    if (found?.isFile() !== true) throw new ApiError('BadRequest', 'config not found');
    if (found.size > configBytesMax)
      throw new ApiError('RequestEntityTooLarge', 'the plugin configuration is too large');
    const config = readPluginConfig(readFileSync(`${scratch}/config.json`));
    if (lstatSync(`${scratch}/rootfs`, { throwIfNoEntry: false })?.isDirectory() !== true)
      throw new ApiError('BadRequest', 'no rootfs found');
    const layers = await packLayer(options, hold, `${scratch}/rootfs`);
    const whole = { ...config, rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) } };
    const bytes = Buffer.from(`${JSON.stringify(whole)}\n`);
    const id = await content.blobs.writeBytes(bytes);
    hold.addBlob(id);
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifest,
      config: { mediaType: pluginConfigType, size: bytes.length, digest: id },
      layers: layers.map((layer) => ({
        mediaType: mediaTypes.dockerLayer,
        size: layer.sizeBytes,
        digest: layer.digest,
      })),
    };
    const digest = await content.blobs.writeBytes(Buffer.from(JSON.stringify(manifest)));
    hold.addBlob(digest);
    return { config: whole, image: imageOf(options, { id, layers, manifest: digest }) };
  } finally {
    removeTree(scratch);
  }
}

interface Fetched {
  repository: RemoteRepository | undefined;
  digest: string;
  manifest: Manifest;
  config: PluginConfig;
}

async function fetchConfig(
  options: ImagesOptions,
  hold: Hold,
  reference: Reference,
  transfer: TransferOptions,
): Promise<Fetched> {
  const { content } = options;
  const { repository, manifest: found } = await findSource(options, reference, { ...transfer, artifact: 'plugin' });
  const digest = await content.blobs.writeBytes(found.bytes);
  hold.addBlob(digest);
  const manifest = parseManifest(await content.blobs.readBytes(digest, manifestBytesMax), digest);
  if (manifest.config.mediaType !== pluginConfigType)
    throw new ApiError(
      'BadRequest',
      `did not find plugin config for specified reference ${familiarName(reference)}: it is of type ${JSON.stringify(manifest.config.mediaType)}`,
    );
  if (manifest.config.size > configBytesMax)
    throw new ApiError('RequestEntityTooLarge', 'the plugin configuration is too large');
  hold.addBlob(manifest.config.digest);
  await fetchBlob(options, { repository, descriptor: manifest.config }, () => {}, transfer.signal);
  const config = readPluginConfig(await content.blobs.readBytes(manifest.config.digest, configBytesMax));
  return { repository, digest, manifest, config };
}

/** What a plugin in a registry asks for. Throws ApiError. */
export async function fetchPluginConfig(
  options: ImagesOptions,
  reference: Reference,
  transfer: TransferOptions,
): Promise<PluginConfig> {
  using hold = options.content.hold();
  try {
    return (await fetchConfig(options, hold, reference, transfer)).config;
  } catch (error) {
    throw dockerError(error, reference);
  }
}

/** Fetched whole and unpacked. `check` refuses one before its layers come. Throws ApiError. */
export async function fetchContent(
  options: ImagesOptions,
  hold: Hold,
  { reference, check }: { reference: Reference; check(config: PluginConfig): void },
  transfer: TransferOptions,
): Promise<PluginContent> {
  try {
    const { repository, digest, manifest, config } = await fetchConfig(options, hold, reference, transfer);
    check(config);
    const layers: ImageLayer[] = [];
    for (const descriptor of manifest.layers) {
      const tell = (status: string, detail: object = {}): void =>
        transfer.progress({ status, progressDetail: detail, id: shortId(descriptor.digest) });
      tell('Pulling fs layer');
      hold.addBlob(descriptor.digest);
      const total = descriptor.size;
      await fetchBlob(
        options,
        { repository, descriptor },
        (current) => tell('Downloading', { current, total }),
        transfer.signal,
      );
      tell('Download complete');
      const diffId = await openLayer(options, hold, descriptor.digest);
      tell('Pull complete');
      layers.push({ digest: descriptor.digest, diffId, sizeBytes: total, mediaType: descriptor.mediaType });
    }
    transfer.progress({ status: `Digest: ${digest}` });
    return { config, image: imageOf(options, { id: manifest.config.digest, layers, manifest: digest }) };
  } catch (error) {
    throw dockerError(error, reference);
  }
}

/** Throws ApiError. */
export async function pushContent(
  options: ImagesOptions,
  reference: Reference,
  image: ImageRecord,
  transfer: TransferOptions,
): Promise<void> {
  const { content } = options;
  using hold = content.hold();
  const top = {
    mediaType: image.manifestMediaType,
    digest: image.manifestDigest,
    size: content.blobs.size(image.manifestDigest) ?? 0,
  };
  const { config, layers } = parseManifest(await content.blobs.readBytes(top.digest, manifestBytesMax), top.digest);
  const blobs = [...layers, config].map(({ digest, size }) => ({
    digest,
    sizeBytes: size,
    shownAs: shortId(digest),
  }));
  for (const { digest } of [...blobs, top]) hold.addBlob(digest);
  const { progress } = transfer;
  progress({ status: `The push refers to repository [${familiarRepository(reference)}]` });
  const push = { ...transfer, onProgress: progress, artifact: 'plugin' as const };
  await sendTo(options, { reference, target: { image } }, { blobs, manifests: [], top }, push);
  progress({ status: `${reference.tag}: digest: ${top.digest} size: ${top.size}` });
  progress({ progressDetail: {}, aux: { Tag: reference.tag, Digest: top.digest, Size: top.size } });
}
