/**
 * Images of dockerd's own store (overlay2): configurations, names and layers. A layer comes as the archive it was, put
 * together again (`tar-split.ts`), so its digest proves it; one whose archive dockerd has not kept is copied as it
 * lies. Images are recorded last and in one commit each: what an import that was killed left is used by the next one,
 * or goes at the engine's start.
 *
 * Steps of old builds (parents without a name) do not come along: nothing here would use them.
 */
import { createHash } from 'node:crypto';
import { canonicalName, canonicalRepository, parseReference, withDefaultTag } from '#base/reference.ts';
import { messageOf } from '#base/thrown.ts';
import { ApiError } from '#base/errors.ts';
import type { Content, Hold } from '#content/content.ts';
import { isImageFile } from '#content/image-file.ts';
import { writeManifest } from '#content/image-writer.ts';
import { configBytesMax } from '#content/limits.ts';
import { mediaTypes, parseJson, type ImageLayer, type ImageRecord, type ImageRecords } from '#content/image-records.ts';
import type { Change } from '#content/records.ts';
import { copyTree } from '#engine/copy-tree.ts';
import { treeBytes } from '#engine/tree-size.ts';
import { readBounded } from './read-bounded.ts';
import type { ImportReport } from './report.ts';
import { imageMetadata, imagePath, listImageIds, readLayer, readReferences, type DockerSource } from './source.ts';
import { assembleTar } from './tar-split.ts';

export interface ImageImport {
  source: DockerSource;
  content: Content;
  records: ImageRecords;
  report: ImportReport;
}

/** `used`: images that containers were made of. */
export async function importImages(to: ImageImport, used: ReadonlySet<string>): Promise<void> {
  const { source, report } = to;
  const ids = listImageIds(source);
  const references = readReferences(source);
  const parents = new Set(ids.map((id) => imageMetadata(source, id, 'parent')));
  const named = new Set(references.values());
  for (const id of ids)
    if (named.has(id) || used.has(id) || !parents.has(id))
      await importImage(
        to,
        id,
        [...references].filter(([, target]) => target === id).map(([name]) => name),
      ).catch((error: unknown) => report.refuse('image', id.slice(7, 19), messageOf(error)));
}

async function importImage(to: ImageImport, id: string, names: string[]): Promise<void> {
  const { source, content, records, report } = to;
  const bytes = readBounded(imagePath(source, id), configBytesMax) ?? Buffer.alloc(0);
  const file = parseJson(bytes, `image ${id}`);
  if (!isImageFile(file)) throw new ApiError('BadRequest', 'its configuration is damaged');
  using hold = content.hold();
  const known = records.get(id);
  const layers = known?.layers ?? (await importLayers(to, chainIds(file.rootfs.diff_ids), hold));
  const wrote = await content.blobs.writeBytes(bytes);
  if (wrote !== id) throw new ApiError('BadRequest', `its configuration has the digest ${wrote}`);
  hold.addBlob(id);
  const created = Date.parse(file.created ?? '');
  const tagged = Date.parse(imageMetadata(source, id, 'lastUpdated') ?? '');
  const record: ImageRecord = known ?? {
    id,
    manifestDigest: '',
    manifestMediaType: mediaTypes.dockerManifest,
    layers,
    file,
    createdAtMs: Number.isFinite(created) ? created : 0,
    ...(Number.isFinite(tagged) ? { tagTimeMs: tagged } : {}),
  };
  if (record.manifestDigest === '') {
    const manifest = await writeManifest(content, record, hold);
    Object.assign(record, { manifestDigest: manifest.digest, manifestMediaType: manifest.mediaType });
  }
  await content.layers.settle();
  const changes = names.flatMap((name) => nameChanges(to, name, id));
  await records.put(record, changes);
  report.take('image', known === undefined, names[0] ?? id.slice(7, 19));
}

/** A name that stands for something else here keeps its meaning. */
function nameChanges({ records, report }: ImageImport, name: string, id: string): Change[] {
  const reference = parseReference(name);
  if (reference.digest !== undefined)
    return [records.repoDigestChange(`${canonicalRepository(reference)}@${reference.digest}`, { imageId: id })];
  const canonical = canonicalName(withDefaultTag(reference));
  const taken = records.byName(canonical);
  if (taken === undefined || taken.imageId === id) return [records.nameChange(canonical, taken ?? { imageId: id })];
  report.refuse('name', name, `it stands for ${taken.imageId.slice(7, 19)} here`);
  return [];
}

/** Of the layers, bottom first: each one's is that of itself on those below. */
export function chainIds(diffIds: readonly string[]): string[] {
  let above = '';
  return diffIds.map((diffId) => {
    above = above === '' ? diffId : `sha256:${createHash('sha256').update(`${above} ${diffId}`).digest('hex')}`;
    return above;
  });
}

/** The caller's hold gets them. */
export async function importLayers(
  { source, content, report }: ImageImport,
  chain: readonly string[],
  hold: Hold,
): Promise<ImageLayer[]> {
  const layers: ImageLayer[] = [];
  for (const chainId of chain) {
    const found = readLayer(source, chainId);
    if (found === undefined) throw new ApiError('NotFound', `its layer ${chainId} is missing`);
    const { diffId, directory, splitPath } = found;
    hold.addBlob(diffId);
    hold.addLayer(diffId);
    if (splitPath !== undefined && !content.blobs.has(diffId) && !content.layers.has(diffId))
      await content.blobs.write(assembleTar(splitPath, directory), { digest: diffId });
    if (content.blobs.has(diffId)) await content.layers.ensure(diffId, diffId);
    else if (!content.layers.has(diffId)) {
      await content.layers.adopt(diffId, async (target) => {
        await copyTree(directory, target, { overlay: true });
        return treeBytes(target);
      });
      report.note(`layer ${diffId.slice(7, 19)} has no archive: images of it run, and cannot be pushed or saved`);
    }
    layers.push({
      digest: diffId,
      diffId,
      sizeBytes: content.blobs.size(diffId) ?? content.layers.sizeBytes(diffId),
      mediaType: mediaTypes.dockerPlainLayer,
    });
  }
  return layers;
}
