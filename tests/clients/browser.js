'use strict';
// Chromium: `browser.js ORIGIN AUTHORITY CASE…`, functions below.

const { launch } = require('./chromium.js');
const { origin, more, main } = require('./common.js');

/** What each request of the page was spoken over. */
async function versions(page) {
  const answer = await page.goto(`${origin}/page`);
  const text = await page.textContent('p');
  const spoken = await page.evaluate(async () => {
    await (await fetch('/other')).text();
    while (!performance.getEntriesByName(`${location.origin}/other`).length) {
      await new Promise((next) => setTimeout(next, 10));
    }
    const kinds = ['navigation', 'resource'];
    const entries = kinds.flatMap((kind) => performance.getEntriesByType(kind));
    const ours = entries.filter((entry) => !entry.name.endsWith('/favicon.ico'));
    return ours.map((entry) => `${new URL(entry.name).pathname} ${entry.nextHopProtocol}`);
  });
  console.log(answer.status(), text, spoken.join(', '));
}

async function uploads(page) {
  const same = await page.evaluate(async () => {
    const body = new Uint32Array(1 << 20).map((_, place) => place);
    const answer = await fetch('/mirror', { method: 'POST', body });
    const back = new Uint32Array(await answer.arrayBuffer());
    return back.length === body.length && back.every((number, place) => number === place);
  });
  console.log('upload', same);
}

/** Answered while it is still being sent. */
async function refusedUpload(page) {
  const status = await page.evaluate(async () => {
    const answer = await fetch('/small', { method: 'POST', body: new Uint8Array(8 << 20) });
    return `${answer.status} ${(await answer.text()).length > 0}`;
  });
  console.log('refused upload', status);
}

/** The second piece leaves only after the backend has seen the first. */
async function streamingUpload(page) {
  const seen = await page.evaluate(async () => {
    const seen = [];
    const encoder = new TextEncoder();
    let pulled = 0;
    const body = new ReadableStream(
      {
        async pull(stream) {
          pulled += 1;
          if (pulled === 1) return stream.enqueue(encoder.encode('first'));
          seen.push(await (await fetch('/wait/first')).text());
          stream.enqueue(encoder.encode('second'));
          stream.close();
        },
      },
      { highWaterMark: 0 },
    );
    const answer = await fetch('/pieces', { method: 'POST', body, duplex: 'half' });
    seen.push(await answer.text());
    return seen;
  });
  console.log('streaming upload', seen.join(', '));
}

/** The backend sends each event after the one before it was acknowledged. */
async function events(page) {
  const seen = await page.evaluate(
    () =>
      new Promise((done, failed) => {
        const seen = [];
        const source = new EventSource('/events');
        source.onerror = () => failed(new Error(`it broke after ${seen}`));
        source.onmessage = ({ data, lastEventId }) => {
          seen.push(`${lastEventId}: ${data}`);
          if (seen.length === 3) source.close();
          fetch(`/mark/part-${seen.length}`).then(() => seen.length === 3 && done(seen), failed);
        };
      }),
  );
  console.log('events', seen.join(', '));
}

async function longPolling(page) {
  const seen = await page.evaluate(async () => {
    const text = async (path) => (await fetch(path)).text();
    const waiting = text('/wait/news');
    return [await text('/meanwhile'), await text('/mark/news'), await waiting];
  });
  console.log('long poll', seen.join(', '));
}

/** A WebSocket, and what the browser says of its handshake. */
async function websocket(page) {
  const inspector = await page.context().newCDPSession(page);
  await inspector.send('Network.enable');
  const handshake = new Promise((seen) =>
    inspector.once('Network.webSocketHandshakeResponseReceived', ({ response }) => seen(response)),
  );
  const seen = await page.evaluate(
    (url) =>
      new Promise((done, failed) => {
        const seen = [];
        const mebibyte = new Uint32Array(1 << 18).map((_, place) => place);
        const socket = new WebSocket(url, 'chat');
        socket.binaryType = 'arraybuffer';
        socket.onerror = () => failed(new Error(`it broke after ${seen}`));
        socket.onclose = ({ code, reason }) => done([...seen, `closed ${code} ${reason}`]);
        socket.onopen = () => {
          seen.push(`open ${socket.protocol} ${socket.extensions.split(';')[0]}`);
          socket.send('Grüße');
          socket.send(mebibyte);
          socket.send('close me');
        };
        socket.onmessage = ({ data }) => {
          if (typeof data === 'string') return seen.push(data);
          const back = new Uint32Array(data);
          const same = back.length === mebibyte.length && back.every((one, place) => one === place);
          seen.push(`a mebibyte ${same}`);
        };
      }),
    `${origin.replace('https', 'wss')}/ws/page`,
  );
  console.log('handshake', (await handshake).status);
  console.log(seen.join(', '));
}

/** The backend answers only when the hinted file was asked for. */
/**
 * The style is asked for before the page has answered. Chromium (156) drops a
 * 103 that comes before it reads the response's head, which a backend beside
 * it can bring about: therefore some more tries.
 */
async function earlyHints(page) {
  let answer;
  let title;
  for (let left = 5; left > 0 && title !== 'hinted'; left -= 1) {
    answer = await page.goto(`${origin}/hints`);
    title = await page.title();
  }
  console.log('hints', answer.status(), title);
}

const cases = {
  versions,
  uploads,
  refusedUpload,
  streamingUpload,
  events,
  longPolling,
  websocket,
  earlyHints,
};

main(async () => {
  const browser = await launch();
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(20_000);
    for (const name of more) await cases[name](page);
  } finally {
    await browser.close();
  }
});
