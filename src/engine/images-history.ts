/** The history of an image as `docker history` shows it: newest first, with the ids of steps that were built here. */
import type { HistoryEntry } from '#content/image-file.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { familiar } from './images-options.ts';
import type { ImagesOptions } from './images-options.ts';

export interface HistoryItem {
  Id: string;
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  Size: number;
  Comment: string;
}

export function historyOf({ records, content }: ImagesOptions, record: ImageRecord): HistoryItem[] {
  let layer = 0;
  const items = (record.file.history ?? []).map((entry: HistoryEntry): HistoryItem => {
    const own = entry.empty_layer === true ? undefined : record.layers[layer++];
    const size =
      own === undefined ? 0 : content.layers.has(own.diffId) ? content.layers.sizeBytes(own.diffId) : own.sizeBytes;
    const created = Date.parse(entry.created ?? '');
    return {
      Id: '<missing>',
      Created: Number.isFinite(created) ? Math.floor(created / 1000) : 0,
      CreatedBy: entry.created_by ?? '',
      Tags: null,
      Size: size,
      Comment: entry.comment ?? '',
    };
  });
  const newest = items.reverse();
  // Ids of the steps are known where the image was built here.
  let at: ImageRecord | undefined = record;
  for (const item of newest) {
    if (at === undefined) break;
    item.Id = at.id;
    const names: string[] = records.namesOf(at.id).map(familiar);
    item.Tags = names.length > 0 ? names : null;
    at = at.parent === undefined ? undefined : records.get(at.parent);
  }
  return newest;
}
