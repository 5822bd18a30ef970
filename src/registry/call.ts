/** One request to the registry, and how it is answered. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import type { Identity } from './access.ts';
import type { Repositories } from './repositories.ts';

export interface Call {
  request: IncomingMessage;
  response: ServerResponse;
  url: URL;
  method: string;
  path: string;
  identity: Identity | undefined;
  content: Content;
  images: ImageRecords;
  repositories: Repositories;
  /** Set for an engine of the platform that asks on behalf of another registry's name. */
  mirrorOf: string | undefined;
  bring: ((canonicalName: string) => Promise<unknown>) | undefined;
}

export function send(
  response: ServerResponse,
  status: number,
  headers: Record<string, string | number> = {},
  body?: Uint8Array | string,
): void {
  response.writeHead(status, {
    'docker-distribution-api-version': 'registry/2.0',
    ...(body === undefined && status !== 204 && headers['content-length'] === undefined ? { 'content-length': 0 } : {}),
    ...headers,
  });
  response.end(body);
}

export function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): void {
  const body = Buffer.from(JSON.stringify(value));
  send(response, status, { 'content-type': 'application/json', 'content-length': body.length, ...headers }, body);
}
