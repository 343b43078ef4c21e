'use strict';
// Chromium as a player: `sticky_browser.js ORIGIN AUTHORITY allowed|blocked`: what
// third-party cookies are. A line of the standard input is an order, below. Who
// answers says its name: in the title of its page, to a fetch, in a WebSocket.
//
// Seen with Chromium 156: where they are blocked (Debian's default, also without
// a window), a frame of another site keeps and sends a `SameSite=None; Secure`
// cookie only if it is Partitioned too, in the page, fetch and WebSocket alike.
// Nobody is told of the others. Where they are allowed, both kinds are kept.

const { launchProfile } = require('./chromium.js');
const { more, obey, main } = require('./common.js');

const PATIENCE = 20_000;
/** As the browser's settings store them. */
const MODES = { allowed: 0, blocked: 1 };

/** The game: the page itself, or what it has in a frame. */
const game = (page) => page.frames().at(-1);

/** Who answers a page's requests. */
async function asked(page) {
  return game(page).evaluate(async () => {
    const at = (path) => new URL(path, location.href);
    const names = [document.title];
    names.push(await (await fetch(at('who'))).text());
    names.push(
      await new Promise((done, failed) => {
        const socket = new WebSocket(at('socket'));
        let name;
        socket.onmessage = ({ data }) => (name = data);
        socket.onerror = () => failed(new Error('the WebSocket failed'));
        socket.onclose = () => done(name);
      }),
    );
    names.push(await (await fetch(at('who'), { method: 'POST' })).text());
    return names;
  });
}

async function open(context, url) {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(url);
  return page;
}

main(async () => {
  const context = await launchProfile({
    profile: { cookie_controls_mode: MODES[more[0]] },
  });
  const browser = context.browser();
  const pages = {};
  try {
    await obey({
      /** Opens a page that stays open. */
      async open(name, url) {
        pages[name] = await open(context, url);
        return (await asked(pages[name])).join(' ');
      },

      /** Loads it again, and what is in its frame, as F5 does; twice. */
      async again(name) {
        const names = [];
        for (let time = 0; time < 2; time += 1) {
          await pages[name].reload();
          names.push(...(await asked(pages[name])));
        }
        return names.join(' ');
      },

      /** The same in the frame alone, by its own script. */
      async inside(name) {
        const frame = game(pages[name]);
        const loaded = frame.waitForNavigation();
        await frame.evaluate(() => location.reload());
        await loaded;
        return (await asked(pages[name])).join(' ');
      },

      /** A private window, which nobody here knows. */
      async newcomer(url) {
        const fresh = await browser.newContext();
        const names = await asked(await open(fresh, url));
        await fresh.close();
        return names.join(' ');
      },

      /** The cookies that the page's own script sees. */
      cookies: (name) => game(pages[name]).evaluate(() => document.cookie),

      /** That script writes one back, with more behind its value. */
      append: (name, text) =>
        game(pages[name]).evaluate((text) => {
          document.cookie = `${document.cookie}${text}; Path=/app/; Secure; SameSite=None`;
          return document.cookie;
        }, text),
    });
  } finally {
    await browser.close();
  }
});
