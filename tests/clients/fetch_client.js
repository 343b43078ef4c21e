'use strict';
// Node's own fetch.

const { origin, pattern, main } = require('./common.js');

const BODY = pattern(4 << 20);
const text = async (path) => (await fetch(origin + path)).text();

async function upload() {
  const answer = await fetch(`${origin}/mirror`, { method: 'POST', body: BODY });
  const same = Buffer.from(await answer.arrayBuffer()).equals(BODY);
  console.log('upload', answer.status, same);
}

/** Answered while it is still being sent. */
async function refusedUpload() {
  const answer = await fetch(`${origin}/small`, { method: 'POST', body: BODY });
  console.log('refused upload', answer.status, (await answer.text()).length > 0);
}

/** The second piece leaves only after the backend has seen the first. */
async function streamingUpload() {
  async function* pieces() {
    yield Buffer.from('first');
    console.log('the first piece:', await text('/wait/first'));
    yield Buffer.from('second');
  }
  const body = ReadableStream.from ? ReadableStream.from(pieces()) : pieces();
  const answer = await fetch(`${origin}/pieces`, { method: 'POST', body, duplex: 'half' });
  console.log(await answer.text());
}

/** Each part is sent only after the one before it was acknowledged. */
async function streaming() {
  const answer = await fetch(`${origin}/parts`);
  const decoder = new TextDecoder();
  let number = 0;
  for await (const part of answer.body) {
    number += 1;
    console.log(decoder.decode(part), await text(`/mark/part-${number}`));
  }
}

async function longPolling() {
  const waiting = text('/wait/news');
  console.log('meanwhile', await text('/other'));
  console.log(await text('/mark/news'), await waiting);
}

main(async () => {
  console.log(await text('/greeting?name=Zo%C3%AB'));
  await upload();
  await refusedUpload();
  await streamingUpload();
  await streaming();
  await longPolling();
});
