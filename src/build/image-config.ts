/**
 * The image configuration that goes with layers: its history says of each whether it is there, when it was made and by
 * what. Equal layers and equal words give equal bytes, so a build that repeats gives the same image.
 *
 * Source: BuildKit's image exporter (empty layers leave the image, what has no time takes that of the layer before).
 */
import type { HistoryEntry, ImageFile } from '#content/image-file.ts';
import type { StepLayer } from './llb/output.ts';
import { layersOf } from './llb/output.ts';

function isoTime(timeMs: number | undefined): { created?: string } {
  return timeMs === undefined ? {} : { created: new Date(timeMs).toISOString() };
}

/** Entries of layers match the steps one by one: surplus ones are made empty from the start, missing ones added. */
function matchHistory(history: readonly HistoryEntry[], steps: readonly StepLayer[]): HistoryEntry[] {
  const entries = history.map((entry) => ({ ...entry }));
  let surplus = entries.filter((entry) => entry.empty_layer !== true).length - steps.length;
  for (const entry of entries) {
    if (surplus <= 0) break;
    if (entry.empty_layer === true) continue;
    entry.empty_layer = true;
    surplus--;
  }
  for (const step of steps.slice(entries.filter((entry) => entry.empty_layer !== true).length))
    entries.push({ created_by: step.about, comment: 'buildkit.exporter.image.v0' });
  return entries;
}

/** What has no time takes the first new layer's, or that of the entry before. */
function fillTimes(entries: HistoryEntry[]): HistoryEntry[] {
  let created: string | undefined;
  let isLate = false;
  for (const entry of entries) {
    if (entry.created === undefined) isLate = true;
    else {
      created = entry.created;
      if (isLate) break;
    }
  }
  isLate = false;
  return entries.map((entry) => {
    if (entry.created === undefined) {
      isLate = true;
      return created === undefined ? entry : { created, ...entry };
    }
    if (isLate) ({ created } = entry);
    return entry;
  });
}

/** `epochMs`: nothing of the image is later. */
export function finishConfig(file: ImageFile, steps: readonly StepLayer[], epochMs?: number): ImageFile {
  const clamp = <T extends { created?: string }>(dated: T): T => {
    const isLate = dated.created === undefined || Date.parse(dated.created) > (epochMs ?? Infinity);
    return epochMs === undefined || !isLate ? dated : { ...dated, ...isoTime(epochMs) };
  };
  let at = 0;
  const entries = matchHistory(file.history ?? [], steps).map((entry): HistoryEntry => {
    if (entry.empty_layer === true) return entry;
    const step = steps[at++];
    if (step === undefined) return entry;
    const time = entry.created === undefined ? isoTime(step.createdAtMs) : {};
    return { ...time, ...entry, ...(step.layer === null ? { empty_layer: true } : {}) };
  });
  const history = fillTimes(entries);
  const created = file.created ?? history.findLast((entry) => entry.created !== undefined)?.created;
  return clamp({
    ...file,
    ...(created === undefined ? {} : { created }),
    rootfs: { type: 'layers', diff_ids: layersOf(steps).map((layer) => layer.diffId) },
    history: history.map(clamp),
  });
}

/** Steps without a time of their own are as old as the build is to be. */
export function dateImage(file: ImageFile, createdAtMs: number | undefined): ImageFile {
  if (createdAtMs === undefined) return file;
  const created = new Date(createdAtMs).toISOString();
  return { ...file, created, history: file.history?.map((entry) => ({ created, ...entry })) ?? [] };
}
