/**
 * The process that tests of a migration kill: it moves the state of a data directory, says `moving` before and `moved`
 * after. Arguments: DATA, and the endpoint and prefix of an etcd; without them it moves to SQLite.
 */
import { writeSync } from 'node:fs';
import { moveState } from '#platform/move-state.ts';

const [data = '', endpoint, prefix = ''] = process.argv.slice(2);
const paths = { home: undefined, data, run: data };
writeSync(1, 'moving\n');
await moveState(paths, endpoint === undefined ? undefined : { endpoints: [endpoint], prefix });
writeSync(1, 'moved\n');
