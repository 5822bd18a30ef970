/**
 * What BuildKit's clients are told of an error beside its words: where in the Dockerfile it stands, which they print, and
 * which vertex failed.
 * Details are JSON of their messages under names of their own, as their Go programs register them.
 */
import { failedVertexOf, lineRanges, locationOf } from '../llb/location.ts';
import { messagesIn } from '#grpc/fields.ts';
import { decodeMessage, encodeMessage } from './messages.ts';
import type { Message } from '#grpc/fields.ts';

function detail(type: string, value: unknown): Message {
  return { type_url: `github.com/moby/buildkit/${type}`, value: Buffer.from(JSON.stringify(value)) };
}

/** `google.protobuf.Any` messages. */
export function detailsOf(error: unknown): Message[] {
  const digest = failedVertexOf(error);
  const vertex = digest === undefined ? [] : [detail('errdefs.Vertex+json', { digest })];
  const location = locationOf(error);
  if (location === undefined) return vertex;
  const { filename, data, language, definition } = location.text;
  const value = {
    info: { filename, data: data.toString('base64'), language, definition },
    ranges: lineRanges(location.ranges),
  };
  return [...vertex, detail('errdefs.Source+json', value)];
}

/** The trailer that carries details; none where there are none. */
export function detailsTrailer(status: number, message: string, details: readonly Message[]): Record<string, string> {
  if (details.length === 0) return {};
  const bytes = encodeMessage('google.rpc.Status', { code: status, message, details });
  return { 'grpc-status-details-bin': Buffer.from(bytes).toString('base64') };
}

/** What such a trailer carries; nothing where it is none. */
export function readDetails(trailer: string | string[] | undefined): Message[] {
  if (typeof trailer !== 'string') return [];
  try {
    return messagesIn(decodeMessage('google.rpc.Status', Buffer.from(trailer, 'base64')), 'details');
  } catch {
    // The words are enough.
    return [];
  }
}
