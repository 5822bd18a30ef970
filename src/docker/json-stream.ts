/**
 * docker's JSON progress streams: one object a line. An error before the first line is an ordinary error; one after it
 * is a line with
 * `errorDetail`, because the status is sent already.
 */
import type { ServerResponse } from 'node:http';
import { toApiError } from '#base/errors.ts';

export interface JsonStream {
  write(event: Record<string, unknown>): void;
}

export async function streamJson(response: ServerResponse, run: (stream: JsonStream) => Promise<void>): Promise<void> {
  const begin = (): void => {
    if (!response.headersSent) {
      response.writeHead(200, { 'Content-Type': 'application/json' });
      response.flushHeaders();
    }
  };
  try {
    await run({
      write: (event) => {
        if (response.destroyed) return;
        begin();
        response.write(`${JSON.stringify(event)}\r\n`);
      },
    });
    begin();
  } catch (error) {
    if (!response.headersSent) throw error;
    const { message, code } = describeError(error);
    response.write(
      `${JSON.stringify({ errorDetail: { ...(code === undefined ? {} : { code }), message }, error: message })}\r\n`,
    );
  }
  response.end();
}

function describeError(error: unknown): { message: string; code: number | undefined } {
  const { exitCode } = error as { exitCode?: number };
  return { message: toApiError(error).message, code: exitCode };
}
