/**
 * How much of the server a request takes, in seats (Kubernetes, KEP-1040, "Width of a request"): a list by the bytes
 * it will bring, a write by the watches that will be told of it, everything else one.
 */
import type { ApiRequest } from '#base/api-request.ts';
import { listedPrefixesMax } from '../limits.ts';
import type { RequestInfo } from '../request-info.ts';

export interface Work {
  /** While it is carried out. */
  seats: number;
  /** Afterwards, for `extraMs`. */
  finalSeats: number;
  extraMs: number;
}

const oneSeat: Work = { seats: 1, finalSeats: 0, extraMs: 0 };

const listSeatsMax = 100;
const mutatingSeatsMax = 10;
const bytesPerSeat = 100_000;
/** A list goes out in pieces: it never holds more than so many bytes at once. */
const listBytesMax = 1_000_000;
const watchesPerSeat = 10;
const extraMsPerEvent = 5;
const samplesMax = 32;

/** Of the objects in one directory of the store. */
interface ListSize {
  objects: number;
  bytesEach: number;
}

/** What lists brought, and where watches look: kept by what is asked for, as estimates for the next request. */
export class WorkEstimates {
  readonly #sizes = new Map<string, ListSize>();
  readonly #watches = new Map<string, number>();

  /** A list of `objects` in a directory was served; `values` are some of them. */
  noteList(info: RequestInfo, objects: number, values: readonly { value: Uint8Array }[]): void {
    const samples = values.slice(0, samplesMax);
    const bytes = samples.reduce((sum, { value }) => sum + value.length, 0);
    const key = scopeOf(info, info.namespace);
    if (this.#sizes.size >= listedPrefixesMax) this.#sizes.clear();
    this.#sizes.set(key, { objects, bytesEach: samples.length === 0 ? 0 : bytes / samples.length });
  }

  /** Answers how to end it. */
  noteWatch(info: RequestInfo): () => void {
    const key = scopeOf(info, info.namespace);
    this.#watches.set(key, (this.#watches.get(key) ?? 0) + 1);
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      const left = (this.#watches.get(key) ?? 1) - 1;
      if (left > 0) this.#watches.set(key, left);
      else this.#watches.delete(key);
    };
  }

  /** Watches that a change of the named object is told to. */
  watchesOf(info: RequestInfo): number {
    const everywhere = this.#watches.get(scopeOf(info, '')) ?? 0;
    return info.namespace === '' ? everywhere : everywhere + (this.#watches.get(scopeOf(info, info.namespace)) ?? 0);
  }

  /** `seatsMax`: what the priority level lets one request have. */
  estimate(request: ApiRequest, info: RequestInfo, seatsMax: number): Work {
    switch (info.verb) {
      case 'list':
        return this.#ofList(request, info, seatsMax);
      case 'watch':
        return sendsObjects(request) ? this.#ofList(request, info, seatsMax) : oneSeat;
      case 'create':
      case 'update':
      case 'patch':
      case 'delete':
        return this.#watches.size === 0 ? oneSeat : this.#ofWrite(info, seatsMax);
      default:
        return oneSeat;
    }
  }

  #ofList({ query }: ApiRequest, info: RequestInfo, seatsMax: number): Work {
    const size = this.#sizes.get(scopeOf(info, info.namespace));
    if (size === undefined || info.name !== '' || info.selectedName !== '') return oneSeat;
    const limit = Number(query.get('limit') ?? 0) || 0;
    const objects = limit > 0 ? Math.min(limit, size.objects) : size.objects;
    const seats = Math.ceil(Math.min(objects * size.bytesEach, listBytesMax) / bytesPerSeat);
    return { seats: Math.max(1, Math.min(seats, seatsMax, listSeatsMax)), finalSeats: 0, extraMs: 0 };
  }

  #ofWrite(info: RequestInfo, seatsMax: number): Work {
    const watches = this.watchesOf(info);
    if (watches < watchesPerSeat || info.subresource === 'token') return oneSeat;
    const seats = Math.ceil(watches / watchesPerSeat);
    const finalSeats = Math.max(1, Math.min(seats, seatsMax, mutatingSeatsMax));
    return { seats: 1, finalSeats, extraMs: (seats * extraMsPerEvent) / finalSeats };
  }
}

function scopeOf({ group, resource }: RequestInfo, namespace: string): string {
  return `${group}/${resource}/${namespace}`;
}

/** Whether a watch begins with the objects that are there. */
function sendsObjects({ query }: ApiRequest): boolean {
  const revision = query.get('resourceVersion') ?? '';
  return query.get('sendInitialEvents') === 'true' || revision === '' || revision === '0';
}
