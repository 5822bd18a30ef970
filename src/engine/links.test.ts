import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerTable } from './container-table.ts';
import { findLink, linkNames } from './links.ts';

/** Containers by name, with the links of each. */
function tableOf(links: Readonly<Record<string, string[]>>): ContainerTable {
  const all = Object.entries(links).map(([name, texts]) => ({
    name,
    record: { spec: { links: texts } },
  }));
  const find = (name: string): unknown => all.find((container) => container.name === name);
  return { list: () => all, find } as unknown as ContainerTable;
}

test('a container is also called by the links to it, and a link is found by that name', () => {
  const table = tableOf({ db: [], app: ['db:/mysql', 'other'], web: ['db'], other: [] });
  const db = table.find('db');
  assert.ok(db !== undefined);
  assert.deepEqual(linkNames(table).get(db), ['/app/mysql', '/web/db']);
  assert.equal(findLink(table, 'app/mysql')?.text, 'db:/mysql');
  assert.equal(findLink(table, '/web/db')?.other.name, 'web');
  for (const none of ['app', 'app/', 'nobody/db', 'app/mysql/x', '/mysql'])
    assert.equal(findLink(table, none), undefined);
});
