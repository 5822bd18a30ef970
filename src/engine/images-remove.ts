/**
 * Names and images that go away. The conflicts are docker's, and ours: what a Pod needs is never removed, by whatever
 * force.
 */
import { ApiError } from '#base/errors.ts';
import { canonicalName, canonicalRepository, parseReference, withDefaultTag } from '#base/reference.ts';
import { bestFor, formatPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { platformOf } from '#content/image-file.ts';
import type { ImageRecord, ImageTarget } from '#content/image-records.ts';
import type { Change } from '#content/records.ts';
import type { Owner } from './engine.ts';
import { emitImage, familiar, shortId } from './images-options.ts';
import type { ImagesOptions } from './images-options.ts';
import type { IndexRecord } from '#content/manifest.ts';

export interface RemoveOptions {
  force?: boolean;
  owner?: Owner;
  /** Nameless steps below it stay. */
  keepsParents?: boolean;
  /** Of an index, only what is for these. */
  platforms?: readonly Platform[];
}

export interface PruneOptions {
  /** Those with names, too. */
  all: boolean;
  labels: (labels: Record<string, string>) => boolean;
  untilMs?: number;
}

/** Whether it is meant by its id, or by the digest of its manifest or index, whole or by its beginning. */
function isIdReference(reference: string, { image, index }: ImageTarget): boolean {
  if (!/^(?:sha256:)?[0-9a-f]+$/.test(reference)) return false;
  const begin = reference.startsWith('sha256:') ? reference : `sha256:${reference}`;
  return [image.id, image.manifestDigest, index?.digest].some((digest) => digest?.startsWith(begin) === true);
}

function checkUse(
  images: ImagesOptions,
  { record, reference, verb }: { record: ImageRecord; reference: string; verb: string },
  options: RemoveOptions,
): void {
  const { records, containersOf } = images;
  const subject = verb === 'delete' ? shortId(record.id) : `"${reference}"`;
  const ids = [record.id, ...membersOnlyOf(images, record).map(({ id }) => id)];
  const pods = ids
    .flatMap((id) => records.leasesOf(id))
    .filter((lease) => lease.owner === 'kubelet' && options.owner !== 'kubelet');
  const users = ids.flatMap((id) => containersOf?.(id) ?? []);
  const pod = pods[0]?.holder ?? users.find((user) => user.owner === 'kubelet')?.id;
  if (pod !== undefined)
    throw new ApiError(
      'Conflict',
      `conflict: unable to ${verb} ${subject} (cannot be forced) - image is being used by running container ${shortId(pod)}`,
    );
  const running = users.find((user) => user.isRunning);
  if (verb === 'delete') {
    if (running !== undefined)
      throw new ApiError(
        'Conflict',
        `conflict: unable to delete ${subject} (cannot be forced) - image is being used by running container ${shortId(running.id)}`,
      );
    if (options.force !== true && users[0] !== undefined)
      throw new ApiError(
        'Conflict',
        `conflict: unable to delete ${subject} (must be forced) - image is being used by stopped container ${shortId(users[0].id)}`,
      );
    const child = records.list().find((each) => each.parent === record.id && each.isIntermediate !== true);
    if (child !== undefined)
      throw new ApiError(
        'Conflict',
        `conflict: unable to delete ${subject} (cannot be forced) - image has dependent child images`,
      );
  } else if (options.force !== true && users[0] !== undefined) {
    throw new ApiError(
      'Conflict',
      `conflict: unable to remove repository reference ${subject} (must force) - container ${shortId(users[0].id)} is using its referenced image ${shortId(record.id)}`,
    );
  }
}

/** Images that are here for the sake of indexes of which the image is the default. */
function membersOnlyOf({ records }: ImagesOptions, { id }: ImageRecord): ImageRecord[] {
  return records.indexesOf(id).flatMap((index) => {
    const [first, ...others] = records.imagesOf(index);
    return first?.id === id ? others.filter((one) => isMemberOnly(records, one, [index.digest])) : [];
  });
}

/** Whether nothing but these indexes keeps the image among those that are here. */
function isMemberOnly(records: ImagesOptions['records'], { id }: ImageRecord, indexes: readonly string[]): boolean {
  return (
    records.namesOf(id).length === 0 &&
    records.repoDigestsOf(id).length === 0 &&
    records.indexesOf(id).every(({ digest }) => indexes.includes(digest))
  );
}

/** What makes an image go: its record, and its place in indexes that stay. The registry may serve it still. */
function goneChanges(images: ImagesOptions, record: ImageRecord, goneIndexes: readonly string[]): Change[] {
  // The engine forgets its names, not the image.
  if (record.manifestDigest !== '' && images.localRegistry?.holds(record.manifestDigest) === true)
    return [{ table: 'images', key: record.id, value: { ...record, isHidden: true } satisfies ImageRecord }];
  return [{ table: 'images', key: record.id, value: undefined }, ...unlinkChanges(images, record, goneIndexes)];
}

/** Takes the image out of all indexes but these. */
function unlinkChanges({ records }: ImagesOptions, { id }: ImageRecord, goneIndexes: readonly string[]): Change[] {
  return records
    .indexesOf(id)
    .filter(({ digest }) => !goneIndexes.includes(digest))
    .flatMap((index) => records.indexChanges(withoutImage(index, id)));
}

function withoutImage(index: IndexRecord, id: string): IndexRecord {
  return {
    ...index,
    manifests: index.manifests.map((entry) => {
      const { content, ...bare } = entry;
      return content?.configDigest === id ? bare : entry;
    }),
  };
}

/** Takes indexes away, with the images that are here for their sake. Returns the ids of those. */
function dropIndexes(images: ImagesOptions, indexes: readonly IndexRecord[], changes: Change[]): string[] {
  const { records, containersOf, localRegistry } = images;
  const isServed = ({ digest }: IndexRecord): boolean => localRegistry?.holds(digest) === true;
  for (const index of indexes.filter(isServed))
    for (const record of records.imagesOf(index))
      if (isMemberOnly(records, record, [index.digest]))
        changes.push({ table: 'images', key: record.id, value: { ...record, isHidden: true } satisfies ImageRecord });
  const gone = indexes.filter((index) => !isServed(index));
  const digests = gone.map(({ digest }) => digest);
  const deleted: string[] = [];
  for (const index of gone) {
    changes.push({ table: 'indexes', key: index.digest, value: undefined });
    for (const record of records.imagesOf(index)) {
      const isUsed = (containersOf?.(record.id) ?? []).length > 0 || records.leasesOf(record.id).length > 0;
      if (isUsed || deleted.includes(record.id) || !isMemberOnly(records, record, digests)) continue;
      const made = goneChanges(images, record, digests);
      changes.push(...made);
      if (made[0]?.value === undefined) deleted.push(record.id);
    }
  }
  return deleted;
}

async function untag(images: ImagesOptions, changes: Change[], untagged: string[], record: ImageRecord): Promise<void> {
  await images.records.commit(changes);
  for (const name of untagged) emitImage(images, 'untag', record.id, { name });
}

/** Removes the record and the nameless steps below it that nothing else needs. */
async function deleteImage(
  images: ImagesOptions,
  record: ImageRecord,
  { changes, untagged, keepsParents }: { changes: Change[]; untagged: string[]; keepsParents: boolean },
): Promise<string[]> {
  const { records, containersOf } = images;
  const deleted: string[] = [];
  const isHeld = (id: string): boolean =>
    (containersOf?.(id) ?? []).some((user) => user.owner === 'docker') || records.leasesOf(id).length > 0;
  // Forced away from a stopped container: the names go, the image stays for it.
  if (isHeld(record.id) && untagged.length > 0) {
    await untag(images, changes, untagged, record);
    return [];
  }
  const nameless = records.indexesOf(record.id).filter((index) => isNameless(records, index, changes));
  const members = dropIndexes(images, nameless, changes);
  const gone = goneChanges(
    images,
    record,
    nameless.map(({ digest }) => digest),
  );
  if (gone[0]?.value !== undefined) {
    changes.push(...gone);
    await untag(images, changes, untagged, record);
    return members;
  }
  changes.push(...gone.slice(1));
  for (let at: ImageRecord | undefined = record; at !== undefined;) {
    changes.push({ table: 'images', key: at.id, value: undefined });
    deleted.push(at.id);
    const parent: ImageRecord | undefined = at.parent === undefined ? undefined : records.get(at.parent);
    const isNeeded: boolean =
      parent === undefined ||
      parent.isIntermediate !== true ||
      isHeld(parent.id) ||
      records.list().some((each) => each.parent === parent.id && !deleted.includes(each.id));
    at = isNeeded || keepsParents ? undefined : parent;
  }
  deleted.push(...members.filter((id) => !deleted.includes(id)));
  await untag(images, changes, untagged, record);
  for (const id of deleted) emitImage(images, 'delete', id, { name: id });
  return deleted;
}

/** Whether no name stands for it once the changes are made. */
function isNameless(records: ImagesOptions['records'], { digest }: IndexRecord, changes: readonly Change[]): boolean {
  const going = new Set(changes.filter(({ value }) => value === undefined).map(({ key }) => key));
  return records.namesOfIndex(digest).every((name) => going.has(name));
}

/** Takes what is for these platforms out of every index that has it. What a container uses stays until that is gone. */
async function removePlatforms(
  images: ImagesOptions,
  target: ImageTarget,
  reference: string,
  options: RemoveOptions,
): Promise<{ untagged: string[]; deleted: string[] }> {
  const { records } = images;
  if (options.force !== true)
    throw new ApiError(
      'BadRequest',
      'Content will be removed from all images referencing this variant. Use --force to force delete.',
    );
  const here = target.index === undefined ? [target.image] : records.imagesOf(target.index);
  const chosen = (options.platforms ?? []).map((platform) => {
    const found = bestFor(platform, here, ({ file }) => platformOf(file));
    if (found !== undefined) return found;
    throw new ApiError(
      'NotFound',
      `failed to delete platform ${formatPlatform(platform)} for image ${target.image.id}: image with reference ${reference} was found but does not provide the specified platform (${formatPlatform(platform)})`,
    );
  });
  const left = here.filter((record) => !chosen.includes(record));
  if (left.length === 0) return removeImage(images, target, target.image.id, { force: true, owner: 'docker' });
  const deleted: string[] = [];
  for (const record of chosen) {
    checkUse(images, { record, reference, verb: 'delete' }, options);
    const isUsed = (images.containersOf?.(record.id) ?? []).length > 0 || records.leasesOf(record.id).length > 0;
    const isKept = isUsed || records.hasOwnName(record.id);
    await records.commit([
      ...(isKept ? [] : goneChanges(images, record, []).slice(0, 1)),
      ...unlinkChanges(images, record, []),
    ]);
    deleted.push(record.manifestDigest);
  }
  return { untagged: [], deleted };
}

export async function removeImage(
  images: ImagesOptions,
  target: ImageTarget,
  reference: string,
  options: RemoveOptions,
): Promise<{ untagged: string[]; deleted: string[] }> {
  const { records, content } = images;
  const record = target.image;
  if (options.platforms !== undefined && options.platforms.length > 0) {
    const removed = await removePlatforms(images, target, reference, { ...options });
    void content.collect().catch((error: unknown) => images.log.warn('collection failed', { error }));
    return removed;
  }
  const names = records.namesOf(record.id);
  const digests = records.repoDigestsOf(record.id);
  const byId = isIdReference(reference, target);
  const untagged: string[] = [];
  const changes: Change[] = [];
  const dropName = (name: string): void => {
    changes.push(records.nameChange(name, undefined));
    untagged.push(familiar(name));
  };
  const dropDigest = (name: string): void => {
    changes.push(records.repoDigestChange(name, undefined));
    untagged.push(familiar(name));
  };
  if (!byId) {
    const wanted = withDefaultTag(parseReference(reference));
    const name = canonicalName(wanted);
    const left = names.filter((each) => each !== name);
    if (wanted.digest === undefined && !names.includes(name))
      throw new ApiError(
        'Conflict',
        `conflict: unable to remove repository reference "${reference}": it is held by the registry`,
      );
    if (left.length === 0) checkUse(images, { record, reference, verb: 'remove repository reference' }, options);
    if (wanted.digest !== undefined) dropDigest(name);
    else dropName(name);
    // A repository's last tag takes its digests along.
    const repository = canonicalRepository(wanted);
    if (wanted.digest === undefined && !left.some((each) => each.startsWith(`${repository}:`)))
      for (const digest of digests) if (digest.startsWith(`${repository}@`)) dropDigest(digest);
    const stays = left.length > 0 || (wanted.digest !== undefined && (names.length > 0 || digests.length > 1));
    if (stays) {
      const nameless = records.indexesOf(record.id).filter((index) => isNameless(records, index, changes));
      const deleted = dropIndexes(images, nameless, changes);
      await untag(images, changes, untagged, record);
      return { untagged, deleted };
    }
  } else {
    const repositories = new Set(names.map((name) => canonicalRepository(parseReference(name))));
    if (repositories.size > 1 && options.force !== true)
      throw new ApiError(
        'Conflict',
        `conflict: unable to delete ${shortId(record.id)} (must be forced) - image is referenced in multiple repositories`,
      );
    checkUse(images, { record, reference, verb: 'delete' }, options);
    names.forEach(dropName);
    digests.forEach(dropDigest);
  }
  const deleted = await deleteImage(images, record, { changes, untagged, keepsParents: options.keepsParents === true });
  void content.collect().catch((error: unknown) => images.log.warn('collection failed', { error }));
  return { untagged, deleted };
}

export async function pruneImages(
  images: ImagesOptions,
  options: PruneOptions,
): Promise<{ deleted: { untagged?: string; deleted?: string }[]; freedBytes: number }> {
  const { records, containersOf, content } = images;
  const out: { untagged?: string; deleted?: string }[] = [];
  for (const record of records.listShown()) {
    const names = records.namesOf(record.id);
    if (names.length > 0 && !options.all) continue;
    if (
      !options.labels(record.file.config?.Labels ?? {}) ||
      (options.untilMs !== undefined && record.createdAtMs > options.untilMs)
    )
      continue;
    const ids = [record.id, ...membersOnlyOf(images, record).map(({ id }) => id)];
    if (ids.some((id) => (containersOf?.(id) ?? []).length > 0 || records.leasesOf(id).length > 0)) continue;
    if (records.list().some((each) => each.parent === record.id && each.isIntermediate !== true)) continue;
    const changes = [
      ...names.map((name) => records.nameChange(name, undefined)),
      ...records.repoDigestsOf(record.id).map((name) => records.repoDigestChange(name, undefined)),
    ];
    const untagged = [...names, ...records.repoDigestsOf(record.id)].map(familiar);
    const deleted = await deleteImage(images, record, { changes, untagged, keepsParents: false });
    out.push(...untagged.map((name) => ({ untagged: name })), ...deleted.map((id) => ({ deleted: id })));
  }
  return { deleted: out, freedBytes: out.length === 0 ? 0 : await content.collect() };
}
