/**
 * The process that tests of backups kill: it backs a data directory up, or restores into one; says `begun` before and
 * `ended` after. Arguments: `backup` or `restore`, DATA, FILE, the recipient or identity, and for a restore the port
 * of its API server; then the endpoint and prefix of an etcd where the state goes there.
 */
import { writeSync } from 'node:fs';
import { makeBackup } from '#platform/backup/backup.ts';
import { backupPlace } from '#platform/backup/places.ts';
import { restoreBackup } from '#platform/backup/restore.ts';

const [what, data = '', file = '', key = '', port = '', endpoint, prefix = ''] = process.argv.slice(2);
const paths = { home: undefined, data, run: `${data}-run` };
const place = backupPlace(file, () => {
  throw new Error('no store is asked');
});
writeSync(1, 'begun\n');
if (what === 'backup') await makeBackup(paths, place, { lock: { recipients: [key] }, images: 'own' });
else
  await restoreBackup(paths, place, {
    key: { identities: [key] },
    choices: {
      apiPort: Number(port),
      registryPort: Number(port) + 1,
      ...(endpoint === undefined ? {} : { etcd: { endpoints: [endpoint], prefix } }),
    },
  });
writeSync(1, 'ended\n');
process.exit();
