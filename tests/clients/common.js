'use strict';
// What the Node clients share. Each is called `SCRIPT ORIGIN AUTHORITY …` and
// prints what it got; the tests compare that.

const { createInterface } = require('node:readline');

const [origin, authority, ...more] = process.argv.slice(2);

/** Bytes that differ at every place a mistake could shift them to. */
function pattern(length) {
  const bytes = Buffer.alloc(length);
  for (let place = 0; place < length; place += 4) bytes.writeUInt32BE(place, place);
  return bytes;
}

/** Does what each line of the standard input says, and prints a line for it. */
async function obey(orders) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [order, ...words] = line.split(' ');
    console.log(await orders[order](...words));
  }
}

/** Runs it to its end; what goes wrong is the exit code. */
function main(work) {
  work().then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { origin, authority, more, pattern, obey, main };
