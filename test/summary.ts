/**
 * A reporter of node:test for `tiphys test`: one line of JSON for each test that has ended, for the last lines of a run.
 * Tests that hold other tests are left out: their time is that of what they hold.
 */
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

export interface TestLine {
  file: string;
  name: string;
  ms: number;
  /** Why it did not run; '' where no reason is given. */
  skipped?: string;
}

export default async function* summarize(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  /** By file: how deep the last one that ended lay. Whatever ends right after a deeper one holds it. */
  const depths = new Map<string, number>();
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { name, nesting, file = '', details, skip } = event.data;
    const holdsOthers = (depths.get(file) ?? 0) > nesting;
    depths.set(file, nesting);
    if (holdsOthers) continue;
    const line: TestLine = { file: relative(process.cwd(), file), name, ms: details.duration_ms };
    if (skip !== undefined && skip !== false) line.skipped = skip === true ? '' : skip;
    yield `${JSON.stringify(line)}\n`;
  }
}
