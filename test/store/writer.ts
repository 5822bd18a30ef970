/**
 * The process that crash tests kill: several writers put numbered keys and their count in one transaction each and
 * print an acknowledgement, a line
 * `writer number revision`, when the store has answered. Arguments: PLACE SYNCHRONOUS.
 */
import { writeSync } from 'node:fs';
import { openPlace } from './place.ts';

const writers = 8;
const [place = '', synchronous = 'FULL'] = process.argv.slice(2);
const store = await openPlace(place, synchronous === 'OFF' ? 'OFF' : 'FULL');

async function write(writer: number): Promise<never> {
  const count = await store.get(`/count/${writer}`);
  for (let n = count === undefined ? 1 : Number(Buffer.from(count.value).toString()) + 1; ; n++) {
    const { revision } = await store.txn(
      [],
      [
        { type: 'put', key: `/w/${writer}/${n}`, value: Buffer.alloc(500 + (n % 7) * 300, n % 256) },
        { type: 'put', key: `/count/${writer}`, value: Buffer.from(String(n)) },
      ],
    );
    writeSync(1, `${writer} ${n} ${revision}\n`);
    if (writer === 0 && n % 200 === 0) await store.compact(store.currentRevision() - 50);
  }
}

await Promise.all(Array.from({ length: writers }, (_, writer) => write(writer)));
